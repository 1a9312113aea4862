"""A cluster of several nodes on this machine, and a run that gets over the death of each of its parts.

The long form is `benchmarks/chaos.py`: random moments, twenty kills and more.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

pytest.importorskip("ray")
from benchmarks import chaos_cluster
from benchmarks.chaos import corpus, redrawn, settings, weights_apart
from benchmarks.chaos_cluster import ChaosCluster
from benchmarks.chaos_strikes import DRAIN, EVERYTHING, WORKER, Chaos
from pipelines import storage
from trainers.checkpoint import Run
from trainers.engine import LocalEngine
from trainers.ledger import audit
from trainers.loop import train
from trainers.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def grown_to(run: Run, workers: int, after: int) -> bool:
    """Whether a group of so many workers has committed after entry `after` of the log."""
    return any(e.kind == "checkpoint" and e.workers == workers and e.number > after for e in run.entries())


def test_workers_nodes_and_the_whole_cluster_die_and_every_clip_is_trained_once(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in chaos_cluster.SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # put back at the end
    index = corpus(storage.join(s3_url, "world"), tmp_path, videos=18)
    config = settings(index, storage.join(s3_url, "runs"), "chaos", 12, "checkpoint.every_batches=2")
    run = Run(config.url)
    with ChaosCluster(config, nodes=2, folder=tmp_path) as cluster:
        chaos = Chaos(cluster, run, random.Random(0))
        cluster.give_command()
        chaos.wait_for("two workers' commit", lambda: grown_to(run, 2, after=-1))
        drained = chaos.strike(DRAIN, pause_seconds=0)
        chaos.strike(WORKER, pause_seconds=0)
        # A node is gone for good: the run goes on with one worker, and with two again when there is another.
        before = run.newest()[0]
        cluster.kill_node(0)
        chaos.wait_for("one worker's commit", lambda: grown_to(run, 1, before))
        before = run.newest()[0]
        cluster.add_node()
        chaos.wait_for("two workers' commit", lambda: grown_to(run, 2, before))
        everything = chaos.strike(EVERYTHING, pause_seconds=0)
        chaos.wait_for("the end of the run", lambda: cluster.ended() is not None)
    assert drained, "the run was over too soon"
    assert everything
    assert drained.trained <= drained.went_on_from, "a notice leaves time to commit all that is trained"
    assert everything.trained - everything.went_on_from <= 2 * 2, (
        "an interval, and what is trained while one is written"
    )
    found = audit(run)
    assert (found.epochs, found.clips_lost, found.clips_twice) == (config.epochs, 0, 0)
    assert redrawn(run, config) == [], "plans follow from committed saliency"
    calm = settings(index, storage.join(s3_url, "runs"), "calm", 12, "placement.engine=local")
    prepare(calm)
    train(calm, LocalEngine(calm.plan.bags_per_batch))
    assert weights_apart(run, Run(calm.url)) < 1e-5
