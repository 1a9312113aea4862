"""Whether a file ends before its container says that it does.

The sizes in boxes, elements, chunks and tags near the file's start and end are compared with the file's size. The
result says how the cut shows, or is None: the file is complete, or its format does not tell.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

MAX_STEPS = 64  # limit of boxes, chunks or elements checked in a row
TAIL_BYTES = 1 << 20  # the end of the file in which the last fragment's header is searched
TS_PACKET_BYTES = (188, 192, 204)

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_FLV_TAGS = (8, 9, 18)
_BOXES = frozenset(
    [b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"emsg", b"prft", b"mfra", b"free", b"skip",
     b"wide", b"uuid", b"meta", b"udta", b"pnot", b"pdin"]
)  # fmt: skip


def seen_cut(format_name: str, file: BinaryIO, size_bytes: int, last_packet_end: int | None) -> str | None:
    """How the cut of a file shows; None if it shows no cut.

    Args:
        last_packet_end: offset of the first byte after the last packet, if known.

    Raises:
        StorageError: the file cannot be fetched.
    """
    at = _File(file, size_bytes)
    if format_name.startswith("mov,"):
        return _boxes(at)
    if format_name.startswith("matroska"):
        return _elements(at, last_packet_end)
    if format_name == "avi":
        return _chunks(at)
    if format_name == "flv":
        return _tags(at)
    if format_name == "mpegts":
        return _ts_packets(at)
    return None


class _File:
    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self.file, self.size_bytes = file, size_bytes

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.file.seek(offset_bytes)
        return self.file.read(max(0, min(size_bytes, self.size_bytes - offset_bytes)))


def _boxes(file: _File) -> str | None:
    """The mp4 family: check boxes from the start, or from the last fragment if there are many."""
    found, is_end = _follow_boxes(file, 0)
    if is_end:
        return found
    start = max(0, file.size_bytes - TAIL_BYTES)
    last = file.read(start, TAIL_BYTES).rfind(b"moof")
    return _follow_boxes(file, start + last - 4)[0] if last >= 4 else None


def _follow_boxes(file: _File, at: int) -> tuple[str | None, bool]:
    """(how a box ends after the file's end, or None; whether the file's end was reached)."""
    for _ in range(MAX_STEPS):
        header = file.read(at, 16)
        if not header:
            return None, True
        if len(header) < 8:
            return "its last box is cut off", True
        size, kind = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == 16:
            size = struct.unpack_from(">Q", header, 8)[0]
        if size == 0:  # the box goes to the end of the file
            return None, True
        if size < 8 or kind not in _BOXES:
            return None, True  # not a box: padding, or data that another program appended
        if at + size > file.size_bytes:
            name = kind.decode("ascii", "replace")
            return f"its last box ({name}) ends {at + size - file.size_bytes:,} bytes after the file does", True
        at += size
    return None, False


def _elements(file: _File, last_packet_end: int | None) -> str | None:
    """Matroska and WebM: check the segment, or what follows the last packet if the segment's size was never written."""
    at = 0
    for _ in range(2):  # the header, then the segment
        element = _element(file, at)
        if element is None:
            return None
        name, size, start = element
        if size is None:
            break
        if start + size > file.size_bytes:
            return f"its segment ends {start + size - file.size_bytes:,} bytes after the file does"
        at = start + size
        if name == _SEGMENT:
            return None
    at = last_packet_end or file.size_bytes
    for _ in range(MAX_STEPS):
        if at >= file.size_bytes:
            return None
        element = _element(file, at)
        if element is None:
            return "its last element is cut off"
        _, size, start = element
        if size is not None and start + size > file.size_bytes:
            return f"its last element ends {start + size - file.size_bytes:,} bytes after the file does"
        at = start + (size or 0)  # a cluster without a size is entered
    return None


def _element(file: _File, at: int) -> tuple[int, int | None, int] | None:
    """(id, size or None if unknown, offset of its content); None if the file ends before that."""
    data = file.read(at, 12)
    numbers = []
    place = 0
    for keeps_mark in (True, False):
        if place >= len(data) or not data[place]:
            return None
        length = 9 - data[place].bit_length()
        if place + length > len(data):
            return None
        value = int.from_bytes(data[place : place + length], "big")
        is_unknown = not keeps_mark and value == (1 << 7 * length + 1) - 1
        numbers.append(None if is_unknown else value if keeps_mark else value & ((1 << 7 * length) - 1))
        place += length
    name, size = numbers
    assert name is not None
    return name, size, at + place


def _chunks(file: _File) -> str | None:
    """AVI: check consecutive RIFF chunks."""
    at = 0
    for _ in range(MAX_STEPS):
        header = file.read(at, 8)
        if len(header) < 8 or header[:4] != b"RIFF":
            return None
        end = at + 8 + struct.unpack_from("<I", header, 4)[0]
        if end > file.size_bytes:
            return f"its last chunk ends {end - file.size_bytes:,} bytes after the file does"
        at = end + end % 2
    return None


def _tags(file: _File) -> str | None:
    """FLV: the last four bytes give the length of the tag before them."""
    tail = file.read(file.size_bytes - 4, 4)
    size = int.from_bytes(tail, "big")
    tag = file.read(file.size_bytes - 4 - size, 4) if 11 <= size <= file.size_bytes - 13 else b""
    is_tag = len(tag) == 4 and tag[0] in _FLV_TAGS and int.from_bytes(tag[1:], "big") + 11 == size
    return None if is_tag else "its last tag is cut off"


def _ts_packets(file: _File) -> str | None:
    """Transport streams: all packets have one size and begin with the same byte."""
    head = file.read(0, 5 * max(TS_PACKET_BYTES))
    for size in TS_PACKET_BYTES:
        first = 4 if size == 192 else 0
        if head[first::size][:5] == b"G" * 5:
            return "its last transport packet is cut off" if file.size_bytes % size else None
    return None
