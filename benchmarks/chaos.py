"""Trains one run while everything around it is killed again and again.

    python -m benchmarks.chaos [--kills 20] [--epochs 30] [--seed 0] [--quick] [--json]

The data are a small world in a local S3 server. The cluster has a head and two training nodes on this machine, and is
elastic (1 to 2 workers). At random, seeded moments the program SIGKILLs a worker, a decoder, a node, the command or the
whole cluster, or drains a node. After each it waits until the run has committed something new. It lets the run end, and
audits it.

Figures: [chaos.kills], [chaos.clips_lost], [chaos.clips_twice]; how long recovery took and what was trained twice;
[resume.seconds_to_first_step] after SIGKILL of everything.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import read_manifest
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import PlanFacts, read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.shards.packing import pack
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.worlds.encode import write_world
from adaptfocus.pipelines.worlds.video import WorldConfig
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs import snapshots
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.faults.chaos_cluster import ChaosCluster
from benchmarks.faults.chaos_strikes import COMMAND, DECODER, DRAIN, EVERYTHING, NODE, WORKER, Chaos, Kill
from benchmarks.measuring.figures import Figure, count, say, show
from tests.s3_server import ExclusiveS3

SHARES = {WORKER: 7, DECODER: 3, NODE: 4, COMMAND: 2, DRAIN: 2, EVERYTHING: 2}  # of the kills
EVERY_BATCHES = 4
QUICK = (WORKER, NODE, DRAIN, EVERYTHING)


def corpus(url: str, folder: Path, videos: int) -> str:
    """Make a small world, pack and index it on the store -> the URL of its index."""
    config = WorldConfig(
        num_train_videos=videos, num_test_videos=0, min_seconds=20, max_seconds=30, num_sprites=3, seed=1
    )
    found, _ = read_manifest(str(write_world(config, folder / "raw")))
    shards, index = store.join(url, "shards"), store.join(url, "index")
    pack(found, shards, classes=config.classes, shard_size_bytes=1 << 20)
    build_index([shards], index, classes=config.classes, workers=1)
    return index


def settings(index: str, runs: str, name: str, epochs: int, *overrides: str) -> TrainConfig:
    """The settings of an elastic run of one or two workers, one on each training node."""
    values = {
        "name": name, "runs": runs, "index": index, "epochs": epochs, "seed": 3,
        "clip": {"frames": 8, "fps": 4.0, "size_pixels": 20},
        "plan": {"clips_per_bag": 3, "bags_per_batch": 4},
        "focus": {"warmup_epochs": 1},
        "optim": {"learning_rate": 1e-3, "schedule": "constant"},
        "checkpoint": {"every_batches": EVERY_BATCHES},
        "placement": {
            "engine": "ray", "workers": 2, "min_workers": 1, "decode_workers": 2, "max_restarts": -1,
            "worker_resources": {"train": 1}, "resize_seconds": 5,
        },
    }  # fmt: skip
    return make(TrainConfig, values, overrides)


def redrawn(run: Run, config: TrainConfig) -> list[int]:
    """The epochs whose published plan does not follow from its snapshot, exclusions and head; ideally none."""
    corpus_of_run, carried, wrong = Corpus.of(config), (), []
    for epoch in range(config.epochs):
        published = read_plan(run.epoch_url(epoch, "plan"))
        assert published is not None
        planner = EpochPlanner(config, corpus_of_run, snapshots.read_manifest(run, epoch), in_this_process)
        with tempfile.TemporaryDirectory() as folder:
            if rows_of(planner.draw(epoch, carried, folder)) != rows_of(published):
                wrong.append(epoch)
        carried = published.carried
    return wrong


def rows_of(plan: PlanFacts) -> list[dict]:
    return [row for url, *rows in plan.slices(0) for row in read_table(url, PLAN_SCHEMA, *rows).to_pylist()]


def weights_apart(run: Run, other: Run) -> float:
    """The largest difference between the last weights of two runs."""
    states = []
    for each in (run, other):
        commit = each.newest()[1]
        assert commit is not None
        states.append(each.load_state(commit)["model"])
    return max(float((states[0][k].double() - states[1][k].double()).abs().max()) for k in states[0])


def attacked(cluster: ChaosCluster, kinds: Sequence[str], seed: int, minutes: float, pause_seconds: float) -> Chaos:
    """Start the run, kill each kind in turn within so many minutes, and wait for the end of the run."""
    began = time.monotonic()
    chaos = Chaos(cluster, Run(cluster.config.url), random.Random(seed))
    cluster.give_command()
    chaos.wait_for("the first commit", lambda: chaos.run.newest()[1] is not None)
    for kind in kinds:
        if time.monotonic() - began > 60 * minutes:
            break
        if chaos.strike(kind, pause_seconds) is None:
            say("the run ended before all kills were done; give more --epochs")
            break
    chaos.patience_seconds = 3600.0
    chaos.wait_for("the end of the run", lambda: cluster.ended() is not None)
    return chaos


def figures(chaos: Chaos, config: TrainConfig, undisturbed: Run) -> list[Figure]:
    found, kills = audit(chaos.run), chaos.kills
    commits = [e for e in chaos.run.entries() if e.kind == "checkpoint"]
    groups = [kill for kill in kills if kill.kind != DECODER]
    again = [max(0, kill.trained - kill.went_on_from) for kill in groups]
    drained = [max(0, kill.trained - kill.went_on_from) for kill in groups if kill.kind == DRAIN]
    sizes = [e.workers for e in chaos.run.entries() if e.kind == "start"]
    made = [
        count("chaos.kills", len(kills), "kills", len(kills)),
        count("chaos.clips_planned", found.clips_planned, "clips", found.epochs),
        count("chaos.clips_lost", found.clips_lost, "clips", found.clips_planned),
        count("chaos.clips_twice", found.clips_twice, "clips", found.clips_planned),
        count("chaos.epochs_not_trained", config.epochs - found.epochs, "epochs", config.epochs),
        count("chaos.plans_not_of_their_snapshot", len(redrawn(chaos.run, config)), "plans", config.epochs),
        count("chaos.claims", found.claims, "groups", found.claims),
        count("chaos.changes_of_size", sum(a != b for a, b in pairwise(sizes)), "groups", len(sizes)),
        range_of("chaos.batches_again", again, "batches"),
        range_of("chaos.batches_again_after_a_drain", drained, "batches"),
        count("chaos.checkpoint_interval", EVERY_BATCHES, "batches", 1),
        *(
            range_of(f"chaos.recovery_seconds.{k}", [x.recovery_seconds for x in kills if x.kind == k], "s")
            for k in SHARES
        ),
        range_of("resume.seconds_to_first_step", _first_steps(kills, EVERYTHING), "s"),
        range_of("resume.seconds_to_first_step.command_only", _first_steps(kills, COMMAND), "s"),
        range_of("chaos.commit_stall_seconds", [e.metrics["commit_stall_seconds"] for e in commits], "s"),
        range_of("chaos.commit_write_seconds", [e.metrics["commit_write_seconds"] for e in commits], "s"),
        count("chaos.weights_apart_from_undisturbed", weights_apart(chaos.run, undisturbed), "", len(commits)),
    ]
    return [figure for figure in made if figure.n]


def _first_steps(kills: Sequence[Kill], kind: str) -> list[float]:
    return [k.first_step_seconds for k in kills if k.kind == kind and k.first_step_seconds is not None]


def range_of(name: str, values: Sequence[float], unit: str) -> Figure:
    """The median, with the minimum and the maximum as `low` and `high`."""
    if not values:
        return Figure(name, float("nan"), unit, float("nan"), float("nan"), 0)
    return Figure(name, float(np.median(values)), unit, float(min(values)), float(max(values)), len(values))


def drawn_kinds(kills: int, seed: int) -> list[str]:
    """Kinds of kills in their shares, in a seeded order."""
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    kinds = (kinds * (1 + kills // len(kinds)))[:kills]
    random.Random(seed).shuffle(kinds)
    return kinds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    The exit code says whether every clip was trained exactly once, by plans that follow from saliency.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="after these, nothing more is killed")
    parser.add_argument("--pause", type=float, default=4.0, help="at most so many seconds before a kill")
    parser.add_argument("--kinds", help=f"kill these, in this order, instead of random ones: {','.join(SHARES)}")
    parser.add_argument("--quick", action="store_true", help="four kills of different kinds, a short run")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    kinds = list(QUICK) if chosen.quick else drawn_kinds(chosen.kills, chosen.seed)
    kinds = chosen.kinds.split(",") if chosen.kinds else kinds
    epochs, videos = (8, 18) if chosen.quick else (chosen.epochs, chosen.videos)
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adaptfocus-chaos-") as folder, ExclusiveS3() as s3:
        os.environ.update(s3.environment)
        index = corpus(s3.url("world"), Path(folder), videos)
        config = settings(index, s3.url("runs"), "chaos", epochs)
        with ChaosCluster(config, nodes=2, folder=Path(folder)) as cluster:
            chaos = attacked(cluster, kinds, chosen.seed, chosen.minutes, chosen.pause)
        say(f"{len(chaos.kills)} kills in {time.monotonic() - began:.0f} s: {audit(chaos.run)}")
        say("next: the same run undisturbed, in this process")
        calm = settings(
            index, s3.url("runs"), "calm", epochs, "placement.engine=local", "checkpoint.every_batches=1000"
        )
        prepare(calm)
        train(calm, LocalEngine(calm.plan.bags_per_batch, torch.device("cpu")))
        found = figures(chaos, config, Run(calm.url))
    show(found, chosen.json, "One training under attack", "least to most")
    bad = {"chaos.clips_lost", "chaos.clips_twice", "chaos.epochs_not_trained", "chaos.plans_not_of_their_snapshot"}
    return int(any(figure.value for figure in found if figure.name in bad))


if __name__ == "__main__":
    sys.exit(main())
