"""Plans, merges and audits of corpora that no process can hold: core time, memory, requests, and the same bytes.

    python -m benchmarks.webscale [--videos 1000000] [--parts run,lookup,...] [--quick] [--json]

Corpora are made of real packet tables (benchmarks/scaling/corpus.py): 3.5 labels a video, of 157 classes with a long
tail. A bag has 4 clips. Tasks are Ray's, on this machine. Each step runs in a process of its own, whose peak of memory
is reported with its imports. Core time is CPU of tasks and of the process that waits for them. Nothing is decoded or
trained: the ledger's scores are hashes.

`run`        an epoch is planned, committed, merged and audited; the next one is planned and begun
`lookup`     packets of ten-minute videos are found, as the stream does it
`stream`     blocks of one bag go through the process that coordinates a stream
`layout`     100 million videos, of which only manifests exist: windows are laid out, and tasks do nothing
`requests`   a store counts the requests of opening an index of 100,000 shards
`rewritten`  an epoch of 2 % of the partitions is merged
`same`       index, plans and snapshots are the same bytes for 0, 1, 2 and 4 tasks of Ray, and after kills
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/webscale.py`

from benchmarks.faults.s3_latency import FarStore
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, count, say
from benchmarks.reading.corpus import default_work_folder
from benchmarks.scaling.corpus import SHORT, TEN_MINUTES
from benchmarks.scaling.manifests import laid_out, opened, write_manifest_only
from benchmarks.scaling.partial_epoch import rewritten_share
from benchmarks.scaling.sameness import hashes_of_ways
from benchmarks.scaling.steps import (
    CLIPS_PER_BAG,
    DRAWING,
    MERGING,
    Step,
    alone,
    audited,
    deal,
    looked_up,
    publish,
    resumed,
    settings,
    trained,
)
from benchmarks.scaling.stream import streamed
from tests.s3_server import ExclusiveS3

SMALL = 2000
MANIFEST_VIDEOS = 100_000_000
SHARDS = 100_000
PARTS = ("run", "lookup", "stream", "layout", "requests", "rewritten", "same")
QUICK_PARTS = ("run", "lookup", "layout", "requests", "rewritten")


def main(
    videos: Annotated[int, typer.Option(help="Videos of the corpus that is planned.")] = 1_000_000,
    parts: Annotated[str | None, typer.Option(help="Which measurements, with commas between. Default: all.")] = None,
    tasks: Annotated[int, typer.Option(help="Tasks of Ray at once.")] = 2,
    quick: Annotated[bool, typer.Option(help="100,000 videos; without the parts stream and same.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure planning and merging of large corpora."""
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])  # for Ray's workers
    cache, size = work or default_work_folder(), 100_000 if quick else videos
    measure: dict[str, Callable[[Path], list[Figure]]] = {
        "run": lambda folder: run(folder, cache, size, tasks, 3 if quick else 9),
        "lookup": lambda folder: lookup(folder, cache, 20 if quick else 100),
        "stream": lambda folder: stream(folder, cache, 600 if quick else 2000),
        "layout": lambda folder: layout(folder, tasks),
        "requests": requests,
        "rewritten": lambda folder: rewritten(folder, cache),
        "same": lambda folder: same(folder, cache, 10_000 if quick else 40_000),
    }
    found: list[Figure] = []
    for part in parts.split(",") if parts else QUICK_PARTS if quick else PARTS:
        with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
            say(part)
            found += measure[part](Path(folder))
    figures.show(found, as_json, "Web scale")


