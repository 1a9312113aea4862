"""Corpora that grow and epochs that are stretches: what is touched, lost or twice, and what a model learns.

    python -m benchmarks.growth [--parts append,run,touched,priority,worlds] [--seeds 0,1,2] [--quick] [--json]

`append`    100 tars are added to an index of 1,000 on S3: requests beyond reading the tars, objects that change
`run`       a run follows its index while it grows: clips lost or trained twice, with full epochs and with stretches
`touched`   the share of partitions that an epoch of 1 % of the corpus rewrites
`priority`  how far the mean number of bags of a video is from its share of the weights, over 200 epochs
`worlds`    worlds a and b by full epochs and by stretches of a quarter, and a by priority; curves are scored

`run` and `touched` use corpora of real packet tables (benchmarks/scaling/corpus.py); nothing is decoded or trained
there. `worlds` trains on frames that are decoded once.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/growth.py`

from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, count, say
from benchmarks.reading.corpus import default_work_folder
from benchmarks.regimes import numbers
from benchmarks.scaling.growing import append, followed, priority_error, touched_share
from benchmarks.scaling.steps import alone
from benchmarks.studies import stretches

PARTS = ("append", "run", "touched", "priority", "worlds")
QUICK_PARTS = PARTS[:-1]


def main(
    parts: Annotated[str | None, typer.Option(help="Which measurements, with commas between. Default: all.")] = None,
    seeds: Annotated[str, typer.Option(help="Of the worlds, with commas between.")] = "0,1,2",
    processes: Annotated[int, typer.Option(help="Trainings at once.", min=1)] = 2,
    out: Annotated[Path, typer.Option(help="Folder of worlds and runs. Finished runs are kept.")] = Path("growth-out"),
    quick: Annotated[bool, typer.Option(help="Smaller corpora; without the part worlds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure growth and stretches."""
    os.environ |= {"OMP_NUM_THREADS": "1"}
    cache = work or default_work_folder()
    measure: dict[str, Callable[[Path], list[Figure]]] = {
        "append": lambda folder: appended(folder, cache, 300 if quick else 1000),
        "run": lambda folder: run(folder, cache, 4000 if quick else 20_000),
        "touched": lambda folder: touched(folder, cache, 2000 if quick else 4000),
        "priority": lambda _: priority(200),
        "worlds": lambda _: worlds(out, numbers("--seeds", seeds), processes),
    }
    found: list[Figure] = []
    for part in parts.split(",") if parts else QUICK_PARTS if quick else PARTS:
        with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
            say(part)
            found += measure[part](Path(folder))
    figures.show(found, as_json, "Growth")


def appended(folder: Path, cache: Path, shards: int) -> list[Figure]:
    """An index of `shards` tars gets 100 more, of 100 videos each."""
    done = alone(append, folder, cache, shards, 100, 100)
    return [
        count("grow.append_requests", done.requests, "requests", 100),
        count("grow.append_requests.per_shard", done.requests / 100, "requests", 100),
        count("grow.append.earlier_partitions", done.partitions, "partitions", shards),
        count("grow.append.new_partitions", done.new_partitions, "partitions", 100),
        count("grow.append.objects_changed", done.changed, "objects", shards),
    ]


def run(folder: Path, cache: Path, videos: int) -> list[Figure]:
    """Four epochs of a run that follows its index, which grows by a tenth."""
    found = []
    for name, bags in (("full_epochs", None), ("stretches", videos // 4 // 64 * 64)):
        audit = alone(followed, folder / name, cache, videos, videos // 10, bags)
        clips = audit.clips_planned
        found.append(count(f"grow.lost.{name}", audit.clips_lost, "clips", clips))
        found.append(count(f"grow.twice.{name}", audit.clips_twice, "clips", clips))
    return found


def touched(folder: Path, cache: Path, partitions: int) -> list[Figure]:
    """Epochs of 1 % of a corpus."""
    shares = alone(touched_share, folder, cache, partitions, 16, 3)
    return [figures.mean_and_std("stretch.touched", [100 * each for each in shares], "%")]


def priority(epochs: int) -> list[Figure]:
    """8,000 videos in 40 partitions, 1,600 bags an epoch."""
    error, videos = priority_error(40, 200, 1600, epochs)
    return [count("stretch.priority_error", error, "standard errors", videos)]


def worlds(out: Path, seeds: list[int], processes: int) -> list[Figure]:
    """Worlds a and b, by full epochs and by stretches; a by priority too."""
    found: list[Figure] = []
    for world, priorities in (("a", stretches.PRIORITIES), ("b", ())):
        runs = stretches.train_all(out, world, seeds, priorities, stretches.EPOCHS, processes)
        found += stretches.figures_of(runs, world, stretches.EPOCHS)
    return found


if __name__ == "__main__":
    typer.run(main)
