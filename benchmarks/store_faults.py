"""What a faulty store costs: the throughput that is left, and whether faults change what is trained.

    python -m benchmarks.store_faults [--quick] [--json] [--no-ray]

A proxy (faults/s3_faults.py) stands in front of Ceph's gateway where it is installed, or else of the local S3 server.
It adds 20 ms of latency and up to 20 ms more at random. The other side has the same with 503 SlowDown for 5 % of the
requests, resets for 1 % and bodies that end early for 1 %. Clips have 32 frames of 224 pixels; there are 4 of each
10-minute video at 360p. Both sides take turns. Ratios are of medians of wall times, with a 90 % bootstrap interval over
the repetitions.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/store_faults.py`

from adaptfocus.infra.running.worlds import make_world
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.stream.clips import stream
from adaptfocus.pipelines.worlds.config import WorldConfig
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.faults.s3_faults import Faults, FaultyStore
from benchmarks.faults.s3_latency import Store
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.measuring.pace import clips_in
from benchmarks.reading.corpus import (
    BAGS_PER_BATCH,
    CLIPS_PER_BAG,
    default_work_folder,
    indexed,
    planned_bags,
    shape_of,
    stored_plan,
    write_shards,
)
from benchmarks.reading.videos import NAMES, video
from tests.s3_server import ExclusiveS3

T = TypeVar("T")

LATENCY_MS = JITTER_MS = 20.0
FAULTS = Faults(throttle=0.05, reset=0.01, truncate=0.01, jitter_ms=JITTER_MS)
NO_FAULTS = Faults(jitter_ms=JITTER_MS)
SHARD_SIZE_BYTES = 100 << 20
READING_EPOCHS = 25  # of only the reader: 25 x 8 videos x 4 clips are some 800 requests
WORLD = WorldConfig("demo", 24, 1, min_seconds=25, max_seconds=35, num_sprites=3, seed=2)


def main(
    videos: Annotated[int, typer.Option(help="How many 10-minute videos.")] = 8,
    repeats: Annotated[int, typer.Option(help="Repetitions of each measurement.")] = 7,
    quick: Annotated[bool, typer.Option(help="3 repetitions of a third; train only in this process.")] = False,
    with_ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Whether to train on Ray too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure faults."""
    made = {kind: video(kind, (work or default_work_folder()) / "videos") for kind in "ab"}
    files = {f"{NAMES['ab'[n % 2]]}-{n:03d}": made["ab"[n % 2]] for n in range(videos)}
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder, store_here(Path(folder)) as (name, store):
        say(f"the store is {name}")
        with FaultyStore(store) as far:
            lead_to(far.environment)
            say(f"uploading {videos} videos")
            write_shards(files, store.url("shards"), SHARD_SIZE_BYTES)
            planner = indexed(store.url("shards"), store.url("index"))
            repeats = min(repeats, 3) if quick else repeats
            title = f"Faults of a store, with {name}"
            found = throughput(far, planner, Path(folder), repeats, epochs=1 if quick else 3)
            figures.show(found, as_json, title)
            figures.show(same_training(far, store.url("trained"), with_ray and not quick), as_json, title)


@contextlib.contextmanager
def store_here(folder: Path) -> Iterator[tuple[str, Store]]:
    """The strictest S3 server that is installed here, and its name."""
    from tests.ceph import CephGateway, missing_programs

    if missing_programs():
        with ExclusiveS3(folder / "s3") as local:
            yield "the local S3 server (moto)", local
    else:
        with CephGateway(folder / "ceph") as ceph:
            yield "Ceph's gateway", ceph


def lead_to(environment: dict[str, str]) -> None:
    """Point S3 clients of this process, and of those that it starts, to a store from now on."""
    from s3fs import S3FileSystem

    os.environ.update(environment)
    S3FileSystem.clear_instance_cache()


def throughput(far: FaultyStore, planner: Planner, folder: Path, repeats: int, epochs: int) -> list[Figure]:
    """Clips per second with faults divided by those without, through the pipeline and through only its reader.

    Args:
        epochs: how many epochs of clips a repetition decodes.
    """
    met: Counter[str] = Counter()

    def plan(repeat: int) -> PlanFacts:
        return stored_plan(planner, folder / f"plan-{repeat}", range(epochs * repeat, epochs * repeat + epochs))

    def decode(facts: PlanFacts) -> None:
        for batch in stream(facts.slices(0), shape_of(CLIPS_PER_BAG), BAGS_PER_BATCH):
            assert batch.ok.all(), "a fault of the store was taken for a bad video"
            met["clips"] += clips_in(batch)
            met["read_requests"] += int(batch.read_requests.sum())
            met["read_retries"] += int(batch.read_retries.sum())
            met["wait_milliseconds"] += round(1000 * batch.wait_seconds.sum())

    def bags(repeat: int) -> list[dict]:
        drawn = range(READING_EPOCHS * repeat, READING_EPOCHS * (repeat + 1))
        return planned_bags(planner, CLIPS_PER_BAG, drawn)

    def read(rows: list[dict]) -> None:
        for _ in read_ahead(rows):
            pass

    say(f"store.throughput_kept: {repeats} repetitions")
    decoding, played = in_turns(far, plan, decode, repeats)
    say(f"store.reading_kept: {repeats} repetitions")
    reading, more = in_turns(far, bags, read, repeats)
    found = [
        figures.as_percent(figures.ratio_of_medians(name, seconds["without"][1:], seconds["with"][1:]))
        for name, seconds in (("store.throughput_kept", decoding), ("store.reading_kept", reading))
    ]
    waited, in_all = met["wait_milliseconds"] / 1000, sum(map(sum, decoding.values()))
    found.append(figures.count("store.waiting", waited / in_all, "ratio", met["clips"]))
    return [
        *found,
        figures.count("store.retries_per_request", met["read_retries"] / met["read_requests"], "ratio", met["clips"]),
        figures.count("store.faults_played", played + more, "faults", repeats),
    ]


