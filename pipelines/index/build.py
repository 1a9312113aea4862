"""Build the video index of tars in object storage.

Shards are read in parallel, each into a staged part; staged parts of unchanged shards are reused. Their videos are then
dealt to partitions, and a snapshot that is written last makes the new index count. What an earlier snapshot names stays
as it is.

    OUT/snapshots/000012.json    counts, classes, manifests, fingerprint; the newest one is the index
    OUT/manifests/HASH.parquet   one row a partition
    OUT/rows/UID-HASH.parquet    a partition: the rows of about 8,192 videos
    OUT/packets/IDENTITYHASH.bin the packets of the videos of one tar
    OUT/shards/, OUT/refused/    one row a tar, and what was refused
    OUT/dead/                    rows of partitions that are indexed no more
    OUT/staged/                  only while indexing
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import LOOKUP_THREADS, read_classes, read_labels
from adaptfocus.pipelines.annotations.names import normal
from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION, Isolation
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.index.checks import IDS_SHOWN, check_some, find_unmatched, first_reasons
from adaptfocus.pipelines.index.convert import old_parts, remove_old
from adaptfocus.pipelines.index.deal import Progress, Sizes
from adaptfocus.pipelines.index.grow import Shard, compare, next_snapshot, with_longer_list
from adaptfocus.pipelines.index.pool import index_shards
from adaptfocus.pipelines.index.rows import ShardTask, index_some
from adaptfocus.pipelines.index.snapshots import newest_snapshot, overtaken, write_snapshot
from adaptfocus.pipelines.index.staged import READ_THREADS, ShardFacts, read_facts, staged_files, staged_url
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.shards.find import find_shards, shard_names
from adaptfocus.pipelines.shards.plain import plain_files
from adaptfocus.pipelines.video.table import NOTES

# What a row holds for a video, in two numbers that a shard's identity has. Raise the second when a row would differ for
# the same video: all shards are then read again.
ROWS_VERSION = (3, 3)
# Of tars that one task of a cluster reads.
TASK_BYTES, TASK_SHARDS = 256 << 20, 16


@dataclass(frozen=True)
class IndexSummary:
    """The result of `build_index`."""

    index_url: str
    shards: int
    shards_read: int
    shards_unchanged: int
    videos: int
    unlabelled: int
    refused: dict[str, int]  # kind -> members, videos or shards that are not in the index
    intervals_changed: dict[str, int]  # interval_clamped, interval_dropped
    noted: dict[str, int]  # kind -> videos that are indexed with changes (NOTES of pipelines/video/table.py)
    labels_without_video: int  # rows of the labels file that name no indexed video
    unmatched_ids: tuple[str, ...]  # the first of these ids
    reasons: tuple[str, ...]  # the first refused rows, as lines
    classes: tuple[str, ...]
    seconds: float


def build_index(
    shards: Sequence[str],
    out_url: str,
    *,
    classes: Sequence[str] | None = None,
    labels_url: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    isolation: Isolation | None = DEFAULT_ISOLATION,
    prefix_shard: bool = False,
    over: Over | None = None,
    sizes: Sizes = Sizes(),
    are_videos: bool = False,
) -> IndexSummary:
    """Index the shards. A repeated call reads only new and changed shards.

    Args:
        shards: URLs, globs, brace ranges (``train-{000000..000009}.tar``) or folders (all ``*.tar`` in them).
        classes: the class list; by default that of a ``classes.txt`` next to the first shard, else all labels found.
        labels_url: a CSV or JSONL file with `id` and `labels`; overrides the labels in the tars.
        workers: number of processes; one for each core if None. With 1, all runs in this process.
        isolation: limits for one video, which is read in another process; None: it is read in the worker itself.
        prefix_shard: ids are ``SHARD/KEY``, for tars that repeat each other's keys. SHARD is the tar's path below the
            common folder of all tars, without ``.tar``.
        over: what does the work, on a cluster for example; by default processes of this machine.
        sizes: how much one partition, task or object holds.
        are_videos: `shards` are plain video files (or folders of them) and no tars. The id of each is its path below
            the common folder, without its extension (`pipelines.shards.plain`).

    Raises:
        InputError: no shard matches, a label of `labels_url` is not a class, none of its ids belongs to a video,
            nothing could be indexed, or another process has indexed into the same folder at the same time.
        StorageError: a place cannot be read or written.
    """
    started = time.perf_counter()
    files = plain_files(shards) if are_videos else []
    found = [each.url for each in files] if are_videos else find_shards(shards)
    store.check_writable(out_url)
    class_list = _classes_next_to(found[0]) if classes is None else tuple(map(normal, classes))
    listed = list(read_labels(labels_url, class_list)) if labels_url else []
    labels_tag = hashlib.sha256(store.read_bytes(labels_url)).hexdigest() if labels_url else ""
    every = [
        Shard(each.url, each.size_bytes, each.tag, "", each.video_id, each.refusal) for each in files
    ] or _looked_up(found, prefix_shard)
    wanted = [replace(each, identity=_identity(each, class_list, labels_tag)) for each in every]
    before = newest_snapshot(out_url)
    begins = class_list is not None and before is not None and _begins_with(class_list, before.classes)
    if class_list and begins:
        wanted = with_longer_list(out_url, before, wanted, lambda s, n: _identity(s, class_list[:n], labels_tag))
    known = compare(out_url, before, wanted)
    kept = known.kept
    fresh = [each for each in wanted if each.identity not in kept]
    staged = staged_files(out_url)
    old = {} if before else old_parts(out_url, [each.identity for each in wanted])
    tasks = {
        number: ShardTask(
            out_url, each.url, each.size_bytes, each.tag, each.identity, class_list, labels_url, isolation, labels_tag,
            each.id_prefix, are_videos, each.refusal, old.get(each.identity),
        )
        for number, each in enumerate(fresh) if f"{each.identity}.parquet" not in staged
    }  # fmt: skip
    facts = _staged(out_url, fresh, tasks, len(wanted), workers or os.cpu_count() or 1, over, progress)
    if fresh or known.gone or before is None or (begins and len(class_list or ()) > len(before.classes)):
        try:
            pairs = list(zip(fresh, facts, strict=True))
            now = next_snapshot(out_url, known, pairs, class_list, over or in_this_process, sizes, progress)
        except StorageError:
            own = {f"{each.identity}.parquet" for each in fresh}
            if newest_snapshot(out_url) != before or not own <= staged_files(out_url):  # it has removed staged parts
                raise overtaken(out_url) from None
            raise
        check_some(out_url, now, found)
    else:
        now = before
    left = find_unmatched(out_url, now, labels_url or "", listed) if listed else []
    if now is not before:
        write_snapshot(out_url, now)
    _tidy(out_url, staged, wanted, now is not before)
    read = sum(task.old is None for task in tasks.values())
    refused = {k: n for k, n in now.refused.items() if not k.startswith("interval_") and k not in NOTES}
    return IndexSummary(
        index_url=out_url,
        shards=len(wanted),
        shards_read=read,
        shards_unchanged=len(wanted) - read,
        videos=now.videos,
        unlabelled=now.unlabelled,
        refused=refused,
        intervals_changed={kind: n for kind, n in now.refused.items() if kind.startswith("interval_")},
        noted={kind: n for kind, n in now.refused.items() if kind in NOTES},
        labels_without_video=len(left),
        unmatched_ids=tuple(left[:IDS_SHOWN]),
        reasons=first_reasons(out_url, now, refused),
        classes=tuple(now.classes),
        seconds=round(time.perf_counter() - started, 3),
    )


def _classes_next_to(shard_url: str) -> tuple[str, ...] | None:
    """The class list that `pack` wrote into the shard's folder, if there is one."""
    url = store.join(posixpath.dirname(shard_url), "classes.txt")
    is_listed = not shard_url.startswith(("http://", "https://"))  # web servers may answer for missing files
    # An empty list is next to videos that nobody has labelled.
    return tuple(read_classes(url, may_be_empty=True)) or None if is_listed and store.exists(url) else None


