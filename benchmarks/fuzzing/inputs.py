"""Broken videos, tars and lists, each a pure function of a seed and a number.

They are made from real files, or from small ones made here where there are none. Bits are flipped, and bytes are cut
off, overwritten, zeroed, spliced, repeated and left out. Sizes get absurd values. This mostly happens in headers, since
most bytes of a video are media. Packets and tables are edited (packets.py), boxes moved (mp4.py), tars put together
(tars.py) and annotations broken (annotations.py). There are seven kinds of inputs, in fixed shares.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.fuzzing.annotations import spoilt
from benchmarks.fuzzing.base import MADE, Base
from benchmarks.fuzzing.mp4 import cut_at_a_box, with_moved_boxes
from benchmarks.fuzzing.packets import edited
from benchmarks.fuzzing.tars import odd_tar

# The kinds of 20 inputs: some have damaged bytes, the others are put together wrongly.
KINDS = (
    *("file", "structure") * 4, *("packets",) * 2, *("tar", "tars") * 2, "demux", "structure",
    *("annotations",) * 4,
)  # fmt: skip
ABSURD = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF, 0x10000)
SMALL_BYTES = 60_000
MADE_HERE = len(MADE)  # these come last among all files
TABLES = (b"moov", b"moof", b"stbl", b"stsd", b"stsz", b"stsc", b"stts", b"ctts", b"stco", b"stss", b"elst", b"mdhd")


@dataclass(frozen=True)
class Input:
    """An input. `data`: bytes of the video or the tar; for "packets", what to do to the spans (runs of packets)."""

    number: int
    kind: str
    base: Base
    data: bytes
    suffix: str = ""  # of the video
    files: Mapping[str, bytes] = field(default_factory=dict)  # of annotations
    what: str = ""  # kind of annotations

    @property
    def saved_as(self) -> dict[str, bytes]:
        """Name and bytes of each file, for people who look at the input."""
        if self.files:
            return {f"{self.number:06d}-{self.what}/{name}": data for name, data in self.files.items()}
        suffix = self.suffix or (".tar" if self.kind in ("tar", "tars") else self.base.suffix)
        return {f"{self.number:06d}-{self.kind}-{Path(self.base.name).stem}{suffix}": self.data}


def made(number: int, seed: int, every: Sequence[Base]) -> Input:
    """Make input `number`; it does not depend on what was made before."""
    random = np.random.default_rng([seed, number])
    kind = KINDS[number % len(KINDS)]
    weights = np.array([1 / (len(base.data) + 20_000) for base in every])
    base = every[int(random.choice(len(every), p=weights / weights.sum()))]
    small = [each for each in every if len(each.data) < SMALL_BYTES]
    if kind in ("tar", "structure"):
        few = small[-MADE_HERE:] if random.random() < 0.5 else small
        base = few[int(random.integers(len(few)))]
    if kind == "annotations":
        what, files = spoilt(random)
        return Input(number, kind, base, b"", files=files, what=what)
    if kind == "structure":
        data, suffix = _put_together(base, small, random)
        return Input(number, kind, base, data, suffix)
    if kind == "packets":
        return Input(number, kind, base, b"")
    if kind == "tar":
        return Input(number, kind, base, broken_tar(base, random))
    if kind == "tars":
        return Input(number, kind, base, odd_tar(small, random))
    return Input(number, kind, base, broken(base.data, base.headers, random, every), base.suffix)


def _put_together(base: Base, small: Sequence[Base], random: np.random.Generator) -> tuple[bytes, str]:
    """A video whose parts are intact: packets edited, boxes moved, files joined or cut between their parts."""
    what, is_mp4 = random.random(), base.data[4:8] == b"ftyp"
    if is_mp4 and what < 0.15:
        return with_moved_boxes(base.data, random), base.suffix
    if is_mp4 and what < 0.2:
        return cut_at_a_box(base.data, random), base.suffix
    if what < 0.3:  # one file after the other, of the same kind or not
        alike = [each for each in small if each.suffix == base.suffix] if random.random() < 0.7 else list(small)
        return base.data + alike[int(random.integers(len(alike)))].data, base.suffix
    if what < 0.33:  # named as another kind
        return base.data, small[int(random.integers(len(small)))].suffix
    return edited(base, small, random)


def broken(
    data: bytes, headers: Sequence[tuple[int, int]], random: np.random.Generator, every: Sequence[Base] = ()
) -> bytes:
    """Apply one to three kinds of damage."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        if len(changed) < 16:
            break
        _damage(changed, headers, random, every)
    return bytes(changed)


def _place(changed: bytearray, headers: Sequence[tuple[int, int]], random: np.random.Generator) -> int:
    """A place to damage; three of four are in a header."""
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
    """A tar of two samples with damaged headers; half of the damaged headers have a correct checksum."""
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
        elif what == 1:  # sizes in base 256, some of them negative
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