def run(folder: Path, cache: Path, videos: int, tasks: int, repeats: int) -> list[Figure]:
    """An epoch of a large corpus and the boundary after it; and a process that resumes, beside a small corpus."""
    dealt = alone(deal, str(folder / "index"), videos, SHORT, cache, tasks)
    _say("dealt", dealt)
    config = settings(folder, "run", folder / "index")
    first = alone(publish, config, 0, tasks)
    _say("first plan", first)
    bags = alone(trained, config, 0)
    boundary = alone(publish, config, 1, tasks)
    _say("boundary", boundary)
    proof = alone(audited, config)
    _say(f"{proof.result}", proof)
    alone(trained, config, 1, bags // 2)
    small = settings(folder, "small", folder / "small-index")
    alone(deal, small.index, SMALL, SHORT, cache)
    alone(publish, small, 0)
    alone(trained, small, 0, SMALL // 2)
    again = [(alone(resumed, config), alone(resumed, small)) for _ in range(repeats)]
    large_seconds, small_seconds = ([pair[n].seconds for pair in again] for n in (0, 1))
    growth = median(pair[0].peak_mb - pair[1].peak_mb for pair in again)
    clips, name = bags * CLIPS_PER_BAG, _short(videos)
    merge = boundary.task_seconds(*MERGING)
    costs = [*dealt.tasks, *first.tasks, *boundary.tasks]
    steps = (dealt, first, boundary)
    return [
        count(
            "webscale.deal_core_us_a_video", 1e6 * (dealt.task_seconds() + dealt.core_seconds) / videos, "us", videos
        ),
        count("webscale.plan_core_us_a_clip", _us_a_clip(first, clips, *DRAWING), "us", clips),
        count("webscale.plan_core_us_a_clip.focused", _us_a_clip(boundary, clips, *DRAWING), "us", clips),
        count("webscale.merge_core_us_a_clip", 1e6 * (merge - boundary.diagnosis_seconds) / clips, "us", clips),
        count("webscale.merge_core_us_a_clip.with_diagnosis", 1e6 * merge / clips, "us", clips),
        count(f"webscale.driver_mb.{name}", max(step.peak_mb for step in steps[1:]), "MB", videos),
        count(f"webscale.driver_core_s.{name}", boundary.core_seconds, "s", videos),
        count("webscale.task_mb", max(each.peak_mb for each in costs), "MB", len(costs)),
        count(f"webscale.boundary_s.{name}", boundary.seconds, "s", videos),
        count(f"webscale.boundary_core_s.{name}", boundary.core_seconds + boundary.task_seconds(), "s", videos),
        figures.median("webscale.resume_first_row_s.2k", small_seconds, "s"),
        figures.median(f"webscale.resume_first_row_s.{name}", large_seconds, "s"),
        figures.ratio_of_medians(f"webscale.resume_first_row_s.{name}_over_2k", large_seconds, small_seconds),
        count("webscale.rank_mb_growth", growth, "MB", len(again)),
        count("webscale.audit.lost", proof.result.clips_lost, "clips", clips),
        count("webscale.audit.twice", proof.result.clips_twice, "clips", clips),
        count("webscale.audit_mb", proof.peak_mb, "MB", clips),
        count("webscale.audit_core_us_a_clip", 1e6 * proof.core_seconds / clips, "us", clips),
        count("webscale.largest_object_mb", _largest_mb(folder), "MB", videos),
        count("webscale.plan_bytes_a_bag", _bytes_in(folder / "run/epochs/0001/plan") / bags, "B", bags),
        count("webscale.saliency_bytes_a_video", _bytes_in(folder / "run/epochs/0001/saliency") / bags, "B", bags),
        count("webscale.row_bytes_a_video", _bytes_in(folder / "index/rows") / videos, "B", videos),
    ]


def lookup(folder: Path, cache: Path, chunks: int) -> list[Figure]:
    """Light rows of ten-minute videos become rows that a task can decode."""
    alone(deal, str(folder / "index"), 20_000, TEN_MINUTES, cache)
    config = settings(folder, "run", folder / "index")
    alone(publish, config, 0)
    found = alone(looked_up, config, chunks)
    _say(f"{found.result} bags looked up", found)
    clips = found.result * CLIPS_PER_BAG
    return [count("webscale.lookup_core_ms_a_clip", 1000 * found.core_seconds / clips, "ms", clips)]


def stream(folder: Path, cache: Path, bags: int) -> list[Figure]:
    """The stream's one coordinator, and how long it takes to the first bag if the corpus were small or large."""
    alone(deal, str(folder / "index"), 20_000, SHORT, cache)
    config = settings(folder, "run", folder / "index")
    alone(publish, config, 0)
    found = {size: alone(streamed, config, bags, size) for size in (20_000, MANIFEST_VIDEOS)}
    each = found[MANIFEST_VIDEOS]
    return [
        count("webscale.stream_core_ms_a_block", 1000 * each.coordinator_seconds / each.blocks, "ms", each.blocks),
        count("webscale.stream_blocks_a_second", each.blocks / each.seconds, "blocks/s", each.blocks),
        *(count(f"webscale.stream_first_row_s.{_short(n)}", s.first_row_seconds, "s", 1) for n, s in found.items()),
    ]


def layout(folder: Path, tasks: int) -> list[Figure]:
    """What the process holds that lays out an epoch of 100 million videos and gives out its tasks."""
    config = settings(folder, "run", folder / "index")
    write_manifest_only(config.index, MANIFEST_VIDEOS, SHARDS)
    found = alone(laid_out, config, tasks)
    _say(f"{found.result} bags laid out", found)
    name = _short(MANIFEST_VIDEOS)
    return [
        count(f"webscale.driver_mb.{name}", found.peak_mb, "MB", MANIFEST_VIDEOS),
        count(f"webscale.layout_core_s.{name}", found.core_seconds, "s", MANIFEST_VIDEOS),
    ]


def requests(folder: Path) -> list[Figure]:
    """Requests that a process sends until it knows an index: any rank, and the one that plans."""
    with ExclusiveS3(folder / "s3") as s3, FarStore(s3) as far:
        os.environ.update(far.environment)
        url = far.store.url("index")
        write_manifest_only(url, MANIFEST_VIDEOS // 50, SHARDS)
        found = []
        for with_partitions in (False, True):
            far.reset(0)
            alone(opened, url, with_partitions)
            found.append(sum(each.requests for each in far.traffic()))
    names = ("webscale.open_requests", "webscale.open_requests.with_partitions")
    return [count(name, each, "requests", SHARDS) for name, each in zip(names, found, strict=True)]


def rewritten(folder: Path, cache: Path) -> list[Figure]:
    """The share of a snapshot's files that an epoch of 2 % of the partitions writes."""
    touched, written, files = alone(rewritten_share, folder, cache)
    return [
        count("webscale.touched", 100 * touched / files, "%", files),
        count("webscale.rewritten", 100 * written / files, "%", files),
    ]


def same(folder: Path, cache: Path, videos: int) -> list[Figure]:
    """1 if all bytes of index, plans and snapshots are the same, else 0."""
    found = hashes_of_ways(folder, cache, videos)
    on_ray = {each for name, each in found.items() if name != "local"}
    return [
        count("webscale.same.1_2_4", float(len(on_ray) == 1), "1 if equal", len(found) - 1),
        count("webscale.same.engines", float(len({*found.values()}) == 1), "1 if equal", len(found)),
    ]


def _us_a_clip(step: Step, clips: int, *functions: str) -> float:
    return 1e6 * step.task_seconds(*functions) / clips


def _say(what: str, step: Step) -> None:
    tasks = sum(each.cpu_seconds for each in step.tasks)
    cpu = f"{step.core_seconds:.1f} s of CPU and {tasks:.1f} s in {len(step.tasks)} tasks"
    say(f"  {what}: {step.seconds:.1f} s, {cpu}, {step.peak_mb:.0f} MB")


def _short(videos: int) -> str:
    return f"{videos // 1_000_000}m" if videos >= 1_000_000 else f"{videos // 1000}k"


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _largest_mb(folder: Path) -> float:
    return max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    typer.run(main)
