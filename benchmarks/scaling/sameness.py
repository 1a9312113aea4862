"""Whether plans, snapshots and indexes are the same bytes, whoever made them, in how many tasks, and after kills."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.trainers.epochs.publishing import Planning
from adaptfocus.trainers.runs.log import Run
from benchmarks.measuring.figures import say
from benchmarks.scaling.corpus import SHORT, templates, write_corpus
from benchmarks.scaling.steps import alone, engine, settings
from benchmarks.scaling.steps import trained as train_epoch

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
        kills = folder / "kills" / way.name if way.kills else None
        found[way.name] = alone(_hashes_of_way, folder, cache, videos, way, kills)
        killed = {mark.name for mark in kills.iterdir()} if kills else set()
        say(f"  {way.name}: {', '.join(each[:8] for each in found[way.name])}; killed: {sorted(killed) or 'none'}")
        if kills and not {"write_group", "write_range", "draw_window", "merge_window"} <= killed:
            raise RuntimeError(f"no task was killed in some kind of job, only in {killed}")
    return found


def _hashes_of_way(folder: Path, cache: Path, videos: int, way: Way, kills: Path | None) -> tuple[str, ...]:
    index, trained = folder / f"index-{way.name}", folder / "trained"
    own, after = (settings(folder, f"{name}-{way.name}", folder / "index-local") for name in ("first", "second"))
    if kills:
        kills.mkdir(parents=True)
    with engine(way.tasks, kills) as over:
        write_corpus(str(index), videos, templates(cache, SHORT), over, SIZES)
        Planning(Run(own.url), own, over).publish(0, None)
        if not trained.exists():  # a ledger's file names its writer, so all ways have the same
            shutil.copytree(folder / own.name, trained)
            train_epoch(settings(folder, trained.name, own.index), 0)
        shutil.copytree(trained, folder / after.name)
        run = Run(after.url)
        Planning(run, after, over).publish(1, run.newest()[1])
    return hash_of(index), hash_of(folder / own.name), hash_of(folder / after.name)


def hash_of(folder: Path) -> str:
    """The SHA-256 of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
