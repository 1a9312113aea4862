"""The boxes of an mp4 or mov file, without its media.

Input: a seekable file, its size, and its first bytes if somebody has fetched them already.
Does: walks the top-level boxes to the moov, in as few requests as its place allows; lists the boxes inside a box.
Output: the moov's bytes, and Box places in them. Whatever is not plain raises NotPlainError with its reason, and costs
no more than the limits below, whatever its fields claim.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.store.range_file import RangeFile

LOOK_AHEAD_BYTES = 64 * 1024
TAIL_BYTES = 8 << 20  # a moov behind the media takes about 2 MB an hour (30 Hz and audio): one request has it whole
MAX_MOOV_BYTES = 128 << 20  # 60 hours
MAX_TOP_BOXES = 64
MAX_LOOKS = 6  # requests on the way to the moov; files of cameras and muxers need one
MAX_CHILDREN = 4096
CUT_FIX = "get the whole file; tools like untrunc save some of such a recording"

# FFmpeg recognises a file by its first box. Before a moov, a `moof` means fragments and a `meta` pictures.
_FIRST = frozenset([b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"])
_NOT_PLAIN = frozenset([b"moof", b"meta"])


class NotPlainError(Exception):
    """The headers of this file do not say enough by themselves; the message says why. Its media may be fine."""


class Box(NamedTuple):
    """A box inside another: its payload is data[start:end]."""

    kind: bytes
    start: int
    end: int


class Spans:
    """Exact ranges of one file, each a request; what has been fetched is fetched once."""

    def __init__(self, file: BinaryIO, size_bytes: int, head: bytes = b"") -> None:
        self.size_bytes = size_bytes
        self._file, self._fetch = file, _fetcher(file)
        self._kept: list[tuple[int, bytes]] = [(0, head[:size_bytes])] if head else []

    def covers(self, offset_bytes: int, size_bytes: int) -> bool:
        return self.known_end(offset_bytes) >= offset_bytes + size_bytes

    def known_end(self, offset_bytes: int) -> int:
        """Up to where the bytes from an offset on have been fetched."""
        return max([offset_bytes, *(at + len(data) for at, data in self._kept if at <= offset_bytes)])

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """These bytes; only those behind what is there already are asked for.

        Raises:
            NotPlainError: the file ends before they do.
        """
        end = offset_bytes + size_bytes
        if end > self.size_bytes:
            raise NotPlainError(f"bytes {offset_bytes} to {end} are wanted of a file of {self.size_bytes}")
        known = b""
        for at, data in self._kept:
            if at <= offset_bytes < at + len(data):
                known = max(known, data[offset_bytes - at : end - at], key=len)
        if len(known) == size_bytes:
            return known
        missing = self._fetch(offset_bytes + len(known), size_bytes - len(known))
        if len(missing) != size_bytes - len(known):
            raise NotPlainError(f"the file ends inside bytes {offset_bytes} to {end}")
        self._kept.append((offset_bytes, known + missing))
        return known + missing

    def bring(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Fetch two parts (offset and size in bytes) that will be read, at the same time where the file can."""
        missing = []
        for offset_bytes, size_bytes in (one, other):
            known_end = self.known_end(offset_bytes)
            if known_end < offset_bytes + size_bytes <= self.size_bytes:
                missing.append((offset_bytes, known_end, offset_bytes + size_bytes - known_end))
        if len(missing) == 2 and isinstance(self._file, RangeFile):
            found = self._file.read_two(*(each[1:] for each in missing))
            for (offset_bytes, known_end, _), data in zip(missing, found, strict=True):
                self._kept.append((offset_bytes, self.read(offset_bytes, known_end - offset_bytes) + data))


def _fetcher(file: BinaryIO) -> Callable[[int, int], bytes]:
    """How to read a range: past the blocks of a RangeFile, which are made for reading everything in order."""

    def from_file(offset_bytes: int, size_bytes: int) -> bytes:
        file.seek(offset_bytes)
        return file.read(size_bytes)

    return file.read_range if isinstance(file, RangeFile) else from_file


