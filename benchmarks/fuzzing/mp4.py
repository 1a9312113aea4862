"""Writes odd but consistent mp4 files: whatever the tables say, the bytes that they name exist.

Packets are laid out in chunks (runs of packets that the tables place together) in some order, and the tables are
written for them, with or without an edit list. Boxes of existing files can be moved and copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from benchmarks.fuzzing.base import Base
from benchmarks.fuzzing.stream import Stream

MOVIE_TICKS = 1000
CHUNK_SAMPLES = 3
_FTYP = b"isom\0\0\2\0isomiso2mp41"
_HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex", b"dinf")


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def _full(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *parts)


def _u32(*values: int) -> bytes:
    return b"".join((int(value) & 0xFFFFFFFF).to_bytes(4, "big") for value in values)


@lru_cache(maxsize=256)
def sample_description(base: Base) -> bytes | None:
    """The first entry of the video's stsd; None if it cannot be found in a simple way."""
    at = base.data.find(b"vmhd")
    at = base.data.find(b"stsd", at) if at >= 0 else -1
    if at < 0:
        return None
    size = int.from_bytes(base.data[at + 12 : at + 16], "big")
    return base.data[at + 12 : at + 12 + size]


@dataclass(frozen=True)
class _Drawn:
    """The random choices for the tables, in addition to the packets."""

    order: str  # of the chunks: "in order", "drawn", "reversed", "shared"
    tables_first: bool
    filler_bytes: int  # after each chunk
    edits: str
    has_sync_table: bool
    wide_offsets: bool
    second_description_from: int | None  # chunk
    two_tracks: bool


def mp4_of(stream: Stream, descriptions: Sequence[bytes], random: np.random.Generator) -> bytes:
    """An mp4 with one video. `descriptions`: its own, then those of other encoders."""

    def one_of(*choices: Any) -> Any:
        return choices[int(random.integers(len(choices)))]

    chunks = [
        range(i, min(i + CHUNK_SAMPLES, len(stream.samples))) for i in range(0, len(stream.samples), CHUNK_SAMPLES)
    ]
    drawn = _Drawn(
        one_of("in order", "in order", "drawn", "reversed", "shared"), one_of(True, False), one_of(0, 0, 7, 5000),
        one_of("none", "none", "start", "gap", "part", "two", "again", "fast", "long"), one_of(True, True, True, False),
        one_of(True, False, False), int(random.integers(len(chunks))) if random.random() < 0.15 else None,
        bool(random.random() < 0.1),
    )  # fmt: skip
    if len(descriptions) > 1:
        descriptions = [descriptions[0], descriptions[1 + int(random.integers(len(descriptions) - 1))]]
    places = list(range(len(chunks)))
    if drawn.order == "drawn":
        places = random.permutation(len(chunks)).tolist()
    elif drawn.order == "reversed":
        places.reverse()
    media = [b"".join(stream.samples[i].data for i in chunks[place]) + bytes(drawn.filler_bytes) for place in places]
    starts = dict(zip(places, accumulate(map(len, media), initial=0), strict=False))
    offsets = [starts[number] for number in range(len(chunks))]
    if drawn.order == "shared" and len(chunks) > 1:  # one chunk is used twice
        offsets[int(random.integers(1, len(chunks)))] = offsets[0]
    ftyp, mdat = box(b"ftyp", _FTYP), box(b"mdat", *media)
    before = len(ftyp) + 8 + (len(_moov(stream, descriptions, chunks, offsets, drawn)) if drawn.tables_first else 0)
    moov = _moov(stream, descriptions, chunks, [before + offset for offset in offsets], drawn)
    return ftyp + moov + mdat if drawn.tables_first else ftyp + mdat + moov


