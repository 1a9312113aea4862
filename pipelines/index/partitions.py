"""Partitions: the rows of about 8,192 videos each, whose ids have hashes in one range.

``INDEX/rows/UID-HASH.parquet`` has the rows of INDEX_SCHEMA of one partition and is never changed. Videos that are
indexed no more are listed in ``INDEX/dead/UID-HASH.parquet`` and keep their places, so that a `video_row`, which is
uid << 24 | row in the file, always means the same video. ``INDEX/manifests/HASH.parquet`` has one row a partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.named import FIX, read_named, url_of, write_named
from adaptfocus.pipelines.index.packets import identity_of, packets_urls
from adaptfocus.pipelines.schemas import INDEX_SCHEMA

ROW_BITS = 24  # of a `video_row`: the row in the partition
SOURCE_BITS = 32  # of a uid. Above them is the number of its index, in a run on several (docs/decisions/0032)
LOADED_SCHEMA = pa.schema([pa.field("video_row", pa.int64()), *INDEX_SCHEMA])
ROWS, DEAD, MANIFESTS = "rows", "dead", "manifests"
_DEAD_SCHEMA = pa.schema([("row", pa.int32())])
_MANIFEST_SCHEMA = pa.schema(
    [
        ("uid", pa.int64()),
        ("rows", pa.int64()),
        ("name", pa.string()),
        ("unlabelled", pa.int64()),
        ("unlocated", pa.int64()),
        ("max_labels", pa.int64()),
        ("dead", pa.string()),
        ("stored_rows", pa.int64()),
        ("first_hash", pa.uint64()),
        ("last_hash", pa.uint64()),
    ]
)


@dataclass(frozen=True)
class Partition:
    """What a manifest says of a partition."""

    uid: int  # never given again
    rows: int  # videos that are indexed still
    name: str  # of the object in rows/
    unlabelled: int  # videos without a label
    unlocated: int  # labelled videos whose intervals are unknown, or lack one of their labels
    max_labels: int  # the largest number of labels of a video
    dead: str | None  # the object in dead/ that lists rows which are not indexed any more
    stored_rows: int  # with those
    first_hash: int  # of the range that the hashes of its ids are in
    last_hash: int


def source_of(uid: int) -> int:
    """The number of the index that a partition is of, in a run on several."""
    return uid >> SOURCE_BITS


def write_partition(
    index_url: str, uid: int, rows: pa.Table, hashes: tuple[int, int]
) -> tuple[Partition, Counter[str]]:
    """Write the rows of a new partition -> (the partition, label -> its number of videos)."""
    name, _ = write_named(index_url, ROWS, rows.cast(INDEX_SCHEMA), f"{uid:06d}-")
    unlabelled, unlocated, most, counts = _facts(rows)
    count = rows.num_rows
    return Partition(uid, count, name, unlabelled, unlocated, most, None, count, *hashes), counts


def without_shards(
    index_url: str, partition: Partition, gone: Collection[str]
) -> tuple[Partition | None, Counter[str]]:
    """A partition without the videos of some shards -> (it, or None if it has no others; the labels of those videos).

    Args:
        gone: identities of the shards.
    """
    stored = read_named(index_url, ROWS, partition.name, INDEX_SCHEMA, ["labels", "intervals", "packets_url"])
    before = _dead_rows(index_url, partition)
    of_gone = [identity_of(name) in gone for name in stored.column("packets_url").to_pylist()]
    dying = np.setdiff1d(np.flatnonzero(of_gone), before)
    lost = _facts(stored.take(pa.array(dying)))[-1]
    dead = np.union1d(dying, before)
    if len(dead) == len(of_gone) or not len(dying):
        return (partition if not len(dying) else None), lost
    unlabelled, unlocated, most, _ = _facts(stored.take(pa.array(np.delete(np.arange(len(of_gone)), dead))))
    table = pa.table({"row": dead}, schema=_DEAD_SCHEMA)
    name, _ = write_named(index_url, DEAD, table, f"{partition.uid:06d}-")
    facts = {"unlabelled": unlabelled, "unlocated": unlocated, "max_labels": most}
    return replace(partition, rows=len(of_gone) - len(dead), dead=name, **facts), lost


def read_partition(index_url: str, partition: Partition, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a partition that are indexed still, as LOADED_SCHEMA.

    Args:
        columns: columns of INDEX_SCHEMA; all of them if None. `video_row` comes first in any case.

    Raises:
        InputError: it is damaged. StorageError: it cannot be read.
    """
    names = INDEX_SCHEMA.names if columns is None else [name for name in columns if name != "video_row"]
    table = read_named(index_url, ROWS, partition.name, INDEX_SCHEMA, names or ["video_id"])
    dead = _dead_rows(index_url, partition)
    if table.num_rows != partition.stored_rows or table.num_rows - len(dead) != partition.rows:
        raise InputError(
            f"{url_of(index_url, ROWS, partition.name)} has {table.num_rows} videos, {len(dead)} of them dead; its "
            f"manifest says {partition.rows} of {partition.stored_rows} live; {FIX}"
        )
    places = np.delete(np.arange(table.num_rows, dtype=np.int64), dead)
    table = table.take(pa.array(places)) if len(dead) else table
    if "packets_url" in names:
        at = table.schema.get_field_index("packets_url")
        table = table.set_column(at, table.schema.field(at), packets_urls(table.column(at), index_url))
    return table.select(names).add_column(0, "video_row", pa.array(partition.uid << ROW_BITS | places))


def read_stored(index_url: str, partition: Partition, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of INDEX_SCHEMA of the rows that are indexed still, as they were written. Raises as above."""
    table = read_named(index_url, ROWS, partition.name, INDEX_SCHEMA, columns)
    places = np.delete(np.arange(table.num_rows), _dead_rows(index_url, partition))
    return table.take(pa.array(places))


def write_manifests(index_url: str, partitions: Sequence[Partition], most: int) -> list[str]:
    """Write manifests of at most `most` partitions each -> their names."""
    tables = (
        pa.Table.from_pylist([asdict(each) for each in partitions[first : first + most]], schema=_MANIFEST_SCHEMA)
        for first in range(0, len(partitions), most)
    )
    return [write_named(index_url, MANIFESTS, table)[0] for table in tables]


@lru_cache(maxsize=32)  # about 1 MB each; a name stands for one content only
def read_manifest(index_url: str, name: str) -> tuple[Partition, ...]:
    """The partitions of one manifest. Raises InputError, StorageError."""
    table = read_named(index_url, MANIFESTS, name, _MANIFEST_SCHEMA)
    return tuple(Partition(**row) for row in table.to_pylist())


def _dead_rows(index_url: str, partition: Partition) -> np.ndarray:
    if partition.dead is None:
        return np.empty(0, np.int32)
    return read_named(index_url, DEAD, partition.dead, _DEAD_SCHEMA)["row"].to_numpy()


def _facts(rows: pa.Table) -> tuple[int, int, int, Counter[str]]:
    """(unlabelled, unlocated, largest number of labels, label -> number of videos) of some videos."""
    labels, intervals = rows.column("labels").to_pylist(), rows.column("intervals").to_pylist()
    counts: Counter[str] = Counter(name for names in labels for name in names)
    unlocated = sum(map(is_unlocated, labels, intervals))
    return sum(not names for names in labels), unlocated, max(map(len, labels), default=0), counts


def is_unlocated(labels: Sequence[str], intervals: Iterable[dict] | None) -> bool:
    """Whether a video has a label, and its intervals are unknown or lack one of its labels."""
    return bool(labels) and (intervals is None or not {each["label"] for each in intervals} >= set(labels))
