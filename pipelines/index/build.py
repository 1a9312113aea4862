"""Build the video index of tars in object storage.

Shards are indexed in parallel. Parts of unchanged shards are reused, and repeated ids are left out. The index is
``OUT/videos/*.parquet``, ``OUT/refused/*.parquet``, and ``OUT/index.json``, written last: it names the parts in their
order, and until it is written nothing of the new index counts.

A part's name holds a hash of the shard's URL, size and tag, and of all settings that decide the content of its rows. A
file with that name is therefore the right part, whoever wrote it and whenever.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import LOOKUP_THREADS, read_classes, read_labels
from adaptfocus.pipelines.annotations.names import normal
from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION, Isolation
from adaptfocus.pipelines.index.checks import IDS_SHOWN, check_some, find_unmatched, first_reasons
from adaptfocus.pipelines.index.load import ROWS_VERSION, read_entry
from adaptfocus.pipelines.index.packets import PACKETS_FOLDER
from adaptfocus.pipelines.index.parts import (
    READ_THREADS,
    Part,
    leave_out_duplicates,
    most_labels,
    packets_url,
    part_urls,
    read_facts,
    read_ids,
    read_part,
)
from adaptfocus.pipelines.index.pool import index_shards
from adaptfocus.pipelines.index.rows import ShardTask
from adaptfocus.pipelines.schemas import SCHEMA_VERSION
from adaptfocus.pipelines.shards.find import find_shards, shard_names
from adaptfocus.pipelines.video.table import NOTES

Progress = Callable[[int, int, str], None]  # shards done, shards in all, the shard just done


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

    Raises:
        InputError: no shard matches, a label of `labels_url` is not a class, none of its ids belongs to a video, or
            nothing could be indexed.
        StorageError: a place cannot be read or written.
    """
    started = time.perf_counter()
    found = find_shards(shards)
    store.check_writable(out_url)
    class_list = _classes_next_to(found[0]) if classes is None else tuple(map(normal, classes))
    listed = list(read_labels(labels_url, class_list)) if labels_url else []
    prefixes = [f"{name}/" for name in shard_names(found)] if prefix_shard else [""] * len(found)
    labels_tag = hashlib.sha256(store.read_bytes(labels_url)).hexdigest() if labels_url else ""
    # Everything except the shard itself that decides the content of a row.
    settings = json.dumps([SCHEMA_VERSION, ROWS_VERSION, class_list, labels_tag])
    wanted = _identified(found, prefixes, settings)
    given = {"classes": class_list, "labels_url": labels_url, "isolation": isolation, "labels_tag": labels_tag}
    task = partial(ShardTask, **given)
    tasks = [partial(task, id_prefix=prefix) for prefix in prefixes]
    parts, read = _parts(wanted, out_url, tasks, workers, progress)
    check_some(parts, out_url)
    parts = leave_out_duplicates(parts, out_url)
    left = (
        find_unmatched(labels_url or "", listed, {i for part in parts for i in read_ids(out_url, part)})
        if listed
        else []
    )
    all_classes = class_list or tuple(sorted({name for part in parts for name in part.facts.labels}))
    _write_index(out_url, parts, all_classes)
    counts = sum((Counter(part.facts.refused) for part in parts), Counter())
    refused = {k: n for k, n in sorted(counts.items()) if not k.startswith("interval_") and k not in NOTES}
    return IndexSummary(
        index_url=out_url,
        shards=len(parts),
        shards_read=read,
        shards_unchanged=len(parts) - read,
        videos=sum(part.facts.rows for part in parts),
        unlabelled=sum(part.facts.unlabelled for part in parts),
        refused=refused,
        intervals_changed={kind: n for kind, n in sorted(counts.items()) if kind.startswith("interval_")},
        noted={kind: n for kind, n in sorted(counts.items()) if kind in NOTES},
        labels_without_video=len(left),
        unmatched_ids=tuple(left[:IDS_SHOWN]),
        reasons=first_reasons(out_url, parts, refused),
        classes=all_classes,
        seconds=round(time.perf_counter() - started, 3),
    )


def _classes_next_to(shard_url: str) -> tuple[str, ...] | None:
    """The class list that `pack` wrote into the shard's folder, if there is one."""
    url = store.join(posixpath.dirname(shard_url), "classes.txt")
    is_listed = not shard_url.startswith(("http://", "https://"))  # web servers may answer for missing files
    # An empty list is next to videos that nobody has labelled.
    return tuple(read_classes(url, may_be_empty=True)) or None if is_listed and store.exists(url) else None


