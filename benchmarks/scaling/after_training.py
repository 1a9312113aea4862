"""Evaluation and extraction of corpora that no process can hold: what the process holds that waits for them.

    python -m benchmarks.scaling.after_training [--videos 100000] [--parts eval,extract] [--quick] [--json]

Corpora are made of real packet tables (benchmarks/scaling/corpus.py): 3.5 labels a video, of 157 classes with a long
tail, in partitions of 8,192. Nothing is decoded: probabilities (20 views x 157 classes) and features (128 numbers every
4 s) are drawn by the row of their video. All else is the product: plans, parts, fragments, manifests, scores. Each step
runs in a process of its own, whose peak of memory is reported with its imports.

`eval`     a test set is scored in one process, and with tasks of Ray
`extract`  features are written and joined in one process, with tasks of Ray, and in one that is killed half-way
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for `python benchmarks/scaling/after_training.py`

from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, count, say
from benchmarks.reading.corpus import default_work_folder
from benchmarks.scaling.after import evaluated, extracted
from benchmarks.scaling.corpus import SHORT
from benchmarks.scaling.steps import Step, alone, deal, settings

SMALL = 2000
PARTS = ("eval", "extract")


def main(
    videos: Annotated[int, typer.Option(help="Videos of the corpus.")] = 100_000,
    parts: Annotated[str | None, typer.Option(help="Which measurements, with commas between. Default: all.")] = None,
    tasks: Annotated[int, typer.Option(help="Tasks of Ray at once.", min=1)] = 2,
    quick: Annotated[bool, typer.Option(help="10,000 videos.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure what comes after training."""
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])  # for Ray's workers
    cache, size = work or default_work_folder(), 10_000 if quick else videos
    measure: dict[str, Callable[[Path, int, int], list[Figure]]] = {"eval": evaluation, "extract": extraction}
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
        for name, number in (("large", size), ("small", SMALL)):
            _say(f"dealt {number} videos", alone(deal, f"{folder}/{name}", number, SHORT, cache))
        found = [figure for part in (parts.split(",") if parts else PARTS)
                 for figure in measure[part](Path(folder), size, tasks)]  # fmt: skip
    figures.show(found, as_json, "After training")


def evaluation(folder: Path, videos: int, tasks: int) -> list[Figure]:
    """Scores of a test set."""
    small = alone(evaluated, settings(folder, "small-run", folder / "small"), 0)
    here = alone(evaluated, settings(folder, "here", folder / "large"), 0)
    _say("evaluated here", here)
    there = alone(evaluated, settings(folder, "there", folder / "large"), tasks)
    _say("evaluated with Ray", there)
    scores, again = here.result, there.result
    say(f"  mAP {100 * scores.map_max:.3f} (max), {100 * scores.map_mean:.3f} (mean), {scores.undecodable} undecodable")
    return [
        count("eval.driver_mb", max(here.peak_mb, there.peak_mb), "MB", videos),
        count("eval.driver_mb.here", here.peak_mb, "MB", videos),
        count("eval.driver_mb.ray", there.peak_mb, "MB", videos),
        count("eval.driver_kb_a_video", 1000 * (here.peak_mb - small.peak_mb) / (videos - SMALL), "KB", videos),
        count("eval.task_mb", max(each.peak_mb for each in there.tasks), "MB", len(there.tasks)),
        count("eval.core_us_a_video", 1e6 * here.core_seconds / videos, "us", videos),
        count("eval.same", float(scores == again), "1 if equal", 2),
    ]


def extraction(folder: Path, videos: int, tasks: int) -> list[Figure]:
    """Features of a corpus."""
    of_small, config = (settings(folder, "none", folder / name) for name in ("small", "large"))
    small = alone(extracted, of_small, str(folder / "features-small"), 0)
    here = alone(extracted, config, str(folder / "features-here"), 0)
    _say(f"extracted {here.result.windows} windows here", here)
    there = alone(extracted, config, str(folder / "features-ray"), tasks)
    _say("extracted with Ray", there)
    killed, stop_after = folder / "features-killed", videos // 16  # about half of the ranges
    with contextlib.suppress(BrokenProcessPool):
        alone(extracted, config, str(killed), 0, stop_after)
    before = int(killed.with_name("features-killed.made").read_text())
    again = alone(extracted, config, str(killed), 0)
    _say(f"killed after {before} windows, and extracted the rest", again)
    facts = [(folder / f"features-{name}" / "features.json").read_text() for name in ("here", "ray", "killed")]
    windows = here.result.windows
    return [
        count("extract.driver_mb", max(here.peak_mb, there.peak_mb), "MB", videos),
        count("extract.driver_mb.here", here.peak_mb, "MB", videos),
        count("extract.driver_mb.ray", there.peak_mb, "MB", videos),
        count("extract.driver_kb_a_video", 1000 * (here.peak_mb - small.peak_mb) / (videos - SMALL), "KB", videos),
        count("extract.driver_bytes", there.result.feature_bytes, "B of features", videos),
        count("extract.task_mb", max(each.peak_mb for each in there.tasks), "MB", len(there.tasks)),
        count("extract.core_us_a_window", 1e6 * here.core_seconds / windows, "us", windows),
        count("extract.made_twice", before + again.result.made - windows, "windows", windows),
        count("extract.same", float(len(set(facts)) == 1), "1 if equal", len(facts)),
    ]


def _say(what: str, step: Step) -> None:
    tasks = sum(each.cpu_seconds for each in step.tasks)
    cpu = f"{step.core_seconds:.1f} s of CPU and {tasks:.1f} s in {len(step.tasks)} tasks"
    say(f"  {what}: {step.seconds:.1f} s, {cpu}, {step.peak_mb:.0f} MB")


if __name__ == "__main__":
    typer.run(main)
