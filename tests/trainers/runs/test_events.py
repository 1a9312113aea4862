"""TensorBoard events of real runs, read back record by record: each commit and each epoch once, also after a kill."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections import Counter

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, StorageError
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs import events
from adaptfocus.trainers.runs.events import FOLDER, EventFiles
from adaptfocus.trainers.runs.log import Commit, Lineage, Run
from adaptfocus.trainers.runs.preparation import prepare
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld

HOW = ("epochs=2", "checkpoint.tensorboard=true", "checkpoint.every_batches=2")


class Killed(BaseException):
    """As if the process was gone."""


def records(data: bytes) -> list[bytes]:
    """The records of a file in the format TFRecord, whose check sums are right."""
    found = []
    while data:
        (length,), (crc,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
        assert crc == masked_crc32c(data[:8])
        found.append(data[12 : 12 + length])
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked_crc32c(found[-1])
        data = data[16 + length :]
    return found


def points_of(run: Run) -> dict[str, list[tuple[int, float]]]:
    """All points of each chart, (step, value), in the order in which TensorBoard reads the files."""
    found: dict[str, list[tuple[int, float]]] = {}
    for url in sorted(store.list_files(run.at(FOLDER))):
        head, *rest = [Event.FromString(each) for each in records(store.read_bytes(url))]
        assert head.file_version == "brain.Event:2"
        for event in rest:
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def checkpoints(run: Run) -> list[Commit]:
    return [entry for entry in run.entries() if entry.kind == "checkpoint"]


def test_events_are_those_of_the_log_also_on_s3(small_world: SmallWorld, s3_url: str) -> None:
    run = trained(small_world.run_config(f"{s3_url}/runs", "seen", *HOW))
    points, commits = points_of(run), checkpoints(run)
    assert points["train/loss"] == [(c.bags, pytest.approx(c.metrics["loss"], rel=1e-6)) for c in commits]
    assert points["speed/clips_per_second"][0][1] == pytest.approx(
        commits[0].metrics["clips"] / commits[0].metrics["seconds"], rel=1e-6
    )
    ends = [c.bags for c in commits if c.ends_epoch]
    summaries = [json.loads(store.read_bytes(run.epoch_url(epoch, "summary.json"))) for epoch in range(2)]
    assert points["epoch/share_unmasked"] == [
        (step, pytest.approx(each["share_unmasked"], rel=1e-6)) for step, each in zip(ends, summaries, strict=True)
    ]


def test_no_point_is_lost_or_twice_when_a_run_is_killed_between_a_commit_and_its_events(
    small_world: SmallWorld, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_world.run_config(tmp_path, "killed", *HOW)
    prepare(config)
    run, real, seen = Run(config.url), Lineage.drop_old_states, []

    def dies(lineage: Lineage, *keep: object) -> None:
        seen.append(lineage.number)
        if len(seen) == 2:
            raise Killed
        real(lineage, *keep)  # type: ignore[arg-type]

    monkeypatch.setattr(Lineage, "drop_old_states", dies)
    with pytest.raises(Killed):
        train(config, LocalEngine(config.plan.bags_per_batch))
    assert (len(checkpoints(run)), len(points_of(run)["train/loss"])) == (2, 1), "the second commit has no events yet"
    monkeypatch.undo()
    train(config, LocalEngine(config.plan.bags_per_batch))
    points = points_of(run)
    assert [step for step, _ in points["train/loss"]] == [c.bags for c in checkpoints(run)]
    for chart, found in points.items():
        assert max(Counter(step for step, _ in found).values()) == 1, chart
        assert found == sorted(found, key=lambda point: point[0]), chart


def test_events_after_a_damaged_state_are_taken_back(small_world: SmallWorld, tmp_path) -> None:
    """The run resumes from the state before it, and trains those bags again: their old points would be second ones."""
    config = small_world.run_config(tmp_path, "damaged", *HOW)
    run = trained(config)
    *_, before, last = checkpoints(run)
    store.write_bytes(run.at(last.folder or "", "state.pt"), b"damaged")
    store.delete(run.epoch_url(config.epochs, "saliency.parquet"))
    train(config, LocalEngine(config.plan.bags_per_batch))
    again = checkpoints(run)[-1]
    assert (again.bags, again.previous) == (last.bags, before.number)
    steps = [step for step, _ in points_of(run)["train/loss"]]
    assert len(steps) == len(set(steps)) == len(checkpoints(run)) - 1


def test_events_that_cannot_be_written_fail_no_run(
    tmp_path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files, commit = EventFiles(Run(str(tmp_path)), None), Commit(1, "checkpoint", "g", 1, 1.0, num_bags=4, cursor=4)

    def fail(*_: object) -> None:
        raise StorageError("no answer")

    monkeypatch.setattr(events.store, "write_bytes", fail)
    files.add_commit(commit)
    files.add_epoch(commit, {"share_unmasked": 0.5})
    assert "events.out.tfevents.0000000001.commit is not written: no answer" in caplog.text


def test_a_run_that_asks_for_events_needs_the_library(
    small_world: SmallWorld, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_world.run_config(tmp_path, "without", *HOW)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'adaptfocus\[tensorboard\]'"):
        prepare(config)
