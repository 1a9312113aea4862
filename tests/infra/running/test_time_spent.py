"""Where training spent its time: the verdict, its evidence, and what it says to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adaptfocus.infra.running.time_spent import TimeSpent, bottleneck_of, time_spent
from adaptfocus.trainers.runs.log import Commit
from adaptfocus.trainers.settings.run import TrainConfig

DECODING = TimeSpent(0.5, 0.1, 0.06, 0.01, 2)
STORE = TimeSpent(0.5, 0.1, 0.01, 0.06, 2)


@pytest.mark.parametrize(
    ("spent", "kind", "words"),
    [
        (replace(DECODING, waiting=0.04), "model", "model-bound: training waited for clips 4 % of the time; the model"),
        (replace(DECODING, waiting=0.04, on_gpus=True), "model", "GPU-bound: training waited for clips 4 % of the"),
        (DECODING, "decode", "decode-bound: training waited for clips 50 % of the time (60 ms of decoding a clip, "
         "10 ms of waiting for the store). Raise placement.decode_workers (now 2)"),
        (STORE, "store", "store-bound: training waited for clips 50 % of the time (10 ms"),
        (replace(STORE, retries=0.2, retried_for="throttled"), "store", "20 % of the requests were sent again, mostly "
         "because of: throttled"),
        (replace(STORE, at_epoch_starts=0.9, lead_batches=2), "epoch_starts", "nearly all of it there. Raise "
         "plan.lead_batches (now 2)"),
        (replace(DECODING, decode_workers=None), "decode", "Train with placement.engine=ray"),
        (replace(DECODING, stall=0.6, commit_seconds=12.0, commits_apart="checkpoint.every_batches=2"), "commit",
         "commit-bound: training stood still for commits 60 % of the time (writing one takes 12.0 s). Commit less "
         "often (now checkpoint.every_batches=2)"),
    ],
)  # fmt: skip
def test_a_verdict_names_its_evidence_and_the_setting(spent: TimeSpent, kind: str, words: str) -> None:
    found = bottleneck_of(spent)
    assert found.kind == kind
    assert words in found.says


def commit(number: int, epoch: int, **metrics: float) -> Commit:
    previous = number - 1 if number > 1 else None
    return Commit(number, "checkpoint", "g", 1, 0.0, epoch, 8, 16, metrics=metrics, previous=previous)


def test_time_is_that_of_the_given_commits(tmp_path: Path) -> None:
    """`seconds` of a commit ends where the commit begins, so standing still for it comes on top."""
    config = TrainConfig(name="r", runs=str(tmp_path), index=str(tmp_path / "index"))
    assert time_spent([], config) is None
    assert time_spent([Commit(0, "start", "g", 1, 0.0)], config) is None
    much = {"seconds": 8.0, "input_wait_seconds": 4.0, "commit_stall_seconds": 1.0, "commit_write_seconds": 3.0}
    reading = {"clips": 10.0, "decode_seconds": 0.6, "wait_seconds": 0.2, "read_requests": 40.0, "read_retries": 4.0}
    entries = [commit(1, 0, **much, **reading), commit(2, 0, **reading | {"seconds": 10.0, "input_wait_seconds": 0.0})]
    spent = time_spent([*entries, Commit(3, "start", "g", 1, 0.0)], config)
    assert spent is not None
    assert (spent.waiting, spent.at_epoch_starts) == (4 / 18, 1.0), "the first commit of all is at an epoch's start"
    assert (spent.stall, spent.commit_seconds, spent.retries) == (1 / 19, 1.5, 0.1)
    assert (spent.decode_seconds, spent.store_seconds) == (pytest.approx(0.06), pytest.approx(0.02))
    assert spent.commits_apart == "checkpoint.every_batches=100"


def test_a_window_of_the_log_knows_where_epochs_begin(tmp_path: Path) -> None:
    """`watch` sees only the newest entries. The oldest of these is in the middle of an epoch, whatever it waited."""
    config = TrainConfig(name="r", runs=str(tmp_path), index=str(tmp_path / "index"))
    times = {"seconds": 10.0, "input_wait_seconds": 1.0}
    window = [commit(7, 3, **times), commit(8, 3, **times), commit(9, 4, **times | {"input_wait_seconds": 2.0})]
    spent = time_spent(window, config)
    assert spent is not None
    assert spent.at_epoch_starts == 0.5
