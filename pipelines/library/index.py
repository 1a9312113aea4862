"""An index as a library's user sees it: its classes, its videos by id or in order, without holding all of them.

Rows are read a partition at a time (about 8,192 videos), and the newest PARTITIONS_HELD partitions are kept. An id is
found by its hash, which says in which partitions it can be. So a corpus of any size can be read by any process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.deal import hash_of_id
from adaptfocus.pipelines.index.load import IndexFacts, read_partition, read_partitions
from adaptfocus.pipelines.index.load import open_index as facts_of
from adaptfocus.pipelines.index.partitions import ROW_BITS, Partition
from adaptfocus.pipelines.store.urls import absolute

PARTITIONS_HELD = 16  # two windows of an epoch's order; 3 to 8 MB each

VideoKey = str | int  # a video's id, or its `video_row`


@dataclass(frozen=True)
class Interval:
    """When a label is visible, from the first frame shown."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Video:
    """One video of an index."""

    id: str
    duration_seconds: float
    frame_rate_hz: float  # mean
    labels: tuple[str, ...]
    intervals: tuple[Interval, ...] | None  # None: they are unknown
    row: Mapping[str, Any] = field(repr=False, compare=False)  # INDEX_SCHEMA and `video_row`

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Video:
        """The video of a loaded row of an index."""
        intervals = row["intervals"]
        return cls(
            row["video_id"],
            row["duration_seconds"],
            row["frame_rate_hz"],
            tuple(row["labels"]),
            None if intervals is None else tuple(Interval(**each) for each in intervals),
            row,
        )


class Rows(Protocol):
    """Where the rows of an index come from. A run on several indexes has them from all of these."""

    def partitions(self) -> Sequence[Partition]:
        """Those of the snapshot."""
        ...

    def read(self, partition: Partition, columns: Sequence[str] | None) -> pa.Table:
        """`video_row`, and these columns of INDEX_SCHEMA (all if None), of one partition."""
        ...


@dataclass(frozen=True)
class OneIndex:
    """The rows of a snapshot of one index."""

    url: str
    fingerprint: str

    def partitions(self) -> Sequence[Partition]:
        return read_partitions(self.url, self.fingerprint)

    def read(self, partition: Partition, columns: Sequence[str] | None) -> pa.Table:
        return read_partition(self.url, partition, columns)


def open_index(url: str, fingerprint: str | None = None) -> Index:
    """Open an index by two small requests. Rows are read when they are asked for.

    Args:
        url: the index's folder, on any store.
        fingerprint: that of an earlier snapshot, which an index keeps as it grows; None: the newest one.

    Raises:
        InputError: there is no index, another version wrote it, or it is damaged; or it has no such snapshot.
        StorageError: it cannot be read.
    """
    url = absolute(url)
    return Index(url, facts_of(url, fingerprint))


class Index:
    """The videos of one snapshot of an index. It can be sent to other processes, and used by several threads."""

    def __init__(self, url: str, facts: IndexFacts, rows: Rows | None = None) -> None:
        self.url, self.facts = url, facts
        self._source: Rows = rows or OneIndex(url, facts.fingerprint)
        # No lock of ours: a worker that is forked while a thread holds one would wait for it for ever.
        self._rows = lru_cache(PARTITIONS_HELD)(self._read_rows)

    @property
    def classes(self) -> list[str]:
        return self.facts.classes

    @property
    def fingerprint(self) -> str:
        """Changes if any video or label changes."""
        return self.facts.fingerprint

    def __len__(self) -> int:
        return self.facts.videos

    def __repr__(self) -> str:
        return f"<Index {self.url}: {len(self)} videos of {len(self.classes)} classes>"

    def __getitem__(self, video: VideoKey) -> Video:
        """A video by its id or `video_row`. Raises InputError if there is none."""
        return Video.of(self.row(video))

    def __contains__(self, video: object) -> bool:
        return isinstance(video, (str, int)) and self._find(video) is not None

    def __iter__(self) -> Iterator[Video]:
        """All videos, in the order of the index; one partition is in memory at a time."""
        for table in self.tables():
            for batch in table.to_batches(max_chunksize=256):
                yield from (Video.of(row) for row in batch.to_pylist())

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of one partition after the other: `video_row`, and these columns of INDEX_SCHEMA (all if None)."""
        for uid in self.partitions:
            yield self.read(uid, columns)

    def read(self, uid: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one of `partitions`, as in `tables`."""
        return self._source.read(self.partitions[uid], columns)

    @cached_property
    def partitions(self) -> dict[int, Partition]:
        """The partitions by uid, ascending."""
        return {each.uid: each for each in sorted(self._source.partitions(), key=lambda each: each.uid)}

    def row(self, video: VideoKey) -> dict[str, Any]:
        """A video's row (INDEX_SCHEMA and `video_row`) as Python values. Raises InputError if there is none."""
        found = self._find(video)
        if found is None:
            what = f"id {video!r:.200}" if isinstance(video, str) else f"video_row {video!r:.40}"
            raise InputError(f"the index at {self.url} has no video with the {what}; it has {len(self)} videos")
        rows, place = found
        return rows.table.slice(place, 1).to_pylist()[0]

    def _find(self, video: VideoKey) -> tuple[_Rows, int] | None:
        if isinstance(video, str):
            hashed = hash_of_id(video)
            own = [uid for uid, each in self.partitions.items() if each.first_hash <= hashed <= each.last_hash]
        else:
            own = [uid for uid in (int(video) >> ROW_BITS,) if uid in self.partitions]
        for rows in map(self._rows, own):
            place = rows.place(video)
            if place is not None:
                return rows, place
        return None

    def _read_rows(self, uid: int) -> _Rows:
        return _Rows(self.read(uid).combine_chunks())

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads the rows that it needs."""
        return {name: value for name, value in self.__dict__.items() if name != "_rows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rows = lru_cache(PARTITIONS_HELD)(self._read_rows)


class _Rows:
    """The rows of one partition, and where each of them is."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._video_rows = table.column("video_row").to_numpy()

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {video_id: place for place, video_id in enumerate(self.table.column("video_id").to_pylist())}

    def place(self, video: VideoKey) -> int | None:
        if isinstance(video, str):
            return self._by_id.get(video)
        place = int(np.searchsorted(self._video_rows, int(video)))
        return place if place < len(self._video_rows) and self._video_rows[place] == video else None
