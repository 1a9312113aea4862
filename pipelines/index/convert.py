"""Take over an index of version 3: one part a tar, with packets in its rows, named by INDEX/index.json.

Nothing is read of the tars. The parts of unchanged shards become staged parts, from which a first snapshot is made, and
are then removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.named import table_of
from adaptfocus.pipelines.index.packets import UNSPLIT_SCHEMA
from adaptfocus.pipelines.index.staged import ShardFacts, read_facts, write_staged
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA, SHARD_FIELDS
from adaptfocus.pipelines.store import strict_json

OLD_VERSION = 3  # the newest that has an index.json
_FIX = "remove it and run `adaptfocus index` again"
_IN_ENTRY = tuple(name for name, _ in SHARD_FIELDS)  # columns that parts lack


@dataclass(frozen=True)
class OldPart:
    """A tar's two files in an index of version 3."""

    videos_url: str
    refused_url: str


def old_index(index_url: str) -> dict[str, Any] | None:
    """index.json, or None if there is none. Raises InputError if it is damaged, or of a newer version."""
    url = store.join(index_url, "index.json")
    if not store.exists(url):
        return None
    return strict_json.read_versioned(url, OLD_VERSION, _FIX, "update adaptfocus, or index again into another folder")


def refuse_old(index_url: str) -> None:
    """Raises InputError if there is an index of an earlier version."""
    if entry := old_index(index_url):
        raise InputError(
            f"the index at {index_url} has schema version {entry['schema_version']}, this version of adaptfocus reads "
            "4; run `adaptfocus index` again with the same shards (what is known of them is taken over)"
        )


def old_parts(index_url: str, identities: Sequence[str]) -> dict[str, OldPart]:
    """Identity -> the old part of a shard, where it can be taken over.

    A part that lost repeated ids to earlier shards is taken over only if all of those are the same.

    Args:
        identities: of all shards, in their order.
    """
    entry = old_index(index_url)
    if entry is None or entry["schema_version"] != OLD_VERSION:
        return {}
    try:
        named = [(part["identity"], part["name"]) for part in entry["parts"]]
        same = next((n for n, (old, new) in enumerate(zip(named, identities, strict=False)) if old[0] != new), None)
        first = len(named) if same is None else same
        kept = [each for n, each in enumerate(named) if n < first or each[1].count("-") == 1]
        there = {url.rsplit("/", 1)[-1] for url in store.list_files(store.join(index_url, "videos"))}
        return {i: _part(index_url, name) for i, name in kept if f"{name}.parquet" in there and i in {*identities}}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{store.join(index_url, 'index.json')} is damaged ({error!r:.100}); {_FIX}") from None


def convert_part(index_url: str, identity: str, version: tuple[int, str], old: OldPart) -> ShardFacts:
    """Write an old part as a staged one.

    Args:
        version: size and tag of the shard, which index.json had.
    """
    facts = read_facts(old.videos_url)
    schema = pa.schema([field for field in UNSPLIT_SCHEMA if field.name not in _IN_ENTRY])
    rows = table_of(store.read_bytes(old.videos_url), schema)
    for (name, kind), value in zip(SHARD_FIELDS, version, strict=True):
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, kind), rows.num_rows))
    refused = REFUSED_SCHEMA.empty_table()
    if facts.refused:
        refused = table_of(store.read_bytes(old.refused_url), REFUSED_SCHEMA)
    return write_staged(index_url, identity, rows.select(UNSPLIT_SCHEMA.names), refused, facts.seconds)


def remove_old(index_url: str) -> None:
    """Remove an index of version 3 whose videos are in a snapshot."""
    if not store.exists(store.join(index_url, "index.json")):
        return
    entry = old_index(index_url)
    for part in (entry or {"parts": []})["parts"]:
        old = _part(index_url, part["name"])
        store.delete(old.videos_url)
        store.delete(old.refused_url)
    store.delete(store.join(index_url, "index.json"))


def _part(index_url: str, name: str) -> OldPart:
    return OldPart(*(store.inside(index_url, folder, f"{name}.parquet") for folder in ("videos", "refused")))
