"""The scenario of `test_chaos`: `python -m tests.trainers.on_ray.chaos_scenario S3_URL FOLDER`.

It runs in a separate process, because a Ray client ends its process some time after the head of its cluster is killed.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from adaptfocus.pipelines import store
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from benchmarks.chaos import corpus, redrawn, settings
from benchmarks.faults.chaos_cluster import ChaosCluster
from benchmarks.faults.chaos_strikes import DRAIN, EVERYTHING, WORKER, Chaos

EPOCHS = 60  # a second each on two free cores: the run must not end before everything has been killed


def main(s3_url: str, folder: Path) -> None:
    """Raises AssertionError."""
    index = corpus(store.join(s3_url, "world"), folder, videos=18)
    config = settings(index, store.join(s3_url, "runs"), "chaos", EPOCHS, "checkpoint.every_batches=2")
    run = Run(config.url)
    with ChaosCluster(config, nodes=2, folder=folder) as cluster:
        chaos = Chaos(cluster, run, random.Random(0))
        cluster.give_command()
        chaos.wait_for("two workers' commit", lambda: grown_to(run, 2, after=-1))
        drained = chaos.strike(DRAIN, pause_seconds=0)
        chaos.strike(WORKER, pause_seconds=0)
        # A node is gone for good. The run continues with one worker, and with two again when there is another node.
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
    lost = everything.trained - everything.went_on_from
    assert lost <= 2 * 2, "an interval, and what is trained while one is written"
    found = audit(run)
    assert (found.epochs, found.clips_lost, found.clips_twice) == (config.epochs, 0, 0)
    assert redrawn(run, config) == [], "plans follow from committed saliency"


def grown_to(run: Run, workers: int, after: int) -> bool:
    """Whether a group of so many workers has committed after entry `after` of the log."""
    return any(e.kind == "checkpoint" and e.workers == workers and e.number > after for e in run.entries())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
