"""A video's packets as one small blob of the index, or those of a span as one of a plan, and back.

A packet has its place, its times, and whether it is a sync sample; packets are in decoding order. The blob stores
differences that repeat (gaps between packets, second differences of decoding times, composition offsets). Each column
is split into planes of bytes of one significance and compressed with zstd. An hour of video at 30 Hz takes 150 to 370
KB, of which the sizes are 140 to 220, and the gaps that interleaved audio leaves up to 175 (docs/performance.md).

A planner keeps the blobs in memory and opens one at a time. 10,000 videos of ten minutes take 0.5 GB as blobs, and 6 GB
as arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from adaptfocus.pipelines.errors import InputError

VERSION = 1
# Version, number of packets, bytes of the columns before compression.
_HEAD = struct.Struct("<BQQ")
_COLUMNS = 5


@cache
def _zstd() -> Any:
    import pyarrow as pa  # a process that only decodes frames has no blobs, and must not wait for this

    # Level 12 takes thirteen times as long (5 ms for ten minutes of video) and saves 1 to 5 %.
    return pa.Codec("zstd", compression_level=3)


@dataclass(frozen=True)
class Packets:
    """The packets of one stream in decoding order; arrays are [packets]."""

    offset_bytes: np.ndarray  # int64, from the member's first byte; -1 if the container does not tell
    size_bytes: np.ndarray  # int64
    pts: np.ndarray  # int64, in the stream's time base
    dts: np.ndarray  # int64
    is_key: np.ndarray  # bool

    def __len__(self) -> int:
        return len(self.pts)


def encode_packets(packets: Packets) -> bytes:
    """Lossless: `decode_packets` gives the same arrays."""
    offset, size = packets.offset_bytes.astype(np.int64), packets.size_bytes.astype(np.int64)
    dts = packets.dts.astype(np.int64)
    columns = (
        size,
        np.diff(offset, prepend=0) - np.concatenate([[0], size[:-1]])[: len(size)],  # the gap before each packet
        np.diff(dts, n=2, prepend=[0, 0]),
        packets.pts.astype(np.int64) - dts,
        packets.is_key.astype(np.int64),
    )
    raw = b"".join(_planes(column) for column in columns)
    return _HEAD.pack(VERSION, len(size), len(raw)) + bytes(_zstd().compress(raw, asbytes=True))


def decode_packets(blob: bytes) -> Packets:
    """The inverse of `encode_packets`.

    Raises:
        InputError: the blob is damaged or of a newer version.
    """
    try:
        version, count, raw_bytes = _HEAD.unpack_from(blob)
        if version != VERSION:
            raise InputError(f"packets have version {version}, not {VERSION}; index again, or update adaptfocus")
        raw = memoryview(_zstd().decompress(blob[_HEAD.size :], raw_bytes, asbytes=True))
        columns, at = [], 0
        for _ in range(_COLUMNS):
            column, at = _column(raw, at, count)
            columns.append(column)
    except (struct.error, OSError, ValueError, IndexError) as error:
        raise InputError(
            f"the packets of a video in an index or a plan are damaged ({error}); index again, or remove the plan"
        ) from None
    size, hole, dts_steps, composition, key = columns
    dts = np.cumsum(np.cumsum(dts_steps))
    offset = np.cumsum(hole) + np.concatenate([[0], np.cumsum(size)[:-1]])[: len(size)]
    return Packets(offset, size, dts + composition, dts, key.astype(bool))


def packet_count(blob: bytes) -> int:
    """How many packets a blob has, without opening it; -1 if it is too short to be one."""
    return _HEAD.unpack_from(blob)[1] if len(blob) >= _HEAD.size else -1


def join_packets(parts: Sequence[Packets], starts_bytes: Sequence[int]) -> Packets:
    """The packets of some parts as one; the offsets of each part count from its start."""
    moved = [
        replace(part, offset_bytes=part.offset_bytes + start) for part, start in zip(parts, starts_bytes, strict=True)
    ]
    columns = ("offset_bytes", "size_bytes", "pts", "dts", "is_key")
    return Packets(*(np.concatenate([getattr(part, name) for part in moved]) for name in columns))


def _planes(values: np.ndarray) -> bytes:
    """A column as its width in bytes and one plane for each byte: high bytes repeat, low ones do not."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    width = next(w for w in (1, 2, 4, 8) if -(1 << 8 * w - 1) <= low and high < 1 << 8 * w - 1)
    narrow = values.astype(f"<i{width}")
    return bytes([width]) + narrow.view(np.uint8).reshape(len(values), width).T.tobytes()


def _column(raw: memoryview, at: int, count: int) -> tuple[np.ndarray, int]:
    width = raw[at]
    if width not in (1, 2, 4, 8):
        raise ValueError(f"a column of {width} bytes")
    end = at + 1 + width * count
    planes = np.frombuffer(raw[at + 1 : end], np.uint8).reshape(width, count)
    # From the top byte, which has the sign, downwards: this takes half the time of a transposed copy.
    values = planes[-1].view(np.int8).astype(np.int64)
    for plane in planes[-2::-1]:
        values = values << 8 | plane
    return values, end
