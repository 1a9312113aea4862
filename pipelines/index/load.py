"""Read an index: its facts, partitions, rows, refused files and notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index import partitions
from adaptfocus.pipelines.index.convert import refuse_old
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.index.partitions import LOADED_SCHEMA, Partition
from adaptfocus.pipelines.index.shard_lists import refused_rows
from adaptfocus.pipelines.index.snapshots import (
    Snapshot,
    newest_snapshot,
    partitions_of,
    read_snapshot,
    snapshot_numbers,
)
from adaptfocus.pipelines.index.staged import READ_THREADS
from adaptfocus.pipelines.video.table import NOTES


class NoSnapshotError(InputError):
    """An index has no snapshot with a fingerprint: it is another index, or was made again in its folder."""


@dataclass(frozen=True)
class VideoIndex:
    """The whole index in memory."""

    table: pa.Table  # LOADED_SCHEMA, or `video_row` and the columns asked for
    classes: list[str]
    fingerprint: str  # changes if any row changes


@dataclass(frozen=True)
class IndexFacts:
    """What a snapshot says. Any number of processes may know it, however many shards there are."""

    videos: int
    unlabelled: int  # videos without a label
    max_labels: int  # the largest number of labels of a video; at least 1
    classes: list[str]
    fingerprint: str  # as in VideoIndex
    label_counts: dict[str, int]  # class -> its number of videos
    number: int = 0  # of the snapshot


def open_index(index_url: str, fingerprint: str | None = None) -> IndexFacts:
    """The facts about an index, by two requests. No row is read.

    Args:
        fingerprint: that of an earlier snapshot, which an index keeps as it grows; None: the newest one.

    Raises:
        InputError: there is no index, another version wrote it, or it is damaged; or it has no such snapshot.
        StorageError: it cannot be read.
    """
    now = _snapshot(index_url, fingerprint)
    return IndexFacts(
        now.videos, now.unlabelled, now.max_labels or 1, list(now.classes), now.fingerprint, dict(now.label_counts),
        now.number,
    )  # fmt: skip


def read_partitions(index_url: str, fingerprint: str | None = None) -> tuple[Partition, ...]:
    """The partitions of an index by uid, by a request for each 4,096 of them and two more. As `open_index`."""
    return partitions_of(index_url, _snapshot(index_url, fingerprint))


def read_partition(index_url: str, partition: Partition, columns: Sequence[str] | None = None) -> pa.Table:
    """The videos of one partition that are indexed still, by one or two requests.

    Args:
        columns: columns of INDEX_SCHEMA; all of them if None. `video_row` comes first in any case, ascending.

    Raises:
        InputError: it is damaged. StorageError: it cannot be read.
    """
    return partitions.read_partition(index_url, partition, columns)


def load_index(index_url: str, columns: Sequence[str] | None = None, fingerprint: str | None = None) -> VideoIndex:
    """The whole index as one table, by uid: for small sets, and for tools.

    Args:
        columns: as in `read_partition`. fingerprint: as in `open_index`.

    Raises: as `open_index`.
    """
    now = _snapshot(index_url, fingerprint)
    with ThreadPoolExecutor(READ_THREADS) as threads:
        tables = list(threads.map(lambda each: read_partition(index_url, each, columns), partitions_of(index_url, now)))
    return VideoIndex(pa.concat_tables(tables), list(now.classes), now.fingerprint)


def read_rows(index_url: str, start: int, stop: int, fingerprint: str) -> pa.Table:
    """Videos [start, stop) of an index, counted over all partitions by uid, with their packets.

    Raises: as `read_light_rows`.
    """
    return with_packets(read_light_rows(index_url, start, stop, fingerprint))


def read_light_rows(index_url: str, start: int, stop: int, fingerprint: str) -> pa.Table:
    """`read_rows` without packets.

    Only their partitions are read. A snapshot that is not the newest any more can still be read.

    Raises:
        InputError: the index has no snapshot with this fingerprint.
        StorageError: it cannot be read.
    """
    tables, first = [LOADED_SCHEMA.empty_table()], 0
    for partition in _partitions_with(index_url, fingerprint):
        begin, end = max(start - first, 0), min(stop - first, partition.rows)
        if begin < end:
            tables.append(_whole(index_url, partition).slice(begin, end - begin))
        first += partition.rows
    return pa.concat_tables(tables)


def refused_of(index_url: str) -> Iterator[dict[str, str]]:
    """Rows of REFUSED_SCHEMA: what an index left out or changed. Raises as `open_index`."""
    return refused_rows(index_url, _newest(index_url))


def notes_of(index_url: str) -> dict[str, int]:
    """Kind -> number of videos that are indexed with changes (NOTES of pipelines/video/table.py)."""
    return {kind: n for kind, n in _newest(index_url).refused.items() if kind in NOTES}


@lru_cache(maxsize=2)  # extraction asks for some rows after the other
def _partitions_with(index_url: str, fingerprint: str) -> tuple[Partition, ...]:
    return read_partitions(index_url, fingerprint)


def _snapshot(index_url: str, fingerprint: str | None) -> Snapshot:
    newest = _newest(index_url)
    if fingerprint in (None, newest.fingerprint):
        return newest
    for number in reversed(snapshot_numbers(index_url)):
        if number < newest.number and (earlier := read_snapshot(index_url, number)).fingerprint == fingerprint:
            return earlier
    raise NoSnapshotError(
        f"the index at {index_url} was made again meanwhile, or has lost that snapshot (index --keep-snapshots); start "
        "again, in another folder"
    )


@lru_cache(maxsize=2)
def _whole(index_url: str, partition: Partition) -> pa.Table:
    return read_partition(index_url, partition)


def _newest(index_url: str) -> Snapshot:
    snapshot = newest_snapshot(index_url)
    if snapshot is None:
        refuse_old(index_url)
        store.list_files(index_url)  # raises if the bucket does not exist
        raise InputError(f"there is no index at {index_url} (no snapshot); make it with `adaptfocus index`")
    return snapshot
