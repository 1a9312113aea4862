"""Decoding and inspecting in a process beside, which may hang or die without harm."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.apart.pool import decode_clips_apart, read_packet_table_apart

__all__ = ["decode_clips_apart", "read_packet_table_apart"]
__getattr__ = lazily(
    __name__,
    {
        "pool": (
            "decode_clips_apart",
            "read_packet_table_apart",
        )
    },
)
