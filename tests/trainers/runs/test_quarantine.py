"""Videos that a run left out: listed with their reasons, tried again, and back in the plans from one moment on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from adaptfocus.infra.cli.app import app
from adaptfocus.pipelines import store
from adaptfocus.pipelines.apart import pool
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.epochs.publishing import publish_plan
from adaptfocus.trainers.errors import StoppedError
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs import releases
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.runs.quarantine import choose_rows, read_quarantine, release_decoded, retry
from adaptfocus.trainers.runs.snapshots import read_excluded
from adaptfocus.trainers.settings.run import TrainConfig
from tests.bad_decoders import bad_members
from tests.trainers.loop.test_training import broken_copy, trained
from tests.worlds import SmallWorld


@pytest.fixture
def broken(small_world: SmallWorld, tmp_path: Path) -> tuple[SmallWorld, TrainConfig]:
    """Two videos that do not decode, in a run of four epochs."""
    world = broken_copy(small_world, tmp_path / "broken", 2)
    return world, world.run_config(tmp_path / "runs", "bad", "max_bad_share=0.5", "epochs=4", "plan.lead_batches=0")


class StopsAfter(LocalEngine):
    """An engine that stops in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__(4)
        self.epoch = epoch

    def batches(self, *args):
        for number, batch in enumerate(super().batches(*args)):
            if int(batch.clip_id[0, 0]) >> 44 == self.epoch and number % 4 == 1:
                raise KeyboardInterrupt
            yield batch


def stopped_in(config: TrainConfig, epoch: int) -> Run:
    prepare(config)
    with pytest.raises(KeyboardInterrupt):
        train(config, StopsAfter(epoch))
    return Run(config.url)


def repair(world: SmallWorld, small_world: SmallWorld) -> None:
    """Put the bytes back where the index says, with the time that it knows, so that they do not count as replaced."""
    for row in load_index(world.train_index).table.select(["shard_url"]).to_pylist():
        whole = small_world.folder / "shards-train" / Path(row["shard_url"]).name
        before = Path(row["shard_url"]).stat()
        shutil.copy(whole, row["shard_url"])
        os.utime(row["shard_url"], ns=(before.st_atime_ns, before.st_mtime_ns))


def rows_of_plan(run: Run, epoch: int) -> list[int]:
    plan = read_plan(run.epoch_url(epoch, "plan"))
    assert plan is not None
    return pa.concat_tables([read_table(u, PLAN_SCHEMA, *r) for u, *r in plan.slices()])["video_row"].to_pylist()


def test_a_repaired_video_comes_back_and_nothing_else_changes(
    broken: tuple[SmallWorld, TrainConfig], small_world: SmallWorld
) -> None:
    world, config = broken
    run = stopped_in(config, 2)
    table = read_quarantine(run, config).to_pylist()
    assert len(table) == 2
    assert {row["state"] for row in table} == {"quarantined"}
    assert [each.error is None for each in retry(run, config, table)] == [False, False], "still broken"
    repair(world, small_world)
    tried = list(retry(run, config, choose_rows(read_quarantine(run, config), [table[0]["video_id"]])))
    assert release_decoded(run, tried) == [table[0]["video_id"]]
    states = {row["video_id"]: row["state"] for row in read_quarantine(run, config).to_pylist()}
    assert states == {table[0]["video_id"]: "released", table[1]["video_id"]: "quarantined"}
    assert choose_rows(read_quarantine(run, config), []) == [table[1]]
    back, out = table[0]["video_row"], table[1]["video_row"]
    assert {back, out}.isdisjoint(rows_of_plan(run, 2)), "the plan under way stays as it is"
    train(config, LocalEngine(4))
    assert rows_of_plan(run, 3).count(back) == 1
    assert out not in rows_of_plan(run, 3)
    assert read_excluded(run, 4)["video_row"].to_pylist() == [out]
    assert (audit(run).clips_lost, audit(run).clips_twice) == (0, 0)