def _identified(shard_urls: Sequence[str], prefixes: Sequence[str], settings: str) -> list[tuple[str, int, str, str]]:
    """(URL, size in bytes, tag, identity) of each shard."""
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        sizes_and_tags = list(threads.map(store.size_and_tag, shard_urls))
    return [
        (url, size, tag, hashlib.sha256(json.dumps([url, size, tag, settings, prefix]).encode()).hexdigest()[:16])
        for url, prefix, (size, tag) in zip(shard_urls, prefixes, sizes_and_tags, strict=True)
    ]


def _parts(
    wanted: list[tuple[str, int, str, str]],
    out_url: str,
    make: Sequence[Callable[..., ShardTask]],
    workers: int | None,
    progress: Progress | None,
) -> tuple[list[Part], int]:
    """The part of each shard, in order, and the number of shards that were read."""
    parts = _unchanged(wanted, out_url)
    tasks: dict[int, ShardTask] = {}
    for number, (url, size_bytes, tag, identity) in enumerate(wanted):
        if number not in parts:
            urls = (*part_urls(out_url, f"{number:05d}-{identity}"), packets_url(out_url, identity))
            tasks[number] = make[number](url, size_bytes, tag, *urls)
    done = len(parts)
    for number, facts in index_shards(tasks, workers or os.cpu_count() or 1):
        url, size_bytes, tag, identity = wanted[number]
        parts[number] = Part(url, size_bytes, tag, identity, f"{number:05d}-{identity}", facts)
        done += 1
        if progress:
            progress(done, len(wanted), url)
    return [parts[number] for number in range(len(wanted))], len(tasks)


def _unchanged(wanted: list[tuple[str, int, str, str]], out_url: str) -> dict[int, Part]:
    """Number of a shard in the order -> its part, where it can be reused.

    A part that lost repeated ids to earlier shards is reused only if all of those are unchanged.
    """
    listed = store.list_files(store.join(out_url, "videos"))
    there = {posixpath.basename(url).removesuffix(".parquet") for url in listed}
    old = [(part["identity"], part["name"]) for part in (read_entry(out_url) or {"parts": []})["parts"]]
    same = 0
    while same < min(len(old), len(wanted)) and old[same][0] == wanted[same][3]:
        same += 1
    whole = {name.split("-")[1]: name for name in sorted(there) if name.count("-") == 1}
    names: dict[int, str] = {}
    for number, (_, _, _, identity) in enumerate(wanted):
        name = old[number][1] if number < same else whole.get(identity)
        if name in there:
            names[number] = _in_place(name, number, out_url)
    with ThreadPoolExecutor(READ_THREADS) as threads:
        facts = list(threads.map(lambda name: read_facts(part_urls(out_url, name)[0]), names.values()))
    return {n: Part(*wanted[n], name, f) for (n, name), f in zip(names.items(), facts, strict=True)}


def _in_place(name: str, number: int, out_url: str) -> str:
    """Copy a part to the name of its place in the order, so that files and rows have the same order."""
    moved = f"{number:05d}-{name.split('-', 1)[1]}"
    if moved != name:
        for source, target in reversed(list(zip(part_urls(out_url, name), part_urls(out_url, moved), strict=True))):
            store.write_bytes(target, store.read_bytes(source))
    return moved


def _write_index(out_url: str, parts: list[Part], classes: Sequence[str]) -> None:
    """Write index.json, which makes the new index count; then remove parts that it does not name."""
    parts = _with_max_labels(out_url, parts)
    names = [part.name for part in parts]
    identity = json.dumps([SCHEMA_VERSION, [(p.name, p.facts.rows) for p in parts], list(classes)])
    content = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "videos": sum(part.facts.rows for part in parts),
        "refused": sum(sum(part.facts.refused.values()) for part in parts),
        "classes": list(classes),
        "parts": [_entry(part) for part in parts],
    }
    store.write_bytes(store.join(out_url, "index.json"), json.dumps(content, indent=1).encode())
    named = {f"{name}.parquet" for name in names} | {f"{part.identity}.bin" for part in parts}
    for folder in ("videos", "refused", PACKETS_FOLDER):
        for url in store.list_files(store.join(out_url, folder)):
            if posixpath.basename(url) not in named:
                store.delete(url)


def _with_max_labels(out_url: str, parts: list[Part]) -> list[Part]:
    """Count labels in the parts of earlier versions, which did not. The footers stay as they are."""

    def counted(part: Part) -> Part:
        if part.facts.max_labels is not None:
            return part
        found = most_labels(read_part(part_urls(out_url, part.name)[0], ["labels"])["labels"].to_pylist())
        return replace(part, facts=replace(part.facts, max_labels=found))

    with ThreadPoolExecutor(READ_THREADS) as threads:
        return list(threads.map(counted, parts))


def _entry(part: Part) -> dict[str, object]:
    facts = asdict(part.facts)
    del facts["labels"]  # these may be thousands of names in each of thousands of shards, so they stay in the footers
    return {**asdict(part), "facts": facts}
