"""Read an index: its videos, rows, refused files and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.checks import refused_rows
from adaptfocus.pipelines.index.packets import packets_urls, with_packets
from adaptfocus.pipelines.index.parts import READ_THREADS, Part, ShardFacts, most_labels, part_urls, read_part
from adaptfocus.pipelines.schemas import INDEX_SCHEMA, SCHEMA_VERSION
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.video.table import NOTES

# Raise this version when a row would differ for the same video: all shards are then read again.
ROWS_VERSION = 3
LOADED_SCHEMA = pa.schema([pa.field("video_row", pa.int64()), *INDEX_SCHEMA])


@dataclass(frozen=True)
class VideoIndex:
    """The whole index in memory."""

    table: pa.Table  # LOADED_SCHEMA, or `video_row` and the columns asked for
    classes: list[str]
    fingerprint: str  # changes if any row changes


@dataclass(frozen=True)
class IndexFacts:
    """What index.json says. Any number of processes may know it, however many shards there are."""

    videos: int
    unlabelled: int  # videos without a label
    max_labels: int  # the largest number of labels of a video; at least 1
    classes: list[str]
    fingerprint: str  # as in VideoIndex


def open_index(index_url: str) -> IndexFacts:
    """The facts about an index, by two requests. No row is read.

    Raises:
        InputError, StorageError: as `load_index`.
    """
    entry = _current_entry_of(index_url)
    facts = [part["facts"] for part in entry["parts"]]
    if any(each.get("max_labels") is None for each in facts):  # an earlier version did not count them
        most = most_labels(load_index(index_url, ["labels"]).table["labels"].to_pylist())
    else:
        most = max((each["max_labels"] for each in facts), default=0)
    return IndexFacts(
        videos=sum(each["rows"] for each in facts),
        unlabelled=sum(each["unlabelled"] for each in facts),
        max_labels=most or 1,
        classes=list(entry["classes"]),
        fingerprint=entry["fingerprint"],
    )


def load_index(index_url: str, columns: list[str] | None = None) -> VideoIndex:
    """The index as one table, in the order of its parts.

    Args:
        columns: columns of INDEX_SCHEMA; all of them if None. `video_row` comes first in any case.

    Raises:
        InputError: there is no index, another version wrote it, or it is damaged.
        StorageError: it cannot be read.
    """
    entry = _current_entry_of(index_url)
    names = [part["name"] for part in entry["parts"]]
    with ThreadPoolExecutor(READ_THREADS) as threads:
        tables = list(threads.map(lambda name: read_part(part_urls(index_url, name)[0], columns), names))
    schema = INDEX_SCHEMA if columns is None else pa.schema([INDEX_SCHEMA.field(name) for name in columns])
    tables = [_loaded(table.select(schema.names).cast(schema), index_url) for table in tables]
    table, said = pa.concat_tables(tables), sum(part["facts"]["rows"] for part in entry["parts"])
    if table.num_rows != said:
        raise InputError(
            f"{index_url} is damaged: index.json says {said} videos, and its parts have {table.num_rows}; remove "
            "index.json and run `adaptfocus index` again"
        )
    return VideoIndex(_numbered(table, 0), list(entry["classes"]), entry["fingerprint"])


def refused_of(index_url: str) -> Iterator[dict[str, str]]:
    """Rows of REFUSED_SCHEMA: what an index left out or changed. Raises InputError if there is no index."""
    entry = _entry_of(index_url)
    parts = [Part(**{**part, "facts": ShardFacts(labels=[], **part["facts"])}) for part in entry["parts"]]
    return refused_rows(index_url, parts)


def read_rows(index_url: str, start: int, stop: int, fingerprint: str) -> pa.Table:
    """Rows [start, stop) of an index with their packets, without reading the others.

    Raises:
        InputError: the index no longer has this fingerprint.
        StorageError: it cannot be read.
    """
    entry = _index_with(index_url, fingerprint)
    tables, first = [], 0
    for part in entry["parts"]:
        rows = part["facts"]["rows"]
        begin, end = max(start - first, 0), min(stop - first, rows)
        if begin < end:
            table = read_table(part_urls(index_url, part["name"])[0], INDEX_SCHEMA, begin, end)
            tables.append(_loaded(table, index_url))
        first += rows
    return with_packets(_numbered(pa.concat_tables(tables), start))


def notes_of(index_url: str) -> dict[str, int]:
    """Kind -> number of videos that are indexed with changes (NOTES of pipelines/video/table.py)."""
    entry = read_entry(index_url) or {"parts": []}
    counts = sum((Counter(part["facts"]["refused"]) for part in entry["parts"]), Counter())
    return {kind: n for kind, n in sorted(counts.items()) if kind in NOTES}


@lru_cache(maxsize=2)
def _index_with(index_url: str, fingerprint: str) -> dict:
    entry = read_entry(index_url)
    if entry is None or entry["fingerprint"] != fingerprint:
        raise InputError(f"the index at {index_url} was made again meanwhile; start again, in another folder")
    return entry


def _loaded(table: pa.Table, index_url: str) -> pa.Table:
    """Rows with the URLs of their packets instead of the names."""
    place = table.schema.get_field_index("packets_url")
    if place < 0:
        return table
    return table.set_column(place, table.schema.field(place), packets_urls(table.column(place), index_url))


def _numbered(table: pa.Table, first: int) -> pa.Table:
    return table.add_column(0, "video_row", pa.array(np.arange(first, first + table.num_rows)))


def _entry_of(index_url: str) -> dict:
    """index.json. Raises InputError if there is none."""
    entry = read_entry(index_url)
    if entry is None:
        store.list_files(index_url)  # raises if the bucket does not exist
        raise InputError(f"there is no index at {index_url} (no index.json); make it with `adaptfocus index`")
    return entry


def _current_entry_of(index_url: str) -> dict:
    """index.json of this version. Raises InputError if there is none, or an earlier version wrote it."""
    entry = _entry_of(index_url)
    if entry["schema_version"] < SCHEMA_VERSION:
        raise InputError(
            f"the index at {index_url} has schema version {entry['schema_version']}, this version of adaptfocus reads "
            f"{SCHEMA_VERSION}; run `adaptfocus index` again with the same shards (they are only read)"
        )
    if reason := _damage(entry):
        url = store.join(index_url, "index.json")
        raise InputError(f"{url} is damaged ({reason}); remove it and run `adaptfocus index` again")
    return entry


def _damage(entry: Mapping[str, Any]) -> str | None:
    """What in index.json no version has written."""
    parts, classes = entry.get("parts"), entry.get("classes")
    if not isinstance(parts, list) or not parts:
        return "it names no shards"
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        return "its classes are not a list of names"
    if not isinstance(entry.get("fingerprint"), str):
        return "it has no fingerprint"
    for number, part in enumerate(parts):
        facts = part.get("facts") if isinstance(part, dict) else None
        if not isinstance(facts, dict) or not isinstance(part.get("name"), str):
            return f"part {number} has no name or no facts"
        rows, unlabelled, most = (facts.get(name) for name in ("rows", "unlabelled", "max_labels"))
        if not (_is_count(rows) and _is_count(unlabelled, rows)):
            return f"part {number} has {rows!r:.50} rows, {unlabelled!r:.50} of them without a label"
        labelled = unlabelled < rows
        if most is not None and not (_is_count(most, len(classes)) and (most > 0) == labelled):
            return f"part {number} has up to {most!r:.50} labels a video, of {len(classes)} classes"
    return None


def _is_count(value: object, most: int | None = None) -> TypeGuard[int]:
    return type(value) is int and value >= 0 and (most is None or value <= most)


def read_entry(index_url: str) -> dict | None:
    """index.json, or None if there is none. Raises InputError if it is of a newer version or damaged."""
    url = store.join(index_url, "index.json")
    if not store.exists(url):
        return None
    return strict_json.read_versioned(
        url,
        SCHEMA_VERSION,
        "remove it and run `adaptfocus index` again",
        "update adaptfocus, or index again into another folder",
    )
