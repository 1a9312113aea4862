"""What it costs to decode bags (the clips of one video in a batch) in another process.

    python -m benchmarks.isolation [--quick] [--json]

Clips have 32 frames, stride 3, 224 pixels; there are 4 of each 10-minute video at 360p, from local files. The same plan
goes through the plain loop and through Ray Data, each with and without isolation. Repetitions take turns after a
warm-up. CPU is that of all processes. Ratios are of totals, with 90 % bootstrap intervals over the repetitions.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/isolation.py`

from adaptfocus.infra.running.cluster import connect
from adaptfocus.pipelines.apart import pool
from adaptfocus.pipelines.apart.process import DecoderProcess
from adaptfocus.pipelines.decode.settings import Isolation
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.stream.clips import stream
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.measuring.pace import clips_in, paced
from benchmarks.reading.corpus import (
    BAGS_PER_BATCH,
    CLIPS_PER_BAG,
    default_work_folder,
    indexed,
    shape_of,
    stored_plan,
    write_shards,
)
from benchmarks.reading.process_cost import ProcessCost
from benchmarks.reading.through_ray import batches as through_ray
from benchmarks.reading.videos import NAMES, video

ROOT = Path(__file__).resolve().parents[1]
SIDES: dict[str, Isolation | None] = {"without": None, "with": Isolation()}


def main(
    videos: Annotated[int, typer.Option(help="How many 10-minute videos.")] = 8,
    repeats: Annotated[int, typer.Option(help="Repetitions of each side.")] = 6,
    clips: Annotated[int, typer.Option(help="Clips of each repetition, at least.")] = 160,
    loops: Annotated[str, typer.Option(help="Which loops, with commas between.")] = "plain,ray",
    quick: Annotated[bool, typer.Option(help="Two repetitions, without Ray.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure what isolation costs."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # for Ray's workers
    made = {kind: video(kind, (work or default_work_folder()) / "videos") for kind in "ab"}
    files = {f"{NAMES['ab'[n % 2]]}-{n:03d}": made["ab"[n % 2]] for n in range(videos)}
    found = process_itself()
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as name:
        folder = Path(name)
        write_shards(files, str(folder / "shards"), 100 << 20)
        planner = indexed(str(folder / "shards"), str(folder / "index"))
        passes = -(-clips // (CLIPS_PER_BAG * videos))
        plans = [
            stored_plan(planner, folder / f"plan-{n}", range(n * passes, (n + 1) * passes))
            for n in range((2 if quick else repeats) + 1)
        ]
        if "plain" in loops:
            found += compared("plain", plans)
        if "ray" in loops and not quick:
            with connect(None, cpus=2):
                found += compared("ray", plans)
    figures.show(found, as_json, "Decoding in another process")


def process_itself(times: int = 7) -> list[Figure]:
    """The time until a process answers, and its private memory after that."""
    started, memory = [], []
    for _ in range(times):
        began = time.perf_counter()
        process = DecoderProcess()
        started.append(1000 * (time.perf_counter() - began))
        memory.append(psutil.Process(process.pid).memory_full_info().uss / 1e6)
        process.end()
    return [
        figures.mean("isolation.start_ms", started, "ms"),
        figures.mean("isolation.process_mb", memory, "MB"),
    ]


def compared(loop: str, plans: list[PlanFacts]) -> list[Figure]:
    """CPU and wall time of a loop with isolation divided by those without."""
    cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    wall: dict[str, list[float]] = {side: [] for side in SIDES}
    clips = 0
    for number, plan in enumerate(plans):
        for side in [*SIDES][:: -1 if number % 2 else 1]:
            say(f"{loop}, {side} isolation: {number} of {len(plans) - 1}" + ("" if number else " (warm-up)"))
            with ProcessCost() as cost:
                clips, seconds = _run(loop, plan, SIDES[side])
            if number:
                cpu[side].append(cost.cpu_seconds)
                wall[side].append(seconds)
    pool.end_idle()
    per_clip = {side: [1000 * s / (clips + BAGS_PER_BATCH * CLIPS_PER_BAG) for s in cpu[side]] for side in SIDES}
    return [
        figures.as_percent(figures.ratio(f"isolation.{loop}_cpu", cpu["with"], cpu["without"]), less=1),
        figures.as_percent(figures.ratio_of_medians(f"isolation.{loop}_wall", wall["with"], wall["without"]), less=1),
        *(figures.mean(f"isolation.{loop}_cpu_ms_{side}", per_clip[side], "ms CPU a clip") for side in SIDES),
    ]


def _run(loop: str, plan: PlanFacts, isolation: Isolation | None) -> tuple[int, float]:
    shape = shape_of(CLIPS_PER_BAG, isolation)
    batches = stream(plan.slices(), shape, BAGS_PER_BATCH) if loop == "plain" else through_ray(plan, shape=shape)
    return paced(clips_in(batch) for batch in batches)


if __name__ == "__main__":
    typer.run(main)
