"""Ctrl-C, SIGTERM and second starts, as real commands in processes of their own meet them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from adaptfocus.infra.running import ending
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from tests.ray_head import ROOT, RayHead
from tests.worlds import SmallWorld

# So many epochs that it is not over before it is stopped. Only the commits that are asked for happen inside an epoch.
SETTINGS = ["small", "name=run", "runs=runs", "index=index", "epochs=300", "plan.bags_per_batch=4",
            "plan.clips_per_bag=2", "checkpoint.every_batches=null"]  # fmt: skip


class Command:
    """`adaptfocus train ...` in a folder where its places are relative paths."""

    def __init__(self, folder: Path, name: str, *words: str, environment: Mapping[str, str] = os.environ) -> None:
        self.log, self.run = folder / f"{name}.log", Run(str(folder / "runs" / "run"))
        more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "adaptfocus", "train", *SETTINGS, *words], cwd=folder, stdout=out, stderr=out,
                env={**environment, **more}, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return " ".join(self.log.read_text().split())

    def wait_until(self, what: Callable[[], bool], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def trains(self, epoch: int = 0) -> bool:
        """Whether it has trained something of that epoch or a later one."""
        beat = Path(self.run.at("heartbeat.json"))
        values = json.loads(beat.read_text()) if beat.exists() else {}
        return values.get("epoch", -1) >= epoch and values.get("cursor", 0) > 0

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=90)


@pytest.fixture
def folder(small_world: SmallWorld, tmp_path: Path) -> Path:
    (tmp_path / "index").symlink_to(small_world.train_index)
    return tmp_path


def check_stopped(command: Command, code: int, number: int) -> None:
    """Check that the command has committed all that it trained, said how to resume, and shown no stack trace."""
    assert code == 128 + number, command.log.read_text()
    assert re.search(
        r"was asked to stop and did so at epoch \d+ of 300, bag \d+ of \d+; all of it is committed. Give the same "
        r"command again to resume", command.said
    )  # fmt: skip
    assert not re.search(r"Traceback|\*\*\*|Fatal|core_worker", command.log.read_text())
    _, last = command.run.newest()
    beat = json.loads(Path(command.run.at("heartbeat.json")).read_text())
    assert last is not None
    assert (last.epoch, last.cursor) == (beat["epoch"], beat["cursor"])


def test_ctrl_c_a_second_start_and_a_take_over(folder: Path) -> None:
    """Without `--address` one worker is one process: no Ray is started."""
    first = Command(folder, "first")
    first.wait_until(lambda: first.trains(epoch=1))
    second = Command(folder, "second")
    assert second.process.wait(timeout=90) == 2
    assert f"is being trained by process {first.process.pid} on " in second.said
    third = Command(folder, "third", "--take-over")
    assert first.process.wait(timeout=90) == 2
    assert "another process has claimed this run" in first.said
    third.wait_until(lambda: "resuming" in third.said and third.run.entries()[-1].kind == "checkpoint")
    check_stopped(third, third.stop(signal.SIGINT), signal.SIGINT)
    assert re.search(r"resuming .*/runs/run from epoch \d+ of 300, (its beginning|bag \d+ of \d+)", third.said)
    assert "Ray" not in third.said
    found = audit(third.run)
    assert found.epochs > 0
    assert (found.clips_lost, found.clips_twice) == (0, 0)


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first signal asks the run to stop, and the second ends it. Before there is a run, the first one ends it."""
    monkeypatch.setattr(ending.os, "_exit", sys.exit)  # which can be caught
    asked: list[str] = []
    with ending.hear_signals() as end:
        with end.asks(lambda: asked.append("commit")):
            signal.raise_signal(signal.SIGTERM)
            assert (asked, end.exit_code) == (["commit"], 143)
            end.clean_up = lambda: asked.append("cleaned")
            with pytest.raises(SystemExit) as stopped:
                signal.raise_signal(signal.SIGINT)
        assert (asked, stopped.value.code) == (["commit", "cleaned"], 130)
    with pytest.raises(ending.Interrupted), ending.hear_signals():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
@pytest.mark.ray
def test_ctrl_c_on_ray(folder: Path) -> None:
    """Two workers, with places given as relative paths; then the run is resumed in one process."""
    pytest.importorskip("ray")
    first = Command(folder, "first", "placement.workers=2", "placement.decode_workers=1")
    first.wait_until(lambda: first.trains(epoch=1))
    check_stopped(first, first.stop(signal.SIGINT), signal.SIGINT)
    assert "run, starting Ray" in first.said
    assert "run, starting workers: 2 x {CPU: 1}" in first.said
    second = Command(folder, "second", "placement.engine=local")
    second.wait_until(lambda: "run, epoch" in second.said)
    check_stopped(second, second.stop(signal.SIGINT), signal.SIGINT)
    found = audit(second.run)
    assert (found.clips_lost, found.clips_twice, found.workers) == (0, 0, (2, 1))


@pytest.mark.slow
@pytest.mark.ray
def test_waiting_for_workers_is_said_and_can_be_ended(folder: Path, tmp_path: Path) -> None:
    """A cluster may grow, so this waits; and a command that has trained nothing ends at once."""
    pytest.importorskip("ray")
    with RayHead(tmp_path, os.environ) as head:
        words = ("--address", f"127.0.0.1:{head.port}", "placement.gpus_per_worker=1")
        command = Command(folder, "first", *words, environment=head.environment)
        command.wait_until(lambda: "waiting for workers: 1 x {CPU: 1, GPU: 1}; the cluster has {}" in command.said)
        began = time.monotonic()
        assert command.stop(signal.SIGTERM) == 143
        assert time.monotonic() - began < 20
        assert "runs/run trained anything new. Give the same command again to resume" in command.said
        assert not re.search(r"Traceback|\*\*\*|Fatal", command.log.read_text())


def test_ctrl_c_to_any_other_command_is_130(type_, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adaptfocus.pipelines.index.build.build_index", interrupted)
    assert type_("index", tmp_path, "--out", tmp_path)[0] == 130
