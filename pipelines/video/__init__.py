"""One video's bits, without a decoder: boxes, tables, packets, NAL units, and which packets a moment needs."""

from adaptfocus.pipelines.video.packets import Packets, decode_packets, encode_packets
from adaptfocus.pipelines.video.spans import find_clips, packets_of, span_of
from adaptfocus.pipelines.video.table import PacketTable

__all__ = ["PacketTable", "Packets", "decode_packets", "encode_packets", "find_clips", "packets_of", "span_of"]
