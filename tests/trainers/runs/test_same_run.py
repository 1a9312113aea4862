"""Settings belong to a run by what lies at their URLs, not by how these are written. Also starts from other runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from adaptfocus.infra.running.run import run_training
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index, open_index
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.epochs.publishing import publish_plan
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.loop.test_training import DyingEngine, Killed, trained, weights
from tests.worlds import SmallWorld


def test_places_are_absolute_wherever_the_command_is_given(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/data/me")
    settings = {"name": "a", "runs": "runs", "index": "./x/../index", "weights": "~/w.pt"}
    config = make(TrainConfig, settings)
    assert (config.runs, config.index, config.weights) == (
        f"{tmp_path}/runs", f"{tmp_path}/index", "/data/me/w.pt",
    )  # fmt: skip
    urls = {"runs": "s3://b/runs/", "index": "file:///data/index", "start_from": "gs://b/../x"}
    config = make(TrainConfig, settings | urls | {"weights": None})
    assert {key: getattr(config, key) for key in urls} == urls


def test_an_index_that_has_moved_is_the_same(small_world: SmallWorld, tmp_path: Path) -> None:
    """A run is begun and killed, its index moves, it is resumed there; the run's folder then names the new place."""
    index = tmp_path / "index"
    shutil.copytree(small_world.train_index, index)
    begun = small_world.run_config(tmp_path, "run", f"index={index}", "epochs=1", "checkpoint.every_batches=1")
    prepare(begun)
    with pytest.raises(Killed):
        train(begun, DyingEngine(4, 2))
    moved = index.rename(tmp_path / "elsewhere")
    config = small_world.run_config(tmp_path, "run", f"index={moved}", "epochs=1", "checkpoint.every_batches=1")
    found = prepare(config)
    assert found.said == [f"index has moved from {index} to {moved}; it is the same"]
    assert load_config(config.url).index == str(moved)
    assert json.loads((tmp_path / "run" / "index.json").read_text())["index"] == str(moved)
    other = small_world.run_config(tmp_path, "run", f"index={small_world.test_index}", "epochs=1")
    with pytest.raises(ConfigError, match=r"is not the one that .*run was begun on"):
        prepare(other)


def test_a_run_that_has_trained_nothing_may_change(small_world: SmallWorld, tmp_path: Path) -> None:
    """Its first plan is drawn anew: the old one has other clips."""

    def drawn(config: TrainConfig) -> list[int]:
        plan = publish_plan(Run(config.url), config, 0, None)
        assert plan is not None
        return [plan.num_bags]

    first = small_world.run_config(tmp_path, "run", "plan.bags_per_batch=4")
    assert prepare(first).said == []
    assert drawn(first) == [16]
    second = small_world.run_config(tmp_path, "run", "plan.bags_per_batch=6", "epochs=7")
    (line,) = prepare(second).said
    assert "has trained nothing yet: it begins with the new settings (epochs, plan.bags_per_batch)" in line
    assert load_config(second.url).epochs == 7
    assert drawn(second) == [18]
    assert prepare(second).said == []


def test_a_finished_run_is_trained_further_as_another(
    small_world: SmallWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`start_from`: the last weights, head and all; another run's classes, backbone or unfinished state are refused."""
    first = small_world.run_config(tmp_path, "first", "epochs=1")
    run = trained(first)
    run_training(first, None)
    said = " ".join(capsys.readouterr().err.split())
    assert f"To train its weights further, begin another run with start_from={run.url}" in said
    tiny = ("epochs=1", "optim.learning_rate=1e-12", "optim.weight_decay=0")
    second = trained(small_world.run_config(tmp_path, "second", f"start_from={run.url}", *tiny))
    before, after = weights(run), weights(second)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    with pytest.raises(ConfigError, match="is not a run"):
        prepare(small_world.run_config(tmp_path, "a", f"start_from={tmp_path}/nothing"))
    with pytest.raises(ConfigError, match="weights and start_from both say where the run starts"):
        small_world.run_config(tmp_path, "a", f"start_from={run.url}", "weights=w.pt")
    with pytest.raises(ConfigError, match=r"give backbone=small3d"):
        prepare(small_world.run_config(tmp_path, "a", f"start_from={run.url}", "backbone=x3d_s"))
    unfinished = small_world.run_config(tmp_path, "unfinished")
    prepare(unfinished)
    with pytest.raises(ConfigError, match=r"is not finished \(not begun\)"):
        prepare(small_world.run_config(tmp_path, "a", f"start_from={unfinished.url}"))
    facts = tmp_path / "first" / "index.json"
    values = json.loads(facts.read_text())
    facts.write_text(json.dumps(values | {"classes": ["sawing", *values["classes"][1:]]}))
    with pytest.raises(ConfigError, match="first in: sawing"):
        prepare(small_world.run_config(tmp_path, "a", f"start_from={run.url}"))
    shutil.rmtree(run.url)
    assert prepare(load_config(second.url)).commit is not None, "once begun, a run does not need its start any more"


def test_a_run_in_the_middle_of_an_epoch_finds_the_packets_of_an_index_that_has_moved(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    """Its plan names the old place. The weights are those of a run whose index stayed."""
    index = tmp_path / "index"
    shutil.copytree(small_world.train_index, index)
    settings = ("epochs=2", "checkpoint.every_batches=1")
    undisturbed = trained(small_world.run_config(tmp_path, "other", f"index={index}", *settings))
    begun = small_world.run_config(tmp_path, "run", f"index={index}", *settings)
    prepare(begun)
    with pytest.raises(Killed):
        train(begun, DyingEngine(4, 2))
    moved = index.rename(tmp_path / "elsewhere")
    run = trained(small_world.run_config(tmp_path, "run", f"index={moved}", *settings))
    expected, found = weights(undisturbed), weights(run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_run_stays_with_the_videos_it_was_begun_on_while_its_index_grows(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    train_shards, more = (
        sorted(set(load_index(url).table["shard_url"].to_pylist()))
        for url in (small_world.train_index, small_world.test_index)
    )
    index = str(tmp_path / "index")
    build_index(train_shards, index, workers=1)
    settings = (f"index={index}", "epochs=2", "checkpoint.every_batches=1")
    undisturbed = trained(small_world.run_config(tmp_path, "other", *settings))
    config = small_world.run_config(tmp_path, "run", *settings)
    prepare(config)
    with pytest.raises(Killed):
        train(config, DyingEngine(4, 2))
    before = open_index(index)
    build_index([*train_shards, *more], index, workers=1)
    assert open_index(index).videos > before.videos
    assert prepare(config).said == [
        f"the index {index} has changed since: the run stays with the videos it was begun on"
    ]
    run = trained(config)
    expected, found = weights(undisturbed), weights(run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert audit(run).clips_planned == audit(undisturbed).clips_planned