def read_moov(spans: Spans) -> bytes:
    """The payload of the moov, wherever it lies.

    Raises:
        NotPlainError: there is none, or what comes before it is no plain mp4.
        BadVideoError: cut_off.
        StorageError: the file cannot be fetched.
    """
    at, previous, looks, media = 0, b"", 0, False
    for _ in range(MAX_TOP_BOXES):
        remaining = spans.size_bytes - at
        if remaining < 8 and media:
            raise BadVideoError("cut_off", f"it was cut off: its tables (moov) are not there; {CUT_FIX}")
        if remaining < 8:
            raise NotPlainError("there is no moov in it")
        if not spans.covers(at, min(16, remaining)):
            looks += 1
            if looks > MAX_LOOKS:
                raise NotPlainError("its moov lies behind too many boxes")
            is_tail = previous == b"mdat" and remaining <= TAIL_BYTES
            spans.read(at, remaining if is_tail else min(LOOK_AHEAD_BYTES, remaining))
        header = spans.read(at, min(16, remaining))
        if at == 0 and header[4:8] not in _FIRST:
            raise NotPlainError("it does not begin as an mp4 does")
        _check_whole(header, at, spans.size_bytes)
        kind, start, end = _header(header, at, spans.size_bytes)
        media |= kind == b"mdat"
        if kind == b"moov":
            if end - start > MAX_MOOV_BYTES:
                raise NotPlainError(f"its moov takes {end - start} bytes; the limit is {MAX_MOOV_BYTES}")
            return spans.read(start, end - start)
        if kind in _NOT_PLAIN or not kind.isascii():
            raise NotPlainError(f"there is a {kind!r} before any moov")
        at, previous = end, kind
    raise NotPlainError("its moov lies behind too many boxes")


def _check_whole(header: bytes, at: int, file_bytes: int) -> None:
    """Raises BadVideoError if the file ends inside its media, which its tables would follow, or inside its tables."""
    size, kind = struct.unpack_from(">I4s", header)
    if size == 1 and len(header) == 16:
        size = struct.unpack_from(">Q", header, 8)[0]
    if kind in (b"mdat", b"moov") and at + size > file_bytes:
        where = "its media, and the tables (moov) would follow" if kind == b"mdat" else "its tables (moov)"
        raise BadVideoError("cut_off", f"it was cut off: the file ends inside {where}; {CUT_FIX}")


def children(data: bytes, start: int, end: int) -> list[Box]:
    """The boxes in data[start:end], in their order.

    Raises:
        NotPlainError: a box is smaller than its header or larger than its place, or there are too many.
    """
    found: list[Box] = []
    while end - start >= 8:
        box = _header(data[start : min(start + 16, end)], start, end)
        if len(found) >= MAX_CHILDREN:
            raise NotPlainError(f"more than {MAX_CHILDREN} boxes in one")
        found.append(box)
        start = box.end
    return found


def only(boxes: list[Box], kind: bytes) -> Box | None:
    """The one box of that kind, None if there is none. Raises NotPlainError if there are several."""
    matching = [box for box in boxes if box.kind == kind]
    if len(matching) > 1:
        raise NotPlainError(f"there are {len(matching)} {kind!r} boxes where one belongs")
    return matching[0] if matching else None


def require_box(boxes: list[Box], kind: bytes, payload_bytes: int) -> Box:
    """The one box of that kind, which has to hold `payload_bytes` at least."""
    box = only(boxes, kind)
    if box is None:
        raise NotPlainError(f"there is no {kind!r}")
    if box.end - box.start < payload_bytes:
        raise NotPlainError(f"its {kind!r} is cut off")
    return box


def _header(data: bytes, at: int, end: int) -> Box:
    """A box at `at`, of which `data` is the start, in a place that ends at `end`."""
    size, kind = struct.unpack_from(">I4s", data)
    start = at + 8
    if size == 1:
        if len(data) < 16:
            raise NotPlainError(f"a 64-bit {kind!r} is cut off")
        size, start = struct.unpack_from(">Q", data, 8)[0], at + 16
    elif size == 0:
        size = end - at
    if not start <= at + size <= end:
        raise NotPlainError(f"a {kind!r} of {size} bytes at byte {at} does not fit into its place, which ends at {end}")
    return Box(kind, start, at + size)