def in_turns(
    far: FaultyStore, prepared: Callable[[int], T], run: Callable[[T], None], repeats: int
) -> tuple[dict[str, list[float]], int]:
    """Wall times with and without faults of the same repetitions, after a warm-up, and the faults played."""
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    played = 0
    for repeat in range(repeats + 1):
        work = prepared(repeat)
        for side in ("with", "without") if repeat % 2 else ("without", "with"):
            far.reset(LATENCY_MS, replace(FAULTS, seed=repeat) if side == "with" else NO_FAULTS)
            began = time.monotonic()
            run(work)
            seconds[side].append(time.monotonic() - began)
            played += sum(far.played().values())
    far.reset()
    return seconds, played


def same_training(far: FaultyStore, url: str, with_ray: bool) -> list[Figure]:
    """Compare whole runs behind the faults with an undisturbed one: plans and ledgers must be the same."""
    say("training without faults, then with faults")
    lead_to(far.environment)
    far.reset()
    make_world(WORLD, url, processes=1)
    undisturbed = trained(url, "undisturbed")
    far.reset(LATENCY_MS, FAULTS)
    runs = {"local": trained(url, "faults-local")}
    if with_ray:
        runs["ray"] = trained(url, "faults-ray", "placement.engine=ray")
    played = sum(far.played().values())
    far.reset()
    found = [figures.count("store.faults_in_training", played, "faults", len(runs))]
    for name, run in runs.items():
        differences = plan_and_ledger_differ(run, undisturbed)
        found.append(figures.count(f"store.bags_changed_by_faults.{name}", differences, "bags", bags_of(undisturbed)))
    return found


def trained(url: str, name: str, *overrides: str) -> Run:
    """A short run of Ours, with commits inside its epochs."""
    values: dict[str, Any] = {
        "name": name, "runs": f"{url}/runs", "index": f"{url}/index/train", "epochs": 3, "seed": 3,
        "clip": {"frames": 8, "fps": 4.0, "size_pixels": 20}, "plan": {"clips_per_bag": 4, "bags_per_batch": 4},
        "focus": {"warmup_epochs": 1}, "checkpoint": {"every_batches": 2}, "placement": {"engine": "local"},
    }  # fmt: skip
    config = make(TrainConfig, values, overrides)
    prepare(config)
    if config.placement.engine == "local":
        train(config, LocalEngine(config.plan.bags_per_batch))
    else:
        from adaptfocus.infra.running.cluster import connect
        from adaptfocus.infra.running.run import cpus_of
        from adaptfocus.trainers.on_ray.train import fit

        with connect(None, cpus_of(config)):
            fit(config)
    return Run(config.url)


def plan_and_ledger_differ(run: Run, reference: Run, epochs: int = 3) -> int:
    """The number of bags whose rows in the plan or the ledger differ; probabilities may differ by 1e-5."""
    changed = 0
    for epoch in range(epochs):
        for ours, theirs in zip(rows_of(run, epoch), rows_of(reference, epoch), strict=True):
            changed += not all(np.allclose(ours[k], theirs[k], atol=1e-5) if _is_floats(theirs[k]) else
                               ours[k] == theirs[k] for k in theirs)  # fmt: skip
    return changed


def rows_of(run: Run, epoch: int) -> list[dict]:
    """An epoch's plan, each bag with its row of the ledger."""
    plan = read_plan(run.epoch_url(epoch, "plan"))
    assert plan is not None
    bags = [bag for part in plan.slices(0) for bag in read_table(part[0], PLAN_SCHEMA, *part[1:]).to_pylist()]
    last = [e for e in run.entries() if e.kind == "checkpoint" and e.epoch == epoch][-1]
    ledger = {row["slot"]: row for row in run.ledger(last).to_pylist()}
    assert len(ledger) == len(bags), f"{run.url}: {len(ledger)} bags of epoch {epoch} are in the ledger, of {len(bags)}"
    return [bag | {f"ledger_{key}": value for key, value in ledger[bag["slot"]].items()} for bag in bags]


def bags_of(run: Run, epochs: int = 3) -> int:
    return sum(len(rows_of(run, epoch)) for epoch in range(epochs))


def _is_floats(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], float)


if __name__ == "__main__":
    typer.run(main)
