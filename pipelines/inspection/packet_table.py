"""One video's packets: where each lies, when it is shown, and how to decode them without the container.

Input: a seekable file of one video (a member of a tar read through a RangeFile).
Does: reads the headers and the first keyframe of an mp4 where these suffice, else demuxes the whole file once.
Output: PacketTable; BadVideoError with a stable kind for every video that cannot be used.
"""

from __future__ import annotations

from typing import BinaryIO

from adaptfocus.pipelines.inspection.demux import demux_packet_table, main_video_stream
from adaptfocus.pipelines.inspection.mp4_table import read_mp4_table
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError, Spans
from adaptfocus.pipelines.video.table import PacketTable

__all__ = ["PacketTable", "main_video_stream", "read_packet_table"]


def read_packet_table(file: BinaryIO, size_bytes: int, head: bytes = b"") -> PacketTable:
    """The table of one video of `size_bytes`, with as little of it read as can tell.

    Args:
        head: the file's first bytes, as many as there are at hand: they save a request.

    Raises:
        BadVideoError: unreadable_video, no_video_stream, no_packets, encrypted, absurd_size, too_many_packets,
            unreliable_timestamps, cut_off, changing_pixel_aspect.
        StorageError: the bytes cannot be fetched; that says nothing about the video.
    """
    try:
        return read_mp4_table(Spans(file, size_bytes, head))
    except NotPlainError:
        return demux_packet_table(file, size_bytes)
