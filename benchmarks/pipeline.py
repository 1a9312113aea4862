"""What Ray costs compared with a plain loop, how whole pipelines compare, and whether memory grows with videos.

    python -m benchmarks.pipeline [--quick] [--json] [--video PATH ...]

Clips have 32 frames, stride 3, 224 pixels; there are 4 of each 10-minute video at 360p. Repetitions of the two sides
take turns after a warm-up. CPU is that of all processes, and wall time counts from the first batch. Ratios of CPU are
of totals, and those of wall times are of medians. Intervals are 90 % bootstrap intervals over the repetitions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/pipeline.py`

from adaptfocus.infra.running.cluster import connect
from adaptfocus.pipelines import store
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import stream
from adaptfocus.pipelines.stream.on_ray import Decoding
from benchmarks.faults.s3_latency import FarStore
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.measuring.pace import clips_in, paced
from benchmarks.reading import ray_readers
from benchmarks.reading.corpus import (
    BAGS_PER_BATCH,
    CLIPS_PER_BAG,
    default_work_folder,
    indexed,
    name_of,
    shape_of,
    stored_plan,
    write_shards,
)
from benchmarks.reading.member_memory import peak_mb, write_tar_of_one
from benchmarks.reading.process_cost import ProcessCost
from benchmarks.reading.through_ray import batches as through_ray
from benchmarks.reading.videos import NAMES, video
from tests.s3_server import ExclusiveS3

ROOT = Path(__file__).resolve().parents[1]
SHARD_SIZE_BYTES = 100 << 20  # two 10-minute videos, so that every worker of the DataLoader gets shards
LATENCY_MS = 20
MEMBER_BYTES = {"40mb": 40_000_000, "4gb": 4_000_000_000}
GROWTH_PASSES = 12
PARTS = ("overhead", "dataloader", "memory", "readers")


def main(
    video_paths: Annotated[list[Path], typer.Option("--video", help="One of your files; repeatable.")] = [],  # noqa: B006
    videos: Annotated[int, typer.Option(help="How many of our own 10-minute videos.")] = 8,
    repeats: Annotated[int, typer.Option(help="Repetitions of each measurement.")] = 5,
    parts: Annotated[str, typer.Option(help="Which measurements, with commas between.")] = ",".join(PARTS),
    quick: Annotated[
        bool, typer.Option(help="Two repetitions of the overhead, one of the rest; none of Ray's own readers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure pipelines."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # for Ray's workers
    repeats = 1 if quick else repeats
    say("making the videos that are missing")
    made = {kind: video(kind, (work or default_work_folder()) / "videos") for kind in "ab"}
    files = {f"{NAMES['ab'[n % 2]]}-{n:03d}": made["ab"[n % 2]] for n in range(videos)}
    files |= {f"{name_of(path)}-{n:03d}": path for n, path in enumerate(video_paths)}
    wanted = [part for part in parts.split(",") if not (quick and part == "readers")]
    found: list[Figure] = []
    for part in wanted:
        with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
            measure = {"overhead": overhead, "dataloader": dataloader, "memory": memory, "readers": readers}[part]
            found += measure(files, Path(folder), max(repeats, 2) if part == "overhead" else repeats)
    figures.show(found, as_json, "Pipelines")


def overhead(files: dict[str, Path], folder: Path, repeats: int) -> list[Figure]:
    """Ray Data against the plain loop: the same plan from local files and one decoding worker, which is the limit."""
    write_shards(files, str(folder / "shards"), SHARD_SIZE_BYTES)
    planner = indexed(str(folder / "shards"), str(folder / "index"))
    passes = -(-160 // (CLIPS_PER_BAG * planner.table.num_rows))  # at least 160 clips
    say(f"Ray Data against the plain loop: {repeats} x {passes * CLIPS_PER_BAG * planner.table.num_rows} clips each")
    # Some seconds after the first dataset Ray starts its own actors (statistics, autoscaling), of 2 s of CPU each.
    warm_up = stored_plan(planner, folder / "plan-warm-up", range(-(-120 // (CLIPS_PER_BAG * planner.table.num_rows))))
    cpu: dict[str, list[float]] = {"plain": [], "ray": []}
    wall: dict[str, list[float]] = {"plain": [], "ray": []}
    clips = 0
    with connect(None, cpus=2):
        _run(through_ray(warm_up))
        _run(plain(warm_up))
        for repeat in range(repeats):
            plan = stored_plan(
                planner, folder / f"plan-{repeat}", range(repeat * passes + 1, (repeat + 1) * passes + 1)
            )
            for name, run in ordered(repeat, {"plain": plain, "ray": through_ray}):
                with ProcessCost() as cost:
                    clips, seconds = _run(run(plan))
                cpu[name].append(cost.cpu_seconds)
                wall[name].append(seconds)
        grown = _growth(planner, folder) if repeats > 2 else []
    per_clip = {name: [1000 * s / (clips + BAGS_PER_BATCH * CLIPS_PER_BAG) for s in cpu[name]] for name in cpu}
    return [
        figures.as_percent(figures.ratio("pipeline.cpu_overhead", cpu["ray"], cpu["plain"]), less=1),
        figures.as_percent(figures.ratio_of_medians("pipeline.wall_overhead", wall["ray"], wall["plain"]), less=1),
        figures.mean("pipeline.plain_cpu_ms", per_clip["plain"], "ms CPU a clip"),
        figures.mean("pipeline.ray_cpu_ms", per_clip["ray"], "ms CPU a clip"),
        *grown,
    ]


def _growth(planner: Planner, folder: Path) -> list[Figure]:
    """Growth of all processes' private memory from pass to pass through Ray, over the second half of the passes."""
    say(f"memory from pass to pass: {GROWTH_PASSES} passes")
    plans = [stored_plan(planner, folder / f"growth-{n}", range(2 * n, 2 * n + 2)) for n in range(GROWTH_PASSES)]
    resident, clips = [], 0
    for plan in plans:
        with ProcessCost() as cost:
            clips += _run(through_ray(plan))[0]
        resident.append((clips / 1000, cost.median_mb()))
    half = np.array(resident[GROWTH_PASSES // 2 :])  # in the first half buffers fill
    slope = float(np.polyfit(half[:, 0], half[:, 1], 1)[0])
    return [
        figures.count("pipeline.memory_growth_mb_per_1000_clips", slope, "MB", clips),
        figures.count("pipeline.ray_memory_mb", float(half[-1, 1]), "MB", clips),
    ]


def plain(plan: PlanFacts) -> Iterable[DecodedBatch]:
    """The plain loop in this process."""
    return stream(plan.slices(0), shape_of(CLIPS_PER_BAG), BAGS_PER_BATCH)


def ordered(repeat: int, sides: dict[str, Callable]) -> list[tuple[str, Callable]]:
    """The sides, in reverse order at every other repetition."""
    return list(sides.items())[:: -1 if repeat % 2 else 1]


def _run(batches: Iterable[DecodedBatch]) -> tuple[int, float]:
    return paced(clips_in(batch) for batch in batches)


def dataloader(files: dict[str, Path], folder: Path, repeats: int) -> list[Figure]:
    """Whole pipelines on the same cores, from a store 20 ms away: ours, and WebDataset + DataLoader + decord.

    The store itself also runs on these cores.
    """
    cores = len(os.sched_getaffinity(0))
    names = ("ray", "stream", "dataloader", "dataloader_scaled_by_decord")
    rates: dict[str, list[float]] = {name: [] for name in names}
    with ExclusiveS3(folder / "s3") as s3, FarStore(s3) as far:
        os.environ.update(far.environment)
        write_shards(files, far.store.url("shards"), SHARD_SIZE_BYTES)
        planner = indexed(far.store.url("shards"), far.store.url("index"))
        tars = sorted(set(planner.table.column("shard_url").to_pylist()))
        urls = [_signed(url) for url in tars]
        far.reset(LATENCY_MS)
        with connect(None, cpus=cores + 1):
            decoding = Decoding(cores=cores)
            _run(through_ray(stored_plan(planner, folder / "warm-up", range(1)), decoding))
            for repeat in range(repeats):
                plan = stored_plan(planner, folder / f"plan-{repeat}", range(2 * repeat + 1, 2 * repeat + 3))
                sides = {
                    "ray": lambda plan=plan: _run(through_ray(plan, decoding)),
                    "stream": lambda plan=plan: _run(plain(plan)),
                    "dataloader": lambda: _run_dataloader("torch", cores, 2 * urls, 2 * planner.table.num_rows),
                    "dataloader_scaled_by_decord": lambda: _run_dataloader(
                        "decord", cores, 2 * urls, 2 * planner.table.num_rows
                    ),
                }
                for name, run in ordered(repeat, sides):
                    say(f"pipeline {repeat + 1} of {repeats}: {name}")
                    clips, seconds = run()
                    rates[name].append(clips / seconds)
    return [
        figures.ratio_of_medians("pipeline.over_dataloader", rates["ray"], rates["dataloader"]),
        figures.ratio_of_medians(
            "pipeline.over_dataloader_scaled_by_decord", rates["ray"], rates["dataloader_scaled_by_decord"]
        ),
        figures.ratio_of_medians("pipeline.stream_over_dataloader", rates["stream"], rates["dataloader"]),
        *(figures.mean(f"pipeline.{name}_clips_per_second", rates[name], "clips/s") for name in rates),
    ]


def _signed(url: str) -> str:
    """An HTTP address of an object, for clients that do not speak S3."""
    fs, path = store.filesystem(url)
    return fs.sign(path, expiration=86_400)


def _run_dataloader(scaler: str, workers: int, urls: list[str], videos: int) -> tuple[int, float]:
    command = [sys.executable, "-m", "benchmarks.reading.dataloader", scaler, str(workers), *urls]
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    expected = CLIPS_PER_BAG * (videos - 1)  # its clock starts with the first batch
    if answer["clips"] != expected:
        raise RuntimeError(f"the DataLoader gave {answer['clips']} clips, expected were {expected}")
    return answer["clips"], answer["seconds"]


def memory(files: dict[str, Path], folder: Path, repeats: int) -> list[Figure]:
    """Peak memory of a process that reads and decodes clips of a member, and of a member a hundred times its size."""
    peaks: dict[str, list[float]] = {}
    plans: dict[str, list[str]] = {}
    for name, size_bytes in MEMBER_BYTES.items():
        say(f"a member of {size_bytes / 1e6:.0f} MB: making and indexing it")
        tar = folder / name / "film.tar"
        tar.parent.mkdir()
        write_tar_of_one(tar, size_bytes)
        planner = indexed(str(tar), str(folder / f"index-{name}"))
        plans[name] = [
            stored_plan(planner, folder / f"plan-{name}-{n}", range(8 * n, 8 * n + 8), 1).folder_url
            for n in range(repeats)
        ]
    for number in range(repeats):
        for name in MEMBER_BYTES:
            peaks.setdefault(name, []).append(peak_mb(plans[name][number]))
    return [
        figures.ratio("pipeline.memory_4gb_over_40mb", peaks["4gb"], peaks["40mb"]),
        figures.mean("pipeline.memory_4gb_mb", peaks["4gb"], "MB"),
    ]


def readers(files: dict[str, Path], folder: Path, repeats: int) -> list[Figure]:
    """Ray's own readers on four of the videos; stderr says how each ended."""
    few = dict(list(files.items())[:4])
    write_shards(few, str(folder / "shards"), SHARD_SIZE_BYTES)
    tars = [str(path) for path in sorted((folder / "shards").glob("*.tar"))]
    found = []
    for reader, sources in (("read_webdataset", tars), ("read_videos", [str(path) for path in few.values()])):
        say(f"{reader}: {len(few)} videos of 10 minutes, at most {ray_readers.LIMIT_SECONDS} s")
        outcome = ray_readers.tried(reader, sources)
        say(f"{reader}: {outcome.what}; {outcome.clips} clips, {outcome.seconds:.0f} s, peak {outcome.peak_mb:.0f} MB")
        if outcome.clips:
            rate = outcome.clips / outcome.seconds
            found.append(figures.count(f"pipeline.{reader}_clips_per_second", rate, "clips/s", outcome.clips))
        found.append(figures.count(f"pipeline.{reader}_peak_mb", outcome.peak_mb, "MB", len(few)))
    return found


if __name__ == "__main__":
    typer.run(main)