def _begins_with(classes: Sequence[str], first: Sequence[str]) -> bool:
    """Whether a list of classes is another one, or that with more behind."""
    return [*classes[: len(first)]] == [*first]


def _looked_up(shard_urls: Sequence[str], prefix_shard: bool) -> list[Shard]:
    """Tars with their sizes and tags, without an identity."""
    prefixes = [f"{name}/" for name in shard_names(shard_urls)] if prefix_shard else [""] * len(shard_urls)
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        versions = list(threads.map(store.size_and_tag, shard_urls))
    return [
        Shard(url, *version, "", prefix) for url, prefix, version in zip(shard_urls, prefixes, versions, strict=True)
    ]


def _identity(shard: Shard, classes: Sequence[str] | None, labels_tag: str) -> str:
    """A hash of the shard, and of everything else that decides the content of its rows."""
    settings = json.dumps([*ROWS_VERSION, classes, labels_tag])
    facts = [shard.url, shard.size_bytes, shard.tag, settings, shard.id_prefix]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _staged(
    out_url: str,
    fresh: Sequence[Shard],
    tasks: dict[int, ShardTask],
    shards: int,
    workers: int,
    over: Over | None,
    progress: Progress | None,
) -> list[ShardFacts]:
    """Do the tasks -> the facts of all new and changed shards, in their order."""
    there = [number for number in range(len(fresh)) if number not in tasks]
    with ThreadPoolExecutor(READ_THREADS) as threads:
        urls = [staged_url(out_url, f"{fresh[number].identity}.parquet") for number in there]
        facts = dict(zip(there, threads.map(read_facts, urls), strict=True))
    done = shards - len(tasks)
    for number, found in _over_shards(tasks, over) if over else index_shards(tasks, workers):
        facts[number] = found
        done += 1
        if progress:
            progress(done, shards, fresh[number].url)
    return [facts[number] for number in range(len(fresh))]


def _over_shards(tasks: dict[int, ShardTask], over: Over) -> Iterator[tuple[int, ShardFacts]]:
    """`index_shards` by `over`: a task a tar, or some small tars."""
    parts: list[list[ShardTask]] = []
    room = 0
    for task in tasks.values():
        room -= task.size_bytes
        if not parts or room < 0 or len(parts[-1]) == TASK_SHARDS:
            parts.append([])
            room = TASK_BYTES - task.size_bytes
        parts[-1].append(task)
    yield from zip(tasks, (facts for part in over(parts, index_some) for facts in part), strict=True)


def _tidy(out_url: str, staged: set[str], wanted: Sequence[Shard], is_new: bool) -> None:
    """Remove what is staged of shards that the index holds, and an index of an earlier version that is taken over.

    Args:
        staged: what was there before.
        is_new: a snapshot was written. Else all other staged parts may be of a process that is indexing now.
    """
    own = {f"{each.identity}{end}" for each in wanted for end in (".parquet", "-refused.parquet")}
    there = staged_files(out_url)
    dealt = {name for name in there if name.endswith(".bin")}
    left = own | staged | dealt if is_new else own
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        list(threads.map(lambda name: store.delete(staged_url(out_url, name)), left & there))
    remove_old(out_url)
