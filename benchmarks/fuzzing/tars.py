"""Tars whose members are intact, but whose order, names and neighbours are unexpected.

They are laid out as people's tools do it, and as these do it when something goes wrong.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence

import numpy as np

from benchmarks.fuzzing.base import Base

Member = tuple[str, bytes]
BLOCK = 512
JSONS: tuple[object, ...] = (
    {"labels": ["w"]}, {"labels": []}, {"labels": "w; x"}, {"labels": [0, 1]}, {"labels": [7]}, {"labels": [True]}, {},
    [], None, "w", 3, {"labels": ["w"], "intervals": [["w", 0, 1]]}, {"labels": ["w"], "intervals": [["w", 5, 1]]},
    {"intervals": [["w", 0, 1e400]]}, {"intervals": [["w", 0, 10**400]]}, {"intervals": [[None, 0, 1]]},
    {"intervals": {"w": [0, 1]}}, {"labels": ["\ud800"]}, {"labels": ["e\u0301"]}, {"labels": ["w\nx"]},
    {"labels": ["\0"]}, {"intervals": [["w", float("nan"), 1]]}, {"labels": {"w": 1}}, {"label": "w"},
    {"labels": ["w"] * 1000},
)  # fmt: skip
CLASSES = (
    b"0",
    b"1\n",
    b" 1 ",
    b"w",
    b"",
    b"-1",
    b"99999999999999999999",
    b"1.0",
    b"[0]",
    b"\xff",
    b"1 0",
    b"true",
    b"NaN",
)
FOLDERS = ("", "./", "a/b/", "../", "/", "a//", "x/./", "A.B/", "\u00e9/", "e\u0301/", "with space/", "a\\b/")
NAMES = (
    "a",
    "b",
    "c.d",
    "0001",
    "\u00e9",
    "e\u0301",
    ".hidden",
    "._a",
    "a ",
    "-",
    "con",
    "x" * 120,
    "\n",
    "\U0001f600",
)


def odd_tar(small: Sequence[Base], random: np.random.Generator) -> bytes:
    """A tar of one to four samples, put together in one of many ways."""

    def one_of(choices: Sequence) -> object:
        return choices[int(random.integers(len(choices)))]

    members: list[Member] = []
    for number in range(int(random.integers(1, 5))):
        base = small[int(random.integers(len(small)))]
        stem = f"{number}"
        if random.random() < 0.3:
            stem = f"{one_of(FOLDERS)}{one_of(NAMES)}{number if random.random() < 0.7 else ''}"
        suffix = base.suffix.upper() if random.random() < 0.1 else base.suffix
        members.append((f"{stem}{suffix}", base.data if random.random() > 0.05 else b""))
        members += _beside(stem, suffix, random)
    members = _ordered(members, random)
    data = _written(members, random)
    what = random.integers(8)
    if what == 0:  # cat a.tar b.tar
        data += _written(_ordered([(f"second/{name}", body) for name, body in members], random), random)
    elif what == 1:
        data = data[: BLOCK * int(random.integers(len(data) // BLOCK + 1))]
    elif what == 2:
        data = data.rstrip(b"\0") + bytes(BLOCK * int(random.integers(3)))
    elif what == 3:
        at = BLOCK * int(random.integers(len(data) // BLOCK + 1))
        data = data[:at] + bytes(BLOCK * int(random.integers(1, 4))) + data[at:]
    return data


def _beside(stem: str, suffix: str, random: np.random.Generator) -> list[Member]:
    """The members next to a video: labels in one or several forms, and files that operating systems leave."""
    found: list[Member] = []
    if random.random() < 0.6:
        value = JSONS[int(random.integers(len(JSONS)))] if random.random() < 0.6 else {"labels": ["w"]}
        name = f"{stem}{suffix}.json" if random.random() < 0.1 else f"{stem}.json"
        encoding = ("utf-8", "utf-8-sig", "utf-16")[int(random.choice([0, 0, 0, 1, 2]))]
        found.append((name, json.dumps(value, ensure_ascii=bool(random.integers(2))).encode(encoding, "surrogatepass")))
    if random.random() < 0.3:
        found.append((f"{stem}.cls", CLASSES[int(random.integers(len(CLASSES)))]))
    if random.random() < 0.2:
        folder, _, name = stem.rpartition("/")
        found.append((f"{folder}/._{name}{suffix}".lstrip("/"), b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100)))
    if random.random() < 0.2:
        found.append((f"{stem}{('.txt', '.jpg', '.wav', '.npy', '')[int(random.integers(5))]}", b"hello"))
    return found


def _ordered(members: list[Member], random: np.random.Generator) -> list[Member]:
    what = random.integers(6)
    if what == 0:  # all videos, then all labels
        return sorted(members, key=lambda member: member[0].rsplit(".", 1)[-1])
    if what == 1:
        return [members[i] for i in random.permutation(len(members))]
    if what == 2:  # one of them twice
        return [*members, members[int(random.integers(len(members)))]]
    return members


def _written(members: Sequence[Member], random: np.random.Generator) -> bytes:
    tar_format = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)[int(random.integers(3))]
    encoding = "utf-8" if random.random() < 0.9 else "latin-1"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format, encoding=encoding, errors="replace") as tar:
        for name, data in members:
            _add(tar, name, data, random)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, random: np.random.Generator) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    what = random.integers(30)
    if what == 0:
        info.type, info.size, info.linkname = tarfile.SYMTYPE, 0, "elsewhere.mp4"
    elif what == 1:
        info.type, info.size, info.linkname = tarfile.LNKTYPE, 0, name
    elif what == 2:
        info.type, info.size = tarfile.DIRTYPE, 0
    elif what == 3 and tar.format == tarfile.PAX_FORMAT:
        info.pax_headers = {("comment", "path", "size", "GNU.sparse.major", "\u00e9")[int(random.integers(5))]: "7"}
    try:
        tar.addfile(info, io.BytesIO(data) if info.size else None)
    except ValueError:  # a name that this format cannot hold
        info.name, info.linkname = (
            text.encode("ascii", "replace").decode()[-90:] for text in (info.name, info.linkname)
        )
        tar.addfile(info, io.BytesIO(data) if info.size else None)


def videos_in(data: bytes, suffixes: Sequence[str]) -> list[str] | None:
    """Names of the members that Python's tarfile reads as files with a video's suffix; None if it cannot read them."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", ignore_zeros=True, errors="surrogateescape") as tar:
            names = [info.name for info in tar if info.isreg()]
    except (tarfile.TarError, ValueError, OSError, EOFError, OverflowError, IndexError):
        return None
    return [name for name in names if name.lower().endswith(tuple(suffixes))]
