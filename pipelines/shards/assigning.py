"""Which samples go into which tar, from their names and sizes: nothing is read or written."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adaptfocus.pipelines import store


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    size_bytes: int

    def info(self) -> tarfile.TarInfo:
        """What its header says: mtime, uid and gid are 0 and names are empty, so that no machine adds to the bytes."""
        info = tarfile.TarInfo(self.name)
        info.size = self.size_bytes
        return info

    def header(self) -> bytes:
        """Its header in the format PAX: of 512 bytes, or more if the name is long or not ASCII."""
        return self.info().tobuf(tarfile.PAX_FORMAT)


@dataclass(frozen=True)
class Sample:
    """A video that is packed: ``KEY.EXTENSION`` and ``KEY.json``."""

    key: str
    extension: str
    video_url: str
    size_bytes: int  # of the video
    text: bytes  # of the .json

    def members(self) -> tuple[Member, Member]:
        """The video, and the .json behind it."""
        return Member(f"{self.key}.{self.extension}", self.size_bytes), Member(f"{self.key}.json", len(self.text))


@dataclass(frozen=True)
class Shard:
    """A tar that is to be written."""

    url: str
    samples: tuple[Sample, ...]
    size_bytes: int  # of the whole tar


def assign(samples: Sequence[Sample], out_url: str, shard_size_bytes: int) -> list[Shard]:
    """The shards of the samples, in their order.

    A new shard begins where a video and its text would end behind `shard_size_bytes`. A larger video gets its own.
    """
    shards: list[Shard] = []
    of_this: list[Sample] = []
    offset = 0  # where the next member begins

    def end() -> None:
        url = store.join(out_url, f"shard-{len(shards):06d}.tar")
        # A tar ends in two blocks of zeros, and is filled up to a whole record.
        size_bytes = _rounded(offset + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)
        shards.append(Shard(url, tuple(of_this), size_bytes))

    for sample in samples:
        if offset and offset + sample.size_bytes + len(sample.text) > shard_size_bytes:
            end()
            of_this, offset = [], 0
        of_this.append(sample)
        offset += sum(map(space_of, sample.members()))
    if of_this:
        end()
    return shards


def space_of(member: Member) -> int:
    """Bytes of a tar that a member takes, with its header and the zeros that fill its last block."""
    return len(member.header()) + _rounded(member.size_bytes, tarfile.BLOCKSIZE)


def _rounded(size_bytes: int, unit_bytes: int) -> int:
    return -(-size_bytes // unit_bytes) * unit_bytes
