"""The packets of one video: where each lies, when it is shown, and how to decode it without the container.

For an mp4, the headers and the first keyframe are read if they are enough. Otherwise the whole file is demuxed once. A
video that cannot be used raises BadVideoError with a stable kind.
"""

from __future__ import annotations

from typing import BinaryIO

from adaptfocus.pipelines.inspection.demux import demux_packet_table, main_video_stream
from adaptfocus.pipelines.inspection.mp4_table import read_mp4_table
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError, Spans
from adaptfocus.pipelines.video.table import PacketTable

__all__ = ["PacketTable", "main_video_stream", "read_packet_table"]


def read_packet_table(file: BinaryIO, size_bytes: int, head: bytes = b"") -> PacketTable:
    """The table of one video of `size_bytes`, from as few of its bytes as possible.

    Args:
        head: the file's first bytes, as many as are at hand; they save a request.

    Raises:
        BadVideoError: unreadable_video, no_video_stream, no_packets, encrypted, absurd_size, too_many_packets,
            unreliable_timestamps, cut_off, changing_pixel_aspect.
        StorageError: the bytes cannot be fetched; the video is not to blame.
    """
    try:
        return read_mp4_table(Spans(file, size_bytes, head))
    except NotPlainError:
        return demux_packet_table(file, size_bytes)
