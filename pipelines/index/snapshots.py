"""Snapshots: what an index holds at one time.

``INDEX/snapshots/000012.json`` is created exclusively and never changed. It has the counts of the whole index, and
names the manifests of its partitions, the lists of its shards and those of what was refused. The newest one is the
index.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.named import NAME
from adaptfocus.pipelines.index.partitions import Partition, read_manifest
from adaptfocus.pipelines.schemas import SCHEMA_VERSION
from adaptfocus.pipelines.store import strict_json

SNAPSHOTS = "snapshots"
_FILE = re.compile(r"(\d{6,})\.json")
_FIX = "remove it and run `adaptfocus index` again"


@dataclass(frozen=True)
class Snapshot:
    """The content of a snapshot's file."""

    number: int
    parent: int | None  # number of the snapshot before; None: the first, or its videos have other rows than before
    fingerprint: str  # a hash of the parent's and of all rows: it changes if any row changes
    videos: int
    unlabelled: int
    max_labels: int  # the largest number of labels of a video; 0 if no video has any
    classes: list[str]
    label_counts: dict[str, int]  # class -> its number of videos
    refused: dict[str, int]  # kind -> members, videos or shards that were refused, or changes of those that were not
    next_uid: int  # of the next partition
    manifests: list[str]
    shard_lists: list[str]
    refused_lists: list[str]


def fingerprint_of(parent: Snapshot | None, classes: list[str], manifests: list[str]) -> str:
    """The names of manifests are hashes of their content, which names partitions by hashes of theirs."""
    content = [SCHEMA_VERSION, parent.fingerprint if parent else None, classes, manifests]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def newest_snapshot(index_url: str) -> Snapshot | None:
    """The newest snapshot, by two requests; None if there is none.

    Raises:
        InputError: it is damaged, or of a newer version. StorageError: it cannot be read.
    """
    numbers = snapshot_numbers(index_url)
    return read_snapshot(index_url, numbers[-1]) if numbers else None


def snapshot_numbers(index_url: str) -> list[int]:
    """The numbers of all snapshots, ascending. Earlier ones may have been removed."""
    names = (url.rsplit("/", 1)[-1] for url in store.list_files(store.join(index_url, SNAPSHOTS)))
    return sorted(int(match[1]) for name in names if (match := _FILE.fullmatch(name)))


def read_snapshot(index_url: str, number: int) -> Snapshot:
    """One snapshot. Raises as `newest_snapshot`."""
    url = _url(index_url, number)
    content = strict_json.read_versioned(url, SCHEMA_VERSION, _FIX, "update adaptfocus, or index into another folder")
    if reason := _damage(content, number):
        raise InputError(f"{url} is damaged ({reason}); {_FIX}")
    return Snapshot(**{field.name: content[field.name] for field in fields(Snapshot)})


def write_snapshot(index_url: str, snapshot: Snapshot) -> None:
    """Make a snapshot the newest one.

    Raises:
        InputError: another process was first.
    """
    content = {"schema_version": SCHEMA_VERSION, **asdict(snapshot)}
    if not store.create_exclusive(_url(index_url, snapshot.number), json.dumps(content, indent=1).encode()):
        raise overtaken(index_url)


def overtaken(index_url: str) -> InputError:
    """The error of a process while which another one has written the next snapshot."""
    return InputError(
        f"another process has indexed into {index_url} at the same time; run `adaptfocus index` again, and one after "
        "the other"
    )


def partitions_of(index_url: str, snapshot: Snapshot) -> tuple[Partition, ...]:
    """All partitions of a snapshot, by uid.

    Raises InputError if their videos are not as many as the snapshot says, or two of them have one uid.
    """
    found = [each for name in snapshot.manifests for each in read_manifest(index_url, name)]
    found.sort(key=lambda each: each.uid)
    said = sum(each.rows for each in found)
    if said != snapshot.videos:
        raise InputError(
            f"{_url(index_url, snapshot.number)} is damaged (it says {snapshot.videos} videos, and its manifests "
            f"{said}); {_FIX}"
        )
    uids = [each.uid for each in found]
    if len({*uids}) < len(uids) or not all(0 <= uid < snapshot.next_uid for uid in uids):
        raise InputError(
            f"{_url(index_url, snapshot.number)} is damaged (its manifests do not have each partition once, below "
            f"{snapshot.next_uid}); {_FIX}"
        )
    return tuple(found)


def _url(index_url: str, number: int) -> str:
    return store.join(index_url, SNAPSHOTS, f"{number:06d}.json")


def _damage(content: Mapping[str, Any], number: int) -> str | None:
    """What no version has written."""
    parent, classes, videos = content.get("parent"), content.get("classes"), content.get("videos")
    if content.get("number") != number or not (parent is None or _is_count(parent, number - 1)):
        return f"it is number {content.get('number')!r:.50} after {parent!r:.50}"
    if not _are_names(classes):
        return "its classes are not a list of names"
    if not isinstance(content.get("fingerprint"), str):
        return "it has no fingerprint"
    for name in ("manifests", "shard_lists", "refused_lists"):
        named = content.get(name)
        if not _are_names(named) or not all(NAME.fullmatch(each) for each in named):
            return f"its {name} are not a list of names"
    if not all("-" in name for name in content["refused_lists"]):
        return "its refused_lists do not say their generation"
    if not content["manifests"]:
        return "it names no partitions"
    unlabelled, most = content.get("unlabelled"), content.get("max_labels")
    if not (_is_count(videos) and _is_count(unlabelled, videos) and _is_count(content.get("next_uid"))):
        return f"it has {videos!r:.50} videos, {unlabelled!r:.50} of them without a label"
    if not (_is_count(most, len(classes)) and (most > 0) == (unlabelled < videos)):
        return f"it has up to {most!r:.50} labels a video, of {len(classes)} classes"
    counts, refused = content.get("label_counts"), content.get("refused")
    if (
        not isinstance(counts, dict)
        or [*counts] != [*dict.fromkeys(classes)]
        or not all(_is_count(n, videos) for n in counts.values())
    ):
        return "its counts of labels are not those of its classes"
    if not isinstance(refused, dict) or not all(_is_count(n) for n in refused.values()):
        return "its counts of what was refused are not numbers"
    return None


def _are_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_count(value: object, most: int | None = None) -> TypeGuard[int]:
    return type(value) is int and value >= 0 and (most is None or value <= most)
