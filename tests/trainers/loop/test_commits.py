"""Commits are written when they are asked for, while training continues, and nothing in a run depends on them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, StorageError
from adaptfocus.pipelines.schemas import SALIENCY_SCHEMA
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.errors import DamagedStateError, DrainedError
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.sharding import on_cpu
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import SALIENCY, Commit, Lineage, Run
from adaptfocus.trainers.runs.preparation import is_finished, prepare
from adaptfocus.trainers.settings.parts import CheckpointConfig
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.chaos import redrawn
from tests.trainers.loop.test_training import DyingEngine, Killed, trained, weights
from tests.worlds import SmallWorld

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def undisturbed(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(small_world.run_config(tmp_path_factory.mktemp("runs"), "undisturbed"))


def checkpoints(run: Run) -> list[Commit]:
    return [e for e in run.entries() if e.kind == "checkpoint"]


def same_weights(run: Run, other: Run) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(run).items())


def test_a_commit_comes_after_so_many_batches_or_clips_whichever_is_first() -> None:
    def apart(**values) -> float:
        return CheckpointConfig(**values).batches_apart(clips_per_batch=12)

    assert apart() == 100
    assert apart(every_batches=7, every_clips=1000) == 7
    assert apart(every_clips=100) == 9, "8 batches have 96 clips, 9 have 108"
    assert apart(every_batches=None) == float("inf")


@pytest.mark.parametrize(
    ("setting", "cursors"),
    [
        # 16, 20 and 16 bags an epoch, 4 bags and 12 clips a batch
        ("checkpoint.every_clips=24", [8, 16, 8, 16, 20, 8, 16]),
        ("checkpoint.every_seconds=1e-9", [4, 8, 12, 16, 4, 8, 12, 16, 20, 4, 8, 12, 16]),
        ("checkpoint.every_seconds=1e9", [16, 20, 16]),
    ],
)
def test_the_result_does_not_depend_on_when_commits_are_made(
    small_world: SmallWorld, tmp_path: Path, undisturbed: Run, setting: str, cursors: list[int]
) -> None:
    run = trained(small_world.run_config(tmp_path, "other", "checkpoint.every_batches=null", setting))
    assert [commit.cursor for commit in checkpoints(run)] == cursors
    assert same_weights(run, undisturbed)
    assert (audit(run).clips_lost, audit(run).clips_twice) == (0, 0)


def test_steps_go_on_while_a_commit_is_written(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Run
) -> None:
    """The first commit is still being written when the next step is trained, and its state is that of its own step."""
    stepped, waited = threading.Event(), []
    write = Lineage.write_state

    def slow(self: Lineage, folder: str, state: dict) -> str:
        waited.append(stepped.wait(timeout=60))
        return write(self, folder, state)

    class Watched(LocalEngine):
        def batches(self, *args):
            for number, batch in enumerate(super().batches(*args)):
                if number == 3:  # the commit was begun after the second batch, and the third is trained
                    stepped.set()
                yield batch

    monkeypatch.setattr(Lineage, "write_state", slow)
    config = small_world.run_config(tmp_path, "slow", "checkpoint.keep=100")
    run = trained(config, Watched(4))
    assert all(waited)
    assert same_weights(run, undisturbed)
    first = run.load_state(checkpoints(run)[0])["optimiser"]["state"][0]["step"]
    assert int(first) == 2, "the copy was made at the commit, not when it was written"


def test_time_that_the_loop_stands_still_for_commits_is_written_down(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Lineage.write_state

    def slow(self: Lineage, folder: str, state: dict) -> str:
        time.sleep(0.5)
        return write(self, folder, state)

    monkeypatch.setattr(Lineage, "write_state", slow)
    commits = checkpoints(trained(small_world.run_config(tmp_path, "slow", "epochs=2")))
    assert all(commit.metrics["commit_write_seconds"] >= 0.5 for commit in commits)
    after_epoch = next(c for c in commits if c.epoch == 1)
    assert after_epoch.metrics["commit_stall_seconds"] >= 0.4, "the end of an epoch waits for its commit"


def test_an_error_of_the_writer_ends_the_loop(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Lineage, folder: str, state: dict) -> str:
        raise StorageError("the store is full")

    config = small_world.run_config(tmp_path, "full")
    monkeypatch.setattr(Lineage, "write_state", broken)
    with pytest.raises(StorageError, match="the store is full"):
        trained(config)
    assert checkpoints(Run(config.url)) == []


def test_a_state_shares_no_memory_with_its_copy() -> None:
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    kept = on_cpu(state, Leaving())
    before = kept["model"]["weight"].clone(), kept["optimiser"]["state"][0]["exp_avg"].clone()
    optimiser.step()
    assert torch.equal(kept["model"]["weight"], before[0])
    assert torch.equal(kept["optimiser"]["state"][0]["exp_avg"], before[1])
    assert not torch.equal(model.weight, before[0])
    model.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])


def killed(small_world: SmallWorld, folder: Path, *overrides: str) -> TrainConfig:
    """A run that has died inside its second epoch, with commits after 8 and 16 bags of each."""
    config = small_world.run_config(folder, "run", *overrides)
    with pytest.raises(Killed):
        trained(config, DyingEngine(4, 7))
    return config


def in_the_old_form(run: Run) -> None:
    """Each entry of the log names all ledger files of its epoch so far, and none the entry before it."""
    files: dict[int, list[str]] = {}
    for path in sorted(Path(run.url, "log").iterdir()):
        entry = json.loads(path.read_text())
        entry.pop("previous", None)
        entry.pop("one_ledger", None)
        so_far = files.setdefault(entry["epoch"], [])
        if entry["kind"] == "checkpoint":
            new, old = (f"{entry['folder']}/{name}.parquet" for name in ("ledger", "scores-0-of-1"))
            if Path(run.url, new).exists():
                Path(run.url, new).rename(Path(run.url, old))
            so_far.append(old)
        path.write_text(json.dumps(entry | {"ledger": so_far}))


def test_a_run_with_a_log_in_the_old_form_is_resumed(small_world: SmallWorld, tmp_path: Path, undisturbed: Run) -> None:
    """It has died with half of its second epoch in the log: the rest is added in the new form."""
    config = killed(small_world, tmp_path)
    in_the_old_form(Run(config.url))
    old = Run(config.url)
    assert [len(old.ledger_files(commit)) for commit in checkpoints(old)] == [1, 2, 1]
    run = trained(config)
    assert same_weights(run, undisturbed)
    assert dataclasses.replace(audit(run), claims=1, workers=(1,)) == audit(undisturbed)
    for epoch in (1, 2, 3):
        tables = [read_table(each.epoch_url(epoch, SALIENCY), SALIENCY_SCHEMA) for each in (run, undisturbed)]
        assert tables[0].equals(tables[1])
    counted = audit(run)
    in_the_old_form(run)
    assert audit(Run(run.url)) == counted


def damage(run: Run, commit: Commit) -> None:
    url = run.at(commit.folder or "", "state.pt")
    data = bytearray(store.read_bytes(url))
    data[len(data) // 2] ^= 1
    store.write_bytes(url, bytes(data))


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_a_damaged_state_is_skipped_for_the_one_before_it(
    small_world: SmallWorld, tmp_path: Path, undisturbed: Run, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest state is that of epoch 1, bag 8; the one before it is the end of epoch 0."""
    config = killed(small_world, tmp_path)
    run = Run(config.url)
    newest = checkpoints(run)[-1]
    if harm == "flipped":
        damage(run, newest)
    else:
        store.delete(run.at(newest.folder or "", "state.pt"))
    run = trained(config)
    assert f"{newest.folder}/state.pt is {'damaged' if harm == 'flipped' else 'gone'}" in caplog.text
    assert "resuming from epoch 1, bag 16" in caplog.text
    assert same_weights(run, undisturbed)
    assert (audit(run).clips_lost, audit(run).clips_twice) == (0, 0)


