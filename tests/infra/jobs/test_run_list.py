"""The list of runs: every state a run can be in, found only from the store."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from adaptfocus.infra.jobs.run_list import age, list_runs
from adaptfocus.pipelines import store
from adaptfocus.trainers.evaluation.saved import scores_url
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.heartbeat import heartbeat_url
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.holder import hold_run
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.preparation import prepare
from tests.worlds import SmallWorld


def entry(run: Run, number: int, kind: str, age_seconds: float, **values: object) -> None:
    """An entry of the log as if it had been written so long ago."""
    commit = Commit(number, kind, "group", 2, time.time() - age_seconds, **values)  # type: ignore[arg-type]
    store.write_bytes(run.at("log", f"{number:06d}.json"), json.dumps(dataclasses.asdict(commit)).encode())


@pytest.fixture
def runs(small_world: SmallWorld, s3_url: str) -> str:
    """A folder on S3 with a run in each state."""
    url = f"{s3_url}/runs"

    def begun(name: str) -> Run:
        config = small_world.run_config(url, name)
        prepare(config)
        return Run(config.url)

    finished = small_world.run_config(url, "finished", "epochs=2")
    prepare(finished)
    train(finished, LocalEngine(finished.plan.bags_per_batch))
    store.write_bytes(scores_url(finished.url, "test"), b'{"map_max": 0.625, "views": 20, "crops": 1, "epoch": 1}')
    store.write_bytes(scores_url(finished.url, "test-crops-3"), b'{"map_max": 0.7}')
    begun("fresh")
    entry(begun("starting"), 0, "start", 1)
    begun_long_ago, training = begun("stopped"), begun("training")
    for run in (begun_long_ago, training):
        entry(run, 0, "start", 9000)
        entry(run, 1, "checkpoint", 7200, epoch=1, cursor=8, num_bags=16)
        entry(run, 2, "start", 7100)
    store.write_bytes(heartbeat_url(training.url), json.dumps({"seconds": time.time()}).encode())
    store.write_bytes(f"{url}/broken/config.json", b"{")
    store.write_bytes(f"{url}/no-run/readme.txt", b"not a run")
    return url


def test_every_state_in_the_list_the_table_and_json(type_, runs: str) -> None:
    found = {row.name: row for row in list_runs(runs)}
    assert {name: row.state for name, row in found.items()} == {
        "broken": "unreadable", "finished": "finished", "fresh": "never started", "starting": "running",
        "stopped": "stopped", "training": "running",
    }  # fmt: skip
    done, stopped = found["finished"], found["stopped"]
    assert (done.position, done.epochs, done.map_max, done.workers) == (2.0, 2, 0.625, 1)
    # 18 videos in batches of 4: 16 and then 18 + 2 carried = 20 bags, of 3 clips each. The report counts them too.
    assert done.clips_trained == audit(Run(done.url)).clips_trained == 3 * (16 + 20)
    assert not done.clips_are_estimated
    # Epoch 1 (of 0, 1, 2), 8 of 16 bags: 24 bags of 3 clips, by a log that does not count them.
    assert (stopped.position, stopped.epoch, stopped.epochs) == (1.5, 2, 3)
    assert (stopped.clips_trained, stopped.clips_are_estimated) == (72, True)
    assert stopped.last_commit_age_seconds == pytest.approx(7200, abs=60)
    assert "broken/config.json is damaged" in (found["broken"].problem or "")
    code, out, _ = type_("runs", runs)
    assert code == 0
    assert "finished finished 2 of 2, 100 % 108 62.5" in out
    assert "test, 20 x 1, epoch 2 (1 more)" in out, "which of two evaluations the score is from"
    assert "stopped stopped 2 of 3, 50 % ~72 - 2 h ago - 2 0" in out
    assert f" {done.classes_found} of {done.classes_judged} 1 0 test," in out
    assert done.classes_judged == done.classes_found + len(done.classes_not_found)  # type: ignore[operator]
    assert "broken: InputError" in out
    assert "config.json is damaged" in out
    assert "no-run" not in out
    code, out, _ = type_("runs", f"{runs}/stopped", "--json")
    assert (code, json.loads(out)["state"]) == (0, "stopped"), "the URL of one run"
    code, _, err = type_("runs", f"{runs}/nowhere")
    assert code == 2
    assert "there is no run at" in err
    code, _, err = type_("runs", "s3://nowhere-at-all/runs")
    assert (code, "there is no bucket 'nowhere-at-all'" in err) == (2, True)


def test_a_run_that_was_let_go_is_not_shown_as_running(small_world: SmallWorld, tmp_path: Path) -> None:
    """Its newest commit may be a second old, but the process that trained it has said that it has ended."""
    config = small_world.run_config(tmp_path, "let-go")
    prepare(config)
    entry(Run(config.url), 0, "start", 1)
    with hold_run(config.url):
        assert [row.state for row in list_runs(config.url)] == ["running"]
    assert [row.state for row in list_runs(config.url)] == ["stopped"]


def test_an_age_is_said_in_its_unit() -> None:
    assert [age(s) for s in (None, 5, 119, 150, 7200, 200_000)] == [
        "-", "5 s ago", "119 s ago", "2 min ago", "2 h ago", "2 d ago",
    ]  # fmt: skip