def test_a_release_that_comes_while_an_epoch_is_planned_waits_for_the_next(
    broken: tuple[SmallWorld, TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes may plan one epoch. Both must draw the same, whether or not they have seen the release."""
    _, config = broken
    run = stopped_in(config, 2)
    ids = dict(
        zip(*(read_quarantine(run, config)[name].to_pylist() for name in ("video_row", "video_id")), strict=True)
    )
    plans = []
    for _ in range(2):
        for url in (run.epoch_url(2, "plan", "plan.json"), run.epoch_url(2, "saliency.parquet")):
            store.delete(url)
        last = [entry for entry in run.entries() if entry.kind == "checkpoint" and entry.epoch == 1][-1]
        publish_plan(run, config, 2, last)
        plans.append(rows_of_plan(run, 2))
        releases.release(run, ids)
    assert plans[0] == plans[1]
    assert releases.read_decision(run, 2) == 0
    train(config, LocalEngine(4))
    assert releases.read_decision(run, 3) == 2
    assert set(ids) <= set(rows_of_plan(run, 3))
    assert read_excluded(run, 4).num_rows == 2, "they failed again, and are out again"
    assert read_excluded(run, 4)["epoch"].to_pylist() == [3, 3]


def test_a_run_that_ended_with_too_many_goes_on_once_they_decode(small_world: SmallWorld, tmp_path: Path) -> None:
    world = broken_copy(small_world, tmp_path / "broken", 4)
    config = world.run_config(tmp_path / "runs", "bad", "max_bad_share=0.1")
    with pytest.raises(StoppedError, match=r"`adaptfocus quarantine list .*/bad` shows them, .* quarantine retry"):
        trained(config)
    run = Run(config.url)
    rows = read_quarantine(run, config).to_pylist()
    assert len(rows) >= 2, "what failed in the epoch that ended the run is there too"
    repair(world, small_world)
    assert len(release_decoded(run, list(retry(run, config, rows)))) == len(rows)
    train(config, LocalEngine(4))
    assert read_excluded(run, 3).num_rows == 0


def test_a_hang_and_a_crash_while_training_are_two_rows(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real ones, in the process that decodes: the run ends as it should, and says which videos they were."""
    rows = load_index(small_world.train_index).table.to_pylist()
    sizes = [row["member_size_bytes"] for row in rows]
    bad_members(monkeypatch, tmp_path / "bad", {sizes[0]: "hang", sizes[5]: "crash"})
    monkeypatch.setattr(pool, "PACKET_SECONDS", 0.0)
    config = small_world.run_config(
        tmp_path, "run", "epochs=2", "max_bad_share=0.5", "placement.decode_deadline_seconds=2"
    )
    train(config, LocalEngine(4))
    pool.end_idle()
    found = {row["video_row"]: row["kind"] for row in read_excluded(Run(config.url), 2).to_pylist()}
    assert found == {0: "decode_deadline", 5: "decoder_died"}
    assert (audit(Run(config.url)).clips_lost, audit(Run(config.url)).clips_twice) == (0, 0)


def test_the_commands(broken: tuple[SmallWorld, TrainConfig], small_world: SmallWorld, tmp_path: Path) -> None:
    import csv
    import json

    world, config = broken
    run = stopped_in(config, 2)
    ids = sorted(read_quarantine(run, config)["video_id"].to_pylist())

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["quarantine", *arguments], env={"COLUMNS": "300"}, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "2 left out: " in said("list", run.url)
    assert all(each in said("list", run.url, "--index-refused") for each in ids)
    for suffix in ("csv", "jsonl", "parquet"):
        said("export", run.url, "--out", str(tmp_path / f"bad.{suffix}"))
    with (tmp_path / "bad.csv").open() as file:
        assert sorted(row["video_id"] for row in csv.DictReader(file)) == ids
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert lines == pa.parquet.read_table(tmp_path / "bad.parquet").to_pylist()  # type: ignore[attr-defined]
    assert "2 tried, 0 released" in said("retry", run.url)
    repair(world, small_world)
    assert f"{ids[0]}: decodes" in said("retry", run.url, ids[0], "--set", "placement.isolate_decoding=false")
    assert "1 tried, 1 released; the next epoch" in said("retry", run.url)
    with pytest.raises(InputError, match="not in quarantine: \\['nobody'\\]"):
        said("retry", run.url, "nobody")
