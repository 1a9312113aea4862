"""Tars in object storage -> the video index.

Input: shards as URLs, globs, brace ranges or a folder; a class list and a labels file if there are any.
Does: indexes the shards side by side, takes over the parts of those that have not changed, leaves out repeated ids.
Output: ``OUT/videos/*.parquet``, ``OUT/refused/*.parquet``, and ``OUT/index.json`` last: it names the parts in
their order, and until it is written nothing of the new index counts.

A part's name holds a hash of the shard's URL, size and tag and of all that decides what its rows say: a part that is
there under its name is the part, whoever wrote it and whenever.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa

from adaptfocus.pipelines import storage, strict_json
from adaptfocus.pipelines.datasets.annotations import normal
from adaptfocus.pipelines.datasets.manifest import LOOKUP_THREADS, read_classes, read_labels
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index_checks import IDS_SHOWN, check_some, first_reasons, refused_rows, unmatched
from adaptfocus.pipelines.index_parts import (
    READ_THREADS,
    Part,
    ShardFacts,
    leave_out_duplicates,
    part_urls,
    read_facts,
    read_ids,
    read_part,
)
from adaptfocus.pipelines.index_pool import index_shards
from adaptfocus.pipelines.index_rows import ShardTask
from adaptfocus.pipelines.isolated import DEFAULT_ISOLATION, Isolation
from adaptfocus.pipelines.packet_arrays import NOTES
from adaptfocus.pipelines.records import INDEX_SCHEMA, SCHEMA_VERSION, SHARD_FIELDS
from adaptfocus.pipelines.shard_urls import find_shards, shard_names
from adaptfocus.pipelines.tables import read_table

Progress = Callable[[int, int, str], None]  # shards done, shards in all, the shard just done

# Raise it when a row would say something else about the same video: all shards are then read again.
ROWS_VERSION = 3


@dataclass(frozen=True)
class IndexSummary:
    """What a run of `build_index` did."""

    index_url: str
    shards: int
    shards_read: int
    shards_unchanged: int
    videos: int
    unlabelled: int
    refused: dict[str, int]  # kind -> members, videos or shards that are not in the index
    intervals_changed: dict[str, int]  # interval_clamped, interval_dropped
    noted: dict[str, int]  # of videos that are indexed, but not as they were written: packet_arrays.NOTES
    labels_without_video: int  # rows of the labels file that name no indexed video
    unmatched_ids: tuple[str, ...]  # the first of them
    reasons: tuple[str, ...]  # the first refused rows, as lines
    classes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class VideoIndex:
    """The whole index in memory. A video's row in `table` is its `video_row` everywhere else."""

    table: pa.Table  # INDEX_SCHEMA and SHARD_FIELDS
    classes: list[str]
    fingerprint: str  # changes with any row


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
    """Index the shards; may be run again at any time, and then reads only what is new or has changed.

    Args:
        shards: URLs, globs, brace ranges (``train-{000000..000009}.tar``) or folders (all ``*.tar`` in them).
        classes: the class list; without it that of a ``classes.txt`` beside the first shard, else all labels found.
        labels_url: a CSV or JSONL file with `id` and `labels`; goes before what lies in the tars.
        workers: processes; as many as there are cores if None. 1 stays in this process.
        isolation: what one video may take, in a process of its own beside each; None: it is read without one.
        prefix_shard: ids are ``SHARD/KEY``: for tars whose keys begin anew in each. SHARD is the tar's path below the
            folder that holds all of them, without ``.tar``.

    Raises:
        InputError: no shard matches, a label of `labels_url` is not a class, none of its ids is that of a video, or
            nothing at all could be indexed.
        StorageError: a place cannot be read or written.
    """
    started = time.perf_counter()
    found = find_shards(shards)
    storage.check_writable(out_url)
    class_list = _classes_beside(found[0]) if classes is None else tuple(map(normal, classes))
    listed = list(read_labels(labels_url, class_list)) if labels_url else []
    prefixes = [f"{name}/" for name in shard_names(found)] if prefix_shard else [""] * len(found)
    labels_tag = hashlib.sha256(storage.read_bytes(labels_url)).hexdigest() if labels_url else ""
    # All but the shard itself that decides what a row says.
    settings = json.dumps([SCHEMA_VERSION, ROWS_VERSION, class_list, labels_tag])
    wanted = _identified(found, prefixes, settings)
    given = {"classes": class_list, "labels_url": labels_url, "isolation": isolation, "labels_tag": labels_tag}
    task = partial(ShardTask, **given)
    tasks = [partial(task, id_prefix=prefix) for prefix in prefixes]
    parts, read = _parts(wanted, out_url, tasks, workers, progress)
    check_some(parts, out_url)
    parts = leave_out_duplicates(parts, out_url)
    left = unmatched(labels_url or "", listed, {i for part in parts for i in read_ids(out_url, part)}) if listed else []
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


