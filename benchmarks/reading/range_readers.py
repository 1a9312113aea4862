"""Ways to read a video's clips out of a tar, for the bytes and requests that they take.

A row of a plan names a member of a tar and the wanted frames. Each reader opens its kind of file once for all clips of
the video, and reads what a demuxer asks for. Nothing is decoded, and the store counts.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import av

from adaptfocus.pipelines import store

READ_AHEAD_BYTES = 1 << 20
BUFFER_BYTES = 512 * 1024


class _Member(io.RawIOBase):
    """A part of an open file, as a file."""

    def __init__(self, file: Any, offset_bytes: int, size_bytes: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset_bytes, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._offset + self._at)
        data = self._file.read(min(len(buffer), max(0, self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def whole_member(bag: dict) -> None:
    """The whole member, once for all its clips."""
    store.read_ranges([bag["shard_url"]], [bag["member_offset_bytes"]], [bag["member_size_bytes"]])


def s3fs_file(bag: dict) -> None:
    """s3fs with its defaults: blocks of 50 MB, read ahead."""
    _demux(bag, lambda path: store.filesystem(bag["shard_url"])[0].open(path, "rb"))


def s3fs_readahead_1mb(bag: dict) -> None:
    """s3fs with a read-ahead of 1 MB."""
    fs = store.filesystem(bag["shard_url"])[0]
    _demux(bag, lambda path: fs.open(path, "rb", block_size=READ_AHEAD_BYTES, cache_type="readahead"))


def pyarrow_file(bag: dict) -> None:
    """pyarrow's S3 file behind a buffer of 512 KB."""
    from pyarrow.fs import S3FileSystem

    endpoint = os.environ["AWS_ENDPOINT_URL"].split("://")
    fs = S3FileSystem(endpoint_override=endpoint[1], scheme=endpoint[0])
    _demux(bag, fs.open_input_file, BUFFER_BYTES)


# "webdataset_stream" is not among them, because it reads whole tars whatever is wanted.
READERS: dict[str, Callable[[dict], None]] = {
    made.__name__: made for made in (whole_member, s3fs_file, s3fs_readahead_1mb, pyarrow_file)
}


def _demux(bag: dict, opened: Callable[[str], Any], buffer_bytes: int = io.DEFAULT_BUFFER_SIZE) -> None:
    """Read the packets of each clip: seek to its first frame, then demux until the last packet needed."""
    path = bag["shard_url"].split("://", 1)[1]
    with opened(path) as file:
        member = io.BufferedReader(_Member(file, bag["member_offset_bytes"], bag["member_size_bytes"]), buffer_bytes)
        with av.open(member, "r") as container:
            stream = container.streams.video[0]
            for clip in bag["clips"]:
                missing = set(clip["frame_pts"])
                container.seek(min(missing), stream=stream, backward=True)
                for packet in container.demux(stream):
                    missing.discard(packet.pts)
                    if not missing:
                        break
