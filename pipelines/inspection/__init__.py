"""One file -> the table of its packets, with the proof that reading by it gives the frames a decoder gives."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.inspection.packet_table import read_packet_table

__all__ = ["read_packet_table"]
__getattr__ = lazily(__name__, {"packet_table": ("read_packet_table",)})