def load_index(index_url: str, columns: list[str] | None = None) -> VideoIndex:
    """The index as one table, in the order of its parts.

    Args:
        columns: of INDEX_SCHEMA; all, and SHARD_FIELDS, if None. The packets are most of an index.

    Raises:
        InputError: there is no index, or another version wrote it.
        StorageError: it cannot be read.
    """
    entry = _entry_of(index_url)
    if entry["schema_version"] < SCHEMA_VERSION:
        raise InputError(
            f"the index at {index_url} has schema version {entry['schema_version']}, this version of adaptfocus reads "
            f"{SCHEMA_VERSION}; run `adaptfocus index` again with the same shards (they are only read)"
        )
    names = [part["name"] for part in entry["parts"]]
    with ThreadPoolExecutor(READ_THREADS) as threads:
        tables = list(threads.map(lambda name: read_part(part_urls(index_url, name)[0], columns), names))
    schema = INDEX_SCHEMA if columns is None else pa.schema([INDEX_SCHEMA.field(name) for name in columns])
    tables = [table.select(schema.names).cast(schema) for table in tables]
    if columns is None:
        tables = [_with_shard(table, part) for table, part in zip(tables, entry["parts"], strict=True)]
    table = pa.concat_tables(tables)
    return VideoIndex(table, list(entry["classes"]), entry["fingerprint"])


def refused_of(index_url: str) -> Iterator[dict[str, str]]:
    """What an index leaves out or changed, row by row (REFUSED_SCHEMA). Raises InputError if there is no index."""
    entry = _entry_of(index_url)
    parts = [Part(**{**part, "facts": ShardFacts(labels=[], **part["facts"])}) for part in entry["parts"]]
    return refused_rows(index_url, parts)


def read_rows(index_url: str, start: int, stop: int, fingerprint: str) -> pa.Table:
    """Rows [start, stop) of an index, INDEX_SCHEMA and SHARD_FIELDS, without reading the others.

    Raises:
        InputError: the index is not the one with this fingerprint any more.
        StorageError: it cannot be read.
    """
    entry = _index_with(index_url, fingerprint)
    tables, first = [], 0
    for part in entry["parts"]:
        rows = part["facts"]["rows"]
        begin, end = max(start - first, 0), min(stop - first, rows)
        if begin < end:
            table = read_table(part_urls(index_url, part["name"])[0], INDEX_SCHEMA, begin, end)
            tables.append(_with_shard(table, part))
        first += rows
    return pa.concat_tables(tables)


def notes_of(index_url: str) -> dict[str, int]:
    """Kind -> videos of an index that are not as they were written (packet_arrays.NOTES): files that end early."""
    entry = _read_index(index_url) or {"parts": []}
    counts = sum((Counter(part["facts"]["refused"]) for part in entry["parts"]), Counter())
    return {kind: n for kind, n in sorted(counts.items()) if kind in NOTES}


@lru_cache(maxsize=2)
def _index_with(index_url: str, fingerprint: str) -> dict:
    entry = _read_index(index_url)
    if entry is None or entry["fingerprint"] != fingerprint:
        raise InputError(f"the index at {index_url} has been made anew meanwhile; begin again, in another folder")
    return entry


def _with_shard(table: pa.Table, part: Mapping[str, Any]) -> pa.Table:
    """A part's rows with what index.json says of their shard."""
    for (name, kind), value in zip(SHARD_FIELDS, (part["size_bytes"], part["tag"]), strict=True):
        table = table.append_column(name, pa.repeat(pa.scalar(value, kind), table.num_rows))
    return table