def _moov(
    stream: Stream, descriptions: Sequence[bytes], chunks: Sequence[range], offsets: Sequence[int], drawn: _Drawn
) -> bytes:
    samples = stream.samples
    steps = [b.dts - a.dts for a, b in pairwise(samples)] + [samples[-1].duration]
    total = max(1, sum(max(step, 0) for step in steps))
    seconds = _u32(MOVIE_TICKS, min(total * MOVIE_TICKS // stream.ticks_a_second, 0x7FFFFFFF))
    matrix = _u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    second = drawn.second_description_from if len(descriptions) > 1 else None
    groups = [
        (number + 1, len(chunk), 1 + (second is not None and number >= second)) for number, chunk in enumerate(chunks)
    ]
    used = descriptions[: 1 + (second is not None)]
    stbl = [
        _full(b"stsd", 0, _u32(len(used)), *used),
        _full(b"stts", 0, _u32(len(steps)), *(_u32(1, step) for step in steps)),
        _full(b"ctts", 1, _u32(len(samples)), *(_u32(1, s.pts - s.dts) for s in samples)),
        _full(b"stsz", 0, _u32(0, len(samples), *(len(s.data) for s in samples))),
        _full(b"stsc", 0, _u32(len(groups)), *(_u32(*group) for group in groups)),
        _full(b"co64", 0, _u32(len(offsets)), *(int(o).to_bytes(8, "big") for o in offsets))
        if drawn.wide_offsets
        else _full(b"stco", 0, _u32(len(offsets), *offsets)),
    ]
    keys = [number for number, s in enumerate(samples, start=1) if s.is_key]
    if drawn.has_sync_table:
        stbl.append(_full(b"stss", 0, _u32(len(keys), *keys)))
    minf = box(
        b"minf", _full(b"vmhd", 0, bytes(8)),
        box(b"dinf", _full(b"dref", 0, _u32(1), box(b"url ", b"\0\0\0\1"))), box(b"stbl", *stbl),
    )  # fmt: skip
    mdhd = _full(b"mdhd", 0, _u32(0, 0, stream.ticks_a_second, total), b"\x55\xc4\0\0")
    hdlr = _full(b"hdlr", 0, _u32(0), b"vide", bytes(12), b"v\0")
    size = _u32(stream.width << 16, stream.height << 16)
    edits = _edit_list(stream, total, drawn.edits)
    tracks = [
        box(
            b"trak", b"\0\0\0\x5ctkhd\0\0\0\3", _u32(0, 0, number, 0), seconds[4:], bytes(16), matrix, size, edits,
            box(b"mdia", mdhd, hdlr, minf),
        )
        for number in (1, 2)[: 1 + drawn.two_tracks]
    ]  # fmt: skip
    mvhd = _full(b"mvhd", 0, bytes(8), seconds, _u32(0x10000), b"\1\0", bytes(10), matrix, bytes(24), _u32(3))
    return box(b"moov", mvhd, *tracks)


def _edit_list(stream: Stream, total: int, what: str) -> bytes:
    """(duration in the movie's ticks, start in the stream's, rate) of each edit."""
    ticks, first = MOVIE_TICKS, stream.samples[0].pts - stream.samples[0].dts
    whole, third = total * ticks // stream.ticks_a_second, total // 3
    part = third * ticks // stream.ticks_a_second
    one = 0x10000
    edits = {
        "start": [(whole, first, one)],
        "gap": [(500, -1, one), (whole, first, one)],
        "part": [(part, first + third, one)],
        "two": [(part, first, one), (part, first + 2 * third, one)],
        "again": [(part, first, one), (part, first, one)],
        "fast": [(whole // 2, first, 2 * one)],
        "long": [(whole * 3, first, one)],
    }.get(what)
    if edits is None:
        return b""
    return box(b"edts", _full(b"elst", 0, _u32(len(edits)), *(_u32(*edit) for edit in edits)))


# Boxes of an existing file.


def boxes_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, body) of successive boxes; bytes at the end that are not a box become one without a kind."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > len(data):
            break
        found.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
        at += size
    return [*found, (b"", data[at:])] if at < len(data) else found


def with_moved_boxes(data: bytes, random: np.random.Generator) -> bytes:
    """Remove, repeat, exchange, rename, shorten or nest boxes somewhere in the tree."""
    boxes = boxes_of(data)
    inside = [number for number, (kind, _) in enumerate(boxes) if kind in _HOLDERS]
    if inside and random.random() < 0.8:
        number = inside[int(random.integers(len(inside)))]
        boxes[number] = (boxes[number][0], with_moved_boxes(boxes[number][1], random))
        return _joined(boxes)
    if not boxes:
        return data
    number, other = (int(random.integers(len(boxes))) for _ in range(2))
    what = random.integers(6)
    if what == 0:
        del boxes[number]
    elif what == 1:
        boxes.insert(other, boxes[number])
    elif what == 2:
        boxes[number], boxes[other] = boxes[other], boxes[number]
    elif what == 3:
        boxes[number] = ((b"free", b"skip", b"wide", b"uuid")[int(random.integers(4))], boxes[number][1])
    elif what == 4:
        boxes[number] = (boxes[number][0], boxes[number][1][: int(random.integers(len(boxes[number][1]) + 1))])
    else:
        boxes[number] = (boxes[other][0], boxes[number][1] + box(*boxes[other]))
    return _joined(boxes)


def _joined(boxes: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(box(kind, body) if kind else body for kind, body in boxes)


def cut_at_a_box(data: bytes, random: np.random.Generator) -> bytes:
    """The file up to the end of a box of the top level, or some bytes into the next."""
    ends = list(accumulate(8 + len(body) for _, body in boxes_of(data)))
    at = ends[int(random.integers(len(ends)))] if ends else len(data)
    return data[: at + int(random.choice([0, 0, 4, 8, 100]))]
