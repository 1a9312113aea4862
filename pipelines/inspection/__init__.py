"""The packet table of one file, with a proof that reading by it gives the same frames as a full decode."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.inspection.packet_table import read_packet_table

__all__ = ["read_packet_table"]
__getattr__ = lazily(__name__, {"packet_table": ("read_packet_table",)})
