"""What growth leaves in an index: many small partitions, rows of videos that have gone, objects that nothing names.

`join_partitions` deals the videos of the newest snapshot anew, as a new generation. Nothing is read of the tars, and
packets stay where they are. Its videos have other `video_row`s, so the new snapshot has no parent: a run that follows
the index does not take it, and a run that resumes finds its own snapshot, as long as that is kept.

`remove_unneeded` removes objects that no snapshot names which is kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.index.deal import Progress, Sizes, deal
from adaptfocus.pipelines.index.named import read_named
from adaptfocus.pipelines.index.partitions import DEAD, MANIFESTS, ROWS, Partition, read_stored, write_manifests
from adaptfocus.pipelines.index.shard_lists import (
    REFUSED,
    SHARDS,
    STORED_REFUSED_SCHEMA,
    IndexedShard,
    read_shards,
    write_refused,
    write_shards,
)
from adaptfocus.pipelines.index.snapshots import (
    SNAPSHOTS,
    Snapshot,
    fingerprint_of,
    newest_snapshot,
    overtaken,
    partitions_of,
    read_snapshot,
    snapshot_numbers,
    write_snapshot,
)
from adaptfocus.pipelines.index.staged import STAGED, ShardFacts, staged_url, write_staged_rows
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.store import Found

PACKETS = "packets"
# Names that an index writes. What has another name is none of its objects, and stays.
_OBJECT = re.compile(
    rf"({SNAPSHOTS}/\d{{6,}}\.json|({MANIFESTS}|{ROWS}|{DEAD}|{SHARDS}|{REFUSED})/(\d{{6,13}}-)?[0-9a-f]{{16}}\.parquet"
    rf"|{PACKETS}/[0-9a-f]{{16,64}}\.bin|{STAGED}/[\w.-]+)"
)
KINDS = {
    SNAPSHOTS: "snapshots", MANIFESTS: "manifests", ROWS: "rows of partitions", DEAD: "lists of videos that have gone",
    SHARDS: "lists of tars", REFUSED: "refused rows", PACKETS: "packets of tars", STAGED: "what was read of tars",
}  # fmt: skip
TASK_PARTITIONS = 64  # whose rows one task reads, one after the other


class Removed(NamedTuple):
    """Objects of a kind: how many go, and how many stay for now."""

    kind: str
    files: int
    size_bytes: int
    kept: int
    why_kept: str


@dataclass(frozen=True)
class Joined:
    """What joining partitions changes."""

    partitions: int  # before
    partitions_after: int
    dead_rows: int  # that leave


def find_small(index_url: str, sizes: Sizes = Sizes()) -> Joined | None:
    """What `join_partitions` would change; None if there is nothing to join.

    Raises:
        InputError: there is no index, or it is damaged. StorageError: it cannot be read.
    """
    partitions = partitions_of(index_url, _newest(index_url))
    dead = sum(each.stored_rows - each.rows for each in partitions)
    after = -(-sum(each.rows for each in partitions) // sizes.partition_rows)
    return Joined(len(partitions), after, dead) if after and (len(partitions) > after or dead) else None


def join_partitions(
    index_url: str, over: Over, sizes: Sizes = Sizes(), progress: Progress | None = None
) -> Snapshot | None:
    """Deal all videos to ordinary partitions, and make that the newest snapshot; None if there is nothing to join.

    Raises:
        InputError: another process has indexed into the same folder meanwhile, there is no index, or it is damaged.
        StorageError: it cannot be read or written.
    """
    if find_small(index_url, sizes) is None:
        return None
    before = _newest(index_url)
    partitions = partitions_of(index_url, before)
    tasks = [partitions[n : n + sizes.range_partitions] for n in range(0, len(partitions), sizes.range_partitions)]
    own = [f"{_identity(each)}.parquet" for each in partitions]
    try:
        staged = [pair for pairs in over(tasks, partial(_stage, index_url)) for pair in pairs]
        dealt = deal(index_url, staged, (), before.next_uid, over, sizes, progress)
        own += [dealt.generation.object_name(group) for group in range(dealt.generation.groups)]
        first, stop = before.next_uid, before.next_uid + dealt.generation.partitions
        shards = [each for name in before.shard_lists for each in read_shards(index_url, name)]
        moved = [replace(each, first_uid=first, stop_uid=stop) for each in shards]
        manifests = write_manifests(index_url, dealt.partitions, sizes.manifest_partitions)
        now = replace(
            before,
            number=before.number + 1,
            parent=None,
            fingerprint=fingerprint_of(before, before.classes, manifests),
            next_uid=stop,
            manifests=manifests,
            shard_lists=write_shards(index_url, moved, sizes.list_shards),
            refused_lists=_moved_refused(index_url, before, shards, first, sizes),
        )
        partitions_of(index_url, now)  # as many videos as before
        write_snapshot(index_url, now)
    except StorageError:
        if newest_snapshot(index_url) != before:  # the other process has removed what was staged
            raise overtaken(index_url) from None
        raise
    store.delete_files([staged_url(index_url, name) for name in own])
    return now


def _identity(partition: Partition) -> str:
    return f"partition-{partition.name}"


def _stage(index_url: str, partitions: Sequence[Partition]) -> list[tuple[str, ShardFacts]]:
    """Stage the videos of some partitions as if each were a tar."""
    return [
        (_identity(each), write_staged_rows(index_url, _identity(each), read_stored(index_url, each)))
        for each in partitions
    ]


def _moved_refused(
    index_url: str, before: Snapshot, shards: Sequence[IndexedShard], first_uid: int, sizes: Sizes
) -> list[str]:
    """Lists of the refused rows of these shards, as those of a generation; rows of shards that have gone leave."""
    generations = {each.identity: each.first_uid for each in shards}
    written: list[str] = []
    waiting = [STORED_REFUSED_SCHEMA.empty_table()]

    def write() -> None:
        table = pa.concat_tables(waiting).combine_chunks()
        if table.num_rows:
            written.append(write_refused(index_url, table, first_uid))
        waiting[1:] = []

    for name in before.refused_lists:
        rows = read_named(index_url, REFUSED, name, STORED_REFUSED_SCHEMA)
        own = [generations.get(each) == int(name.split("-")[0]) for each in rows["shard_identity"].to_pylist()]
        waiting.append(rows.filter(pa.array(own, pa.bool_())))
        if sum(each.num_rows for each in waiting) >= sizes.group_rows:
            write()
    write()
    return written


def remove_unneeded(
    index_url: str,
    keep_snapshots: int | None,
    older_than_seconds: float,
    over: Over,
    *,
    dry_run: bool = False,
    is_joined_later: bool = False,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> list[Removed]:
    """Remove the objects of an index that no snapshot names which is kept.

    Args:
        keep_snapshots: so many of the newest; None: all.
        older_than_seconds: the age from which objects go that no snapshot names at all, because a process could be
            writing them for its snapshot.
        over: what reads which packets the rows of kept partitions name.
        is_joined_later: with `dry_run`, a snapshot will be written before, which is one of those that are kept.

    Raises:
        InputError: another process is indexing into the same folder, there is no index, or it is damaged.
        StorageError: it cannot be read or written.
    """
    files = [each for each in store.listed_below(index_url) if _OBJECT.fullmatch(_path(index_url, each))]
    newest = time.time() - older_than_seconds
    if any(each.modified >= newest for each in files if _path(index_url, each).startswith(f"{STAGED}/")):
        raise InputError(
            f"{index_url}: {STAGED}/ was written a short time ago, so another process may be indexing; nothing was "
            "removed. Wait until it is done, or give a smaller --older-than"
        )
    snapshots = [read_snapshot(index_url, number) for number in snapshot_numbers(index_url)]
    goes = 0 if keep_snapshots is None else max(0, len(snapshots) + is_joined_later - keep_snapshots)
    kept, gone = snapshots[goes:], snapshots[:goes]
    needed = {path for each in kept for path in _named_by(index_url, each)}
    needed |= _packets_of(index_url, kept, over)
    if is_joined_later:
        needed |= _packets_of(index_url, snapshots[-1:], over, is_live=True)
    dropped = {path for each in gone for path in _named_by(index_url, each)} | _packets_of(index_url, gone, over)
    unneeded = [each for each in files if _path(index_url, each) not in needed]
    going = [each for each in unneeded if each.modified < newest or _path(index_url, each) in dropped]
    if not dry_run:
        # A snapshot goes before what it names: no reader opens one that is half gone.
        ordered = sorted(going, key=lambda each: not _path(index_url, each).startswith(f"{SNAPSHOTS}/"))
        store.delete_files([each.url for each in ordered], progress)
    return list(_counted(index_url, unneeded, going))


def _counted(index_url: str, unneeded: Sequence[Found], going: Sequence[Found]) -> Iterator[Removed]:
    for folder, kind in KINDS.items():
        own, goes = ([e for e in each if _path(index_url, e).startswith(f"{folder}/")] for each in (unneeded, going))
        stay = len(own) - len(goes)
        if own:
            yield Removed(kind, len(goes), sum(e.size_bytes for e in goes), stay, "too new" if stay else "")


def _path(index_url: str, file: Found) -> str:
    return file.url.removeprefix(index_url.rstrip("/") + "/")


def _named_by(index_url: str, snapshot: Snapshot) -> Iterator[str]:
    """The paths of the objects that a snapshot needs, without packets."""
    yield f"{SNAPSHOTS}/{snapshot.number:06d}.json"
    named = {MANIFESTS: snapshot.manifests, SHARDS: snapshot.shard_lists, REFUSED: snapshot.refused_lists}
    partitions = partitions_of(index_url, snapshot)
    named |= {ROWS: [each.name for each in partitions], DEAD: [each.dead for each in partitions if each.dead]}
    yield from (f"{folder}/{name}.parquet" for folder, names in named.items() for name in names)


def _packets_of(index_url: str, snapshots: Collection[Snapshot], over: Over, is_live: bool = False) -> set[str]:
    """The paths of the packets that rows of some snapshots name; `is_live`: without rows that are indexed no more."""
    found = {each.name: each for snapshot in snapshots for each in partitions_of(index_url, snapshot)}
    every = [found[name] for name in sorted(found)]
    tasks = [every[n : n + TASK_PARTITIONS] for n in range(0, len(every), TASK_PARTITIONS)]
    named = over(tasks, partial(_packets_named, index_url, is_live))
    return {f"{PACKETS}/{name}" for names in named for name in names}


def _packets_named(index_url: str, is_live: bool, partitions: Sequence[Partition]) -> set[str]:
    found: set[str] = set()
    for each in partitions:
        stored = each if is_live else replace(each, dead=None)
        found.update(read_stored(index_url, stored, ["packets_url"])["packets_url"].unique().to_pylist())
    return found


def _newest(index_url: str) -> Snapshot:
    snapshot = newest_snapshot(index_url)
    if snapshot is None:
        raise InputError(f"there is no index at {index_url} (no snapshot); make it with `adaptfocus index`")
    return snapshot