def test_where_no_state_is_whole_the_message_says_what_to_do(small_world: SmallWorld, tmp_path: Path) -> None:
    config = killed(small_world, tmp_path, "checkpoint.keep=1")
    damage(Run(config.url), checkpoints(Run(config.url))[-1])
    with pytest.raises(DamagedStateError, match=r"SHA-256 is .*No earlier state .* larger checkpoint.keep"):
        train(config, LocalEngine(4))


def test_a_state_at_the_end_of_every_second_epoch_is_kept(small_world: SmallWorld, tmp_path: Path) -> None:
    changes = ("epochs=5", "checkpoint.keep=1", "checkpoint.keep_epochs=2")
    run = trained(small_world.run_config(tmp_path, "kept", *changes))
    assert sorted(run.kept_epochs()) == [1, 3, 4]


def test_entries_of_other_versions_are_read(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    old = {"number": 0, "kind": "start", "group": "a", "workers": 1, "seconds": 1.0, "epoch": 0, "cursor": 0,
           "num_bags": 0, "folder": None, "ledger": [], "metrics": {}}  # fmt: skip
    store.write_bytes(run.at("log", "000000.json"), json.dumps(old | {"of_a_later_version": 1}).encode())
    assert [entry.kind for entry in run.entries()] == ["start"]
    assert run.entries()[0].state_sha256 is None


def test_a_process_that_is_told_to_end_commits_first(small_world: SmallWorld, tmp_path: Path, undisturbed: Run) -> None:
    """SIGTERM to a bare process, as the owner of a machine sends it: no step is lost, and the command resumes later."""
    config = small_world.run_config(tmp_path, "run", "checkpoint.every_batches=null")
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "adaptfocus", "train", "small", "--config", str(settings)]
    run = Run(config.url)
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not store.exists(run.epoch_url(1, "plan", "plan.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    if process.returncode == 0:
        assert is_finished(config), "it ended before the signal came"
    else:
        assert process.returncode == 128 + signal.SIGTERM, said
        assert "was asked to stop and did so at epoch" in " ".join(said.split())
        last = checkpoints(run)[-1]
        beat = json.loads(store.read_bytes(run.at("heartbeat.json")))
        assert (last.epoch, last.cursor) == (beat["epoch"], beat["cursor"]), "all that was trained is committed"
        prepare(config)
        train(config, LocalEngine(4))
    for name, value in weights(undisturbed).items():
        assert torch.allclose(value, weights(run)[name], atol=1e-5), name
    assert (audit(run).clips_lost, audit(run).clips_twice) == (0, 0)


def test_a_run_that_is_asked_to_stop_at_its_last_batch_is_whole(small_world: SmallWorld, tmp_path: Path) -> None:
    class Late(LocalEngine):
        def batches(self, *args):
            for number, batch in enumerate(super().batches(*args)):
                if number == 12:  # 4 + 5 + 4 batches
                    self.notice.set()
                yield batch

    config = small_world.run_config(tmp_path, "late")
    with pytest.raises(DrainedError, match=r"at epoch 3 of 3, bag 16 of 16; all of it is committed"):
        trained(config, Late(4))
    run = trained(config)
    assert is_finished(config)
    assert (audit(run).clips_lost, audit(run).clips_twice, audit(run).epochs) == (0, 0, 3)


def test_the_check_of_plans_finds_one_that_does_not_follow_from_its_snapshot(
    small_world: SmallWorld, tmp_path: Path, undisturbed: Run
) -> None:
    """The check of plans in the chaos test can fail."""
    config = small_world.run_config(tmp_path, "poisoned")
    shutil.copytree(undisturbed.url, config.url)
    run = Run(config.url)
    assert redrawn(run, config) == []
    table = read_table(run.epoch_url(2, SALIENCY), SALIENCY_SCHEMA)
    scores = pa.array([[0.0] * 18 + [0.99] + [0.0]] * table.num_rows, table.schema.field("score").type)
    write_table(table.set_column(table.schema.get_field_index("score"), "score", scores), run.epoch_url(2, SALIENCY))
    assert redrawn(run, config) == [2]


def test_fewer_workers_than_the_least_are_refused() -> None:
    values = {"name": "a", "runs": "r", "index": "i", "plan": {"bags_per_batch": 8}}
    make(TrainConfig, values, ["placement.workers=4", "placement.min_workers=1"])
    with pytest.raises(ConfigError, match=r"placement.min_workers = 4 is more than placement.workers = 2; lower it"):
        make(TrainConfig, values, ["placement.workers=2", "placement.min_workers=4"])
