"""What `adaptfocus watch` says when something goes wrong: faults with their reasons, silence, and the exit code."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from adaptfocus.infra.jobs.faults import Faults, describe, faults_of, refused_by_index
from adaptfocus.infra.jobs.watch_view import lines_of
from adaptfocus.infra.jobs.watching import COMMITS, Watch, quiet_of
from adaptfocus.pipelines import store
from adaptfocus.trainers.loop.heartbeat import heartbeat_url
from adaptfocus.trainers.runs import log
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.preparation import prepare
from tests.infra.jobs.test_run_list import entry
from tests.trainers.loop.test_training import broken_copy, trained
from tests.worlds import SmallWorld


def commit(number: int, seconds: float, **values: object) -> Commit:
    return Commit(number, "checkpoint", "group", 1, seconds, **values)  # type: ignore[arg-type]


def test_videos_that_do_not_decode_are_counted_where_they_are_found(small_world: SmallWorld, tmp_path: Path) -> None:
    """By a real run on real damage, once from its beginning and once from its middle, as a watch may join."""
    config = broken_copy(small_world, tmp_path / "broken", 2).run_config(
        tmp_path / "runs", "damaged", "max_bad_share=0.5", "checkpoint.every_batches=1"
    )
    run = trained(config)
    watch = Watch(run.url)
    seen = watch.look()
    assert seen.faults.resumed == 0
    assert seen.faults.clips_not_decoded == 2 * config.plan.clips_per_bag, "each bad video was tried once"
    assert seen.faults.excluded == 2
    assert seen.faults.commits == min(COMMITS, len(run.entries()) - 1)
    said = next(line.text for line in lines_of(seen) if "faults" in line.text)
    assert said == f"  faults: 6 clips did not decode; 2 videos left out (adaptfocus quarantine list {run.url})"
    lineage, _ = run.claim(1)
    assert (lineage.claims, run.entries(last=1)[0].claims) == (2, 2)
    assert Watch(run.url).look().faults.resumed == 1


def test_what_the_index_refused_is_said_and_an_index_that_cannot_be_read_is_left_out(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    index = shutil.copytree(small_world.run_config(tmp_path, "r").index, tmp_path / "index")
    config = small_world.run_config(tmp_path, "r").model_copy(update={"index": str(index)})
    assert refused_by_index(config) == {}
    newest = max((index / "snapshots").iterdir())
    facts = json.loads(newest.read_text())
    newest.write_text(json.dumps(facts | {"refused": {"no_video": 2, "bad_labels": 5, "interval_clamped": 1}}))
    refused = refused_by_index(config)
    assert refused == {"no_video": 2, "bad_labels": 5}, "an interval that was cut is no video lost"
    said = describe(Faults(refused=refused), "runs/r", config.index)
    assert said.startswith("7 refused by the index: bad labels 5, no video 2 (adaptfocus index ")
    newest.write_text("{")
    assert refused_by_index(config) is None


def test_retries_come_with_their_reasons(small_world: SmallWorld, tmp_path: Path) -> None:
    many = {"read_requests": 900.0, "read_retries": 40.0, "read_retries_throttled": 38.0, "read_retries_reset": 2.0}
    entries = [commit(1, 1.0, metrics=many), commit(2, 2.0, metrics=many), Commit(3, "start", "b", 1, 3.0, claims=3)]
    faults = faults_of(entries, small_world.run_config(tmp_path, "r"), None, None)
    assert (faults.resumed, faults.clips_not_decoded, faults.excluded) == (2, None, None)
    assert describe(faults, "r", "i") == (
        "resumed 2 times; 80 retries of 1,800 requests in the last 2 commits (throttled 76, reset 4)"
    )
    assert describe(Faults(), "r", "i") == "none"


def test_a_living_process_that_does_nothing_is_called_quiet() -> None:
    """A process that hangs still signs, so only its steps and commits show it."""
    commits, now = [commit(n, 30.0 * n) for n in range(1, 5)], 1000.0
    assert quiet_of({"seconds": now - 5}, commits[:1], now) == ()
    assert quiet_of({"seconds": now - 5}, [commit(n, now - 100 + 30 * n) for n in range(4)], now) == ()
    assert quiet_of({"seconds": now - 5}, commits, now) == ("no commit for 15 min; the last ones were 30 s apart",)
    assert quiet_of({"seconds": now - 90}, [], now)[0].startswith("no step for 90 s: it hangs")
    planning = {"seconds": now - 600, "stage": "planning the epoch"}
    assert quiet_of(planning, commits, now) == ("planning the epoch for 10 min",), "a long plan is no fault"
    resumed = [commit(1, 0.0), Commit(2, "checkpoint", "later", 1, 5000.0)]
    assert quiet_of({"seconds": 5400.0}, resumed, 5400.0) == (), "the pause between two processes is no usual time"


def test_the_exit_code_says_how_a_run_ended(type_, small_world: SmallWorld, tmp_path: Path, monkeypatch) -> None:
    config = small_world.run_config(tmp_path, "left")
    prepare(config)
    run = Run(config.url)
    entry(run, 0, "start", 900)
    entry(run, 1, "checkpoint", 800, epoch=0, cursor=8, num_bags=16)
    for how in ([], ["--once"], ["--json"]):
        assert type_("watch", run.url, *how)[0] == 3, "it was not heard from for 800 s"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert type_("watch", run.url)[0] == 3, "on a terminal it does not wait for a run that has ended"
    store.write_bytes(heartbeat_url(run.url), json.dumps({"seconds": time.time()}).encode())
    assert type_("watch", run.url, "--once")[0] == 0


def test_a_first_look_reads_the_end_of_a_long_log(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_world.run_config(tmp_path, "long")
    prepare(config)
    run = Run(config.url)
    asked: list[str] = []
    real = log._read_commit
    monkeypatch.setattr(log, "_read_commit", lambda url: asked.append(url) or real(url))
    counts = []
    for first, stop in ((0, 40), (40, 120)):
        for number in range(first, stop):
            entry(run, number, "checkpoint", 200 - number, epoch=0, cursor=4, num_bags=16)
        asked.clear()
        Watch(run.url).look()
        counts.append(len(asked))
    assert counts == [COMMITS, COMMITS]
