"""The bits of one video, without a decoder: boxes, tables, packets, NAL units, and which packets a moment needs."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.video.packets import Packets, decode_packets, encode_packets
    from adaptfocus.pipelines.video.spans import find_clips, packets_of, span_of
    from adaptfocus.pipelines.video.table import PacketTable

__all__ = ["PacketTable", "Packets", "decode_packets", "encode_packets", "find_clips", "packets_of", "span_of"]
__getattr__ = lazily(
    __name__,
    {
        "packets": (
            "Packets",
            "decode_packets",
            "encode_packets",
        ),
        "spans": (
            "find_clips",
            "packets_of",
            "span_of",
        ),
        "table": ("PacketTable",),
    },
)
