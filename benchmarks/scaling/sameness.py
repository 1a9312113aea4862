"""Whether plans, snapshots and indexes are the same bytes, whoever made them, in how many tasks, and after kills."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adaptfocus.pipelines.index.deal import Sizes
from benchmarks.measuring.figures import say
from benchmarks.scaling.corpus import SHORT
from benchmarks.scaling.steps import alone, deal, publish, settings, trained

# Small partitions, so that some ten thousand videos are many windows.
SIZES = Sizes(partition_rows=512, range_partitions=8, group_rows=4096)


class Way(NamedTuple):
    """A way to do the same."""

    name: str
    tasks: int  # of Ray at once; 0: without Ray
    kills: bool = False  # a task of each kind is killed once


WAYS = (Way("local", 0), Way("ray_1", 1), Way("ray_2", 2), Way("ray_4", 4), Way("ray_2_killed", 2, True))


def hashes_of_ways(folder: Path, cache: Path, videos: int, ways: Sequence[Way] = WAYS) -> dict[str, tuple[str, ...]]:
    """Way -> SHA-256 of the index, of the first plan, and of the snapshot and plan that follow from one ledger."""
    found: dict[str, tuple[str, ...]] = {}
    for way in ways:
        kills = [_folder(folder / "kills" / way.name / kind) if way.kills else None for kind in ("deal", "0", "1")]
        index = folder / f"index-{way.name}"
        alone(deal, str(index), videos, SHORT, cache, way.tasks, SIZES, kills[0])
        own = settings(folder, f"first-{way.name}", folder / "index-local")
        alone(publish, own, 0, way.tasks, kills[1])
        if not (folder / "trained").exists():
            shutil.copytree(folder / own.name, folder / "trained")
            alone(trained, settings(folder, "trained", own.index), 0)
        after = settings(folder, f"second-{way.name}", own.index)
        shutil.copytree(folder / "trained", folder / after.name)
        alone(publish, after, 1, way.tasks, kills[2])
        found[way.name] = (hash_of(index), hash_of(folder / own.name), hash_of(folder / after.name))
        killed = [mark.name for each in kills if each for mark in each.iterdir()]
        say(f"{way.name}: {[each[:8] for each in found[way.name]]} {f'killed in {killed}' if way.kills else ''}")
        if way.kills and not {"write_group", "write_range", "draw_window", "merge_window"} <= {*killed}:
            raise RuntimeError(f"no task was killed in some kind of job, only in {killed}")
    return found


def hash_of(folder: Path) -> str:
    """The SHA-256 of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