def _classes_beside(shard_url: str) -> tuple[str, ...] | None:
    """The class list that `pack` wrote into the shard's folder, if there is one."""
    url = storage.join(posixpath.dirname(shard_url), "classes.txt")
    is_listed = not shard_url.startswith(("http://", "https://"))  # web servers answer for what they do not have
    # One that is empty lies beside videos that nobody has labelled.
    return tuple(read_classes(url, may_be_empty=True)) or None if is_listed and storage.exists(url) else None


def _identified(shard_urls: Sequence[str], prefixes: Sequence[str], settings: str) -> list[tuple[str, int, str, str]]:
    """(URL, size in bytes, tag, identity) of each shard."""
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        sizes_and_tags = list(threads.map(storage.size_and_tag, shard_urls))
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
    """A part of each shard, in order, and how many shards were read for it."""
    parts = _unchanged(wanted, out_url)
    tasks: dict[int, ShardTask] = {}
    for number, (url, size_bytes, _, identity) in enumerate(wanted):
        if number not in parts:
            urls = part_urls(out_url, f"{number:05d}-{identity}")
            tasks[number] = make[number](url, size_bytes, *urls)
    done = len(parts)
    for number, facts in index_shards(tasks, workers or os.cpu_count() or 1):
        url, size_bytes, tag, identity = wanted[number]
        parts[number] = Part(url, size_bytes, tag, identity, f"{number:05d}-{identity}", facts)
        done += 1
        if progress:
            progress(done, len(wanted), url)
    return [parts[number] for number in range(len(wanted))], len(tasks)


def _unchanged(wanted: list[tuple[str, int, str, str]], out_url: str) -> dict[int, Part]:
    """The parts that can be taken over, by the shard's place in the order.

    A part that lost repeated ids to earlier shards is taken over only while all of those are what they were.
    """
    listed = storage.list_files(storage.join(out_url, "videos"))
    there = {posixpath.basename(url).removesuffix(".parquet") for url in listed}
    old = [(part["identity"], part["name"]) for part in (_read_index(out_url) or {"parts": []})["parts"]]
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
    """Copy a part under its place in the order, so that the files' order stays the rows' order."""
    moved = f"{number:05d}-{name.split('-', 1)[1]}"
    if moved != name:
        for source, target in reversed(list(zip(part_urls(out_url, name), part_urls(out_url, moved), strict=True))):
            storage.write_bytes(target, storage.read_bytes(source))
    return moved


def _write_index(out_url: str, parts: list[Part], classes: Sequence[str]) -> None:
    """Write index.json, the moment from which the new index counts; then remove parts that it does not name."""
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
    storage.write_bytes(storage.join(out_url, "index.json"), json.dumps(content, indent=1).encode())
    for folder in ("videos", "refused"):
        for url in storage.list_files(storage.join(out_url, folder)):
            if posixpath.basename(url).removesuffix(".parquet") not in names:
                storage.delete(url)


def _entry_of(index_url: str) -> dict:
    """index.json. Raises InputError if there is none."""
    entry = _read_index(index_url)
    if entry is None:
        storage.list_files(index_url)  # raises if it is the bucket that is not there
        raise InputError(f"there is no index at {index_url} (no index.json); make it with `adaptfocus index`")
    return entry


def _entry(part: Part) -> dict[str, object]:
    facts = asdict(part.facts)
    del facts["labels"]  # thousands of names for each of thousands of shards; they stay in the footer
    return {**asdict(part), "facts": facts}


def _read_index(index_url: str) -> dict | None:
    """index.json, or None if there is none. Raises InputError if it is of a newer version or damaged."""
    url = storage.join(index_url, "index.json")
    if not storage.exists(url):
        return None
    fix = "remove it and run `adaptfocus index` again"
    content = strict_json.read(url, fix)
    try:
        version = int(content["schema_version"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{url} is damaged; {fix}") from None
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{url} has schema version {version}, this version of adaptfocus knows {SCHEMA_VERSION}; "
            "update adaptfocus, or index again into another folder"
        )
    return content
