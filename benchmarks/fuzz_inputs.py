"""Broken videos and tars, each a pure function of a seed and a number.

Input: real files (or small ones made here where there are none).
Does: flips bits, cuts off, overwrites, zeroes, splices, repeats, leaves out, sets sizes to absurd values: mostly in
headers, since most bytes of a video are media.
Output: Inputs of four kinds, in fixed shares.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

KINDS = ("file", "file", "file", "file", "packets", "packets", "tar", "tar", "tar", "demux")
SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".ts", ".webm")
ABSURD = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF, 0x10000)
HEADER_BYTES = 4096  # at both ends of what is no mp4
TABLES = (b"moov", b"moof", b"stbl", b"stsd", b"stsz", b"stsc", b"stts", b"ctts", b"stco", b"stss", b"elst", b"mdhd")


@dataclass(frozen=True)
class Base:
    """A whole file to break."""

    name: str  # with its suffix
    data: bytes
    headers: tuple[tuple[int, int], ...]  # (start, end) of what is no media


@dataclass(frozen=True)
class Input:
    """What is fed in. `data`: of the video, or of the tar; of "packets": what is to be done to the spans."""

    number: int
    kind: str
    base: Base
    data: bytes


def footage_folder() -> Path | None:
    """Where real files lie, as the tests find them."""
    named = os.environ.get("ADAPTFOCUS_FOOTAGE")
    places = [Path(named)] if named else [p / "shared" / "data" for p in Path(__file__).resolve().parents]
    return next((place for place in places if (place / "awkward").is_dir()), None)


def bases(folder: Path | None, max_bytes: int) -> list[Base]:
    """All real files up to a size, in a fixed order, and small ones of the containers that are not among them."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES) if folder else []
    files = {path.name: path.read_bytes() for path in found if path.stat().st_size <= max_bytes}
    for name, container, codec in (
        ("made.mp4", "mp4", "libx264"), ("made.mkv", "matroska", "libx264"), ("made.avi", "avi", "mpeg4"),
        ("made.ts", "mpegts", "libx264"), ("made.webm", "webm", "libvpx"), ("made-mpeg4.mp4", "mp4", "mpeg4"),
        ("made-hevc.mov", "mov", "libx265"),
    ):  # fmt: skip
        files[name] = _made(container, codec)
    return [Base(name, data, _headers(data)) for name, data in files.items()]


def _made(container: str, codec: str) -> bytes:
    out, random = io.BytesIO(), np.random.default_rng(0)
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"x265-params": "log-level=none:pools=none"} if codec == "libx265" else {}
        for _ in range(24):
            picture = random.integers(0, 255, (4, 6, 3), np.uint8).repeat(16, 0).repeat(16, 1)
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        muxer.mux(stream.encode(None))
    return out.getvalue()


def _headers(data: bytes) -> tuple[tuple[int, int], ...]:
    ends = (min(HEADER_BYTES, len(data)), max(0, len(data) - HEADER_BYTES))
    moov = data.find(b"moov")
    if data[4:8] == b"ftyp" and moov > 4:
        size = int.from_bytes(data[moov - 4 : moov], "big")
        return ((moov - 4, min(len(data), moov - 4 + max(size, 8))), (0, min(64, len(data))))
    return ((0, ends[0]), (ends[1], len(data)))


def made(number: int, seed: int, every: Sequence[Base]) -> Input:
    """Input `number`; the same whatever was made before it."""
    random = np.random.default_rng([seed, number])
    kind = KINDS[number % len(KINDS)]
    weights = np.array([1 / (len(base.data) + 20_000) for base in every])
    base = every[int(random.choice(len(every), p=weights / weights.sum()))]
    if kind == "tar":
        small = [each for each in every if len(each.data) < 60_000]
        base = small[int(random.integers(len(small)))]
        return Input(number, kind, base, broken_tar(base, random))
    if kind == "packets":
        return Input(number, kind, base, b"")
    return Input(number, kind, base, broken(base.data, base.headers, random, every))


def broken(
    data: bytes, headers: Sequence[tuple[int, int]], random: np.random.Generator, every: Sequence[Base] = ()
) -> bytes:
    """One to three kinds of damage."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        if len(changed) < 16:
            break
        _damage(changed, headers, random, every)
    return bytes(changed)


def _place(changed: bytearray, headers: Sequence[tuple[int, int]], random: np.random.Generator) -> int:
    """Three of four times in a header."""
    if headers and random.random() < 0.75:
        start, end = headers[int(random.integers(len(headers)))]
        if start < min(end, len(changed)):
            return int(random.integers(start, min(end, len(changed))))
    return int(random.integers(len(changed)))


def _damage(
    changed: bytearray, headers: Sequence[tuple[int, int]], random: np.random.Generator, every: Sequence[Base]
) -> None:
    at = _place(changed, headers, random)
    size = int(min(2 ** random.integers(0, 13), len(changed) - at))
    what = random.integers(9)
    if what <= 1:
        for _ in range(int(2 ** random.integers(0, 6))):
            changed[_place(changed, headers, random)] ^= 1 << int(random.integers(8))
    elif what == 2:
        del changed[at:]
    elif what == 3:
        changed[at : at + size] = bytes(size)
    elif what == 4:
        changed[at : at + size] = random.bytes(size)
    elif what == 5:  # a size, a count or an offset
        name = TABLES[int(random.integers(len(TABLES)))]
        found = changed.find(name)
        at = found - 4 + 4 * int(random.integers(0, 8)) if found > 4 and random.random() < 0.7 else at
        changed[at : at + 4] = ABSURD[int(random.integers(len(ABSURD)))].to_bytes(4, "big")
    elif what == 6 and every:  # a piece of another file
        other = every[int(random.integers(len(every)))].data
        start = int(random.integers(len(other)))
        changed[at : at + size] = other[start : start + size]
    elif what == 7:  # twice
        changed[at:at] = changed[at : at + size]
    else:
        del changed[at : at + size]


def whole_tar(members: dict[str, bytes], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def broken_tar(base: Base, random: np.random.Generator) -> bytes:
    """A tar of two samples whose headers are damaged; half of the damaged headers have a right check sum."""
    suffix = Path(base.name).suffix
    members = {f"a{suffix}": base.data, "a.json": b'{"labels": ["x"]}', f"b{suffix}": base.data, "b.cls": b"1"}
    if random.random() < 0.3:
        members = {f"{'long/' * 40}{name}": data for name, data in members.items()}  # extended headers
    tar_format = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[int(random.integers(2))]
    data = bytearray(whole_tar(members, tar_format))
    starts = [at for at in range(0, len(data) - 512, 512) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(int(random.integers(1, 4))):
        at = starts[int(random.integers(len(starts)))]
        what = random.integers(6)
        if what == 0:
            data[at + 124 : at + 136] = b"%011o\0" % int(random.integers(0, 1 << 33))
        elif what == 1:  # sizes in base 256, negative ones among them
            data[at + 124 : at + 136] = bytes([(0x80, 0xFF)[int(random.integers(2))]]) + random.bytes(11)
        elif what == 2:
            data[at + 156] = int(random.choice(list(b"01234567SLKxgDM\xff")))
        elif what == 3:
            place = at + int(random.integers(512))
            data[place : place + 8] = random.bytes(8)
        elif what == 4:
            data = bytearray(broken(bytes(data), [(start, start + 512) for start in starts], random))
        else:
            del data[int(random.integers(len(data))) :]
        if random.random() < 0.5 and at + 512 <= len(data):
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        starts = [start for start in starts if start + 512 <= len(data)]
        if not starts:
            break
    return bytes(data)
