"""Pre-training by the order of frames: labels are true for the frames shown, and the weights are a normal start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.load import read_partitions
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.backbones import build, load_pretrained
from adaptfocus.trainers.evaluation.export import export_model
from adaptfocus.trainers.inputs.run_index import ORDERS, read_videos, training_facts
from adaptfocus.trainers.inputs.time_order import orders_of, reorder_clips
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.method import closed_form
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.focus_overhead import Shape, random_batch
from tests.trainers.loop.test_training import DyingEngine, Killed, trained
from tests.worlds import SmallWorld

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES = 12


def numbered_batch(clips: int = 40):
    """Clips of 24 frames whose every pixel is its frame's number."""
    batch = random_batch(Shape(5, clips, 2 * FRAMES, 2, len(ORDERS), (4, 4), 1), 0)
    frames = np.zeros_like(batch.frames) + np.arange(2 * FRAMES, dtype=np.uint8).reshape(1, 1, -1, 1, 1, 1)
    label_ids = np.tile(np.arange(len(ORDERS)), (5, 1))
    return dataclasses.replace(batch, frames=frames, label_ids=label_ids)


def test_the_label_says_in_what_order_the_frames_are() -> None:
    batch = reorder_clips(numbered_batch(), seed=0)
    assert batch.frames.shape == (5, 40, FRAMES, 3, 2, 2)
    assert (batch.clip_positive.sum(axis=-1) == 1).all(), "one order is true of each clip"
    counts = batch.clip_positive.sum(axis=(0, 1))
    assert counts.min() > 30, "each order is a quarter of 200 clips, up to chance"
    for clip, positive in zip(batch.frames.reshape(-1, FRAMES, 12), batch.clip_positive.reshape(-1, 4), strict=True):
        assert (clip == clip[:, :1]).all(), "a frame stays whole"
        shown = clip[:, 0].astype(int)
        steps, order = set(np.diff(shown).tolist()), ORDERS[int(positive.argmax())]
        if order == "parts_swapped":
            assert sorted(shown) == list(range(shown.min(), shown.min() + FRAMES))
            assert steps not in ({1}, {-1})
        else:
            assert steps == {{"as_filmed": 1, "reversed": -1, "twice_as_fast": 2}[order]}


def test_the_orders_that_a_clip_is_not_in_are_its_negatives() -> None:
    """Otherwise a model that says yes to every order would be right, and learn nothing."""
    batch = reorder_clips(numbered_batch(), seed=0)
    config = make(TrainConfig, recipe("pretrain_order"), ["name=a", "runs=r", "index=i", "plan.bags_per_batch=5"])
    logits = torch.zeros(5 * 40, len(ORDERS))
    _, loss, gradient = closed_form.objective(config, LocalEngine(5), logits, batch, 0, 0.0)
    assert loss == pytest.approx(np.log(2), abs=1e-6)
    np.testing.assert_array_equal(gradient.numpy() < 0, batch.clip_positive.reshape(-1, len(ORDERS)))
    assert (gradient.abs() > 0).all()


def test_only_the_clips_id_and_the_seed_decide_its_order() -> None:
    ids = torch.arange(1000, dtype=torch.int64) * 7919
    label, shown = orders_of(ids, FRAMES, seed=0)
    part_label, part_shown = orders_of(ids[300:310], FRAMES, seed=0)
    np.testing.assert_array_equal(label[300:310], part_label)
    np.testing.assert_array_equal(shown[300:310], part_shown)
    assert not np.array_equal(label, orders_of(ids, FRAMES, seed=1)[0])
    assert (shown.min(), shown.max()) == (0, 2 * FRAMES - 1), "starts are drawn over all that is decoded"


def pretrained(world: SmallWorld, runs: Path, *overrides: str, dies_after: int | None = None) -> dict:
    """The weights file of a short run on the order of frames."""
    config = world.run_config(
        runs, "order", "task=order", "focus.regime=full", "epochs=2", "placement.isolate_decoding=false", *overrides
    )
    if dies_after is not None:
        with pytest.raises(Killed):
            trained(config, DyingEngine(4, dies_after))
    run = trained(config)
    found = audit(run)
    assert (found.clips_lost, found.clips_twice) == (0, 0)
    export_model(config.url, str(runs / "start.pt"), "torch")
    return torch.load(runs / "start.pt", weights_only=True)


def test_a_start_repeats_after_a_kill_and_loads_without_its_head(small_world: SmallWorld, tmp_path: Path) -> None:
    whole = pretrained(small_world, tmp_path / "a", "input.motion=zero_mean_kernels")
    killed = pretrained(small_world, tmp_path / "b", "input.motion=zero_mean_kernels", dies_after=5)
    assert whole["classes"] == list(ORDERS)
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, killed["state_dict"][name]), name
    kernels = whole["state_dict"]["body.0.weight"]
    torch.testing.assert_close(kernels.mean(dim=2), torch.zeros_like(kernels[:, :, 0]), atol=1e-7, rtol=0)
    model = build("small3d", 7)
    head = model.state_dict()["head.weight"].clone()
    load_pretrained(model, str(tmp_path / "a" / "start.pt"))
    assert torch.equal(model.state_dict()["body.0.weight"], kernels)
    assert torch.equal(model.state_dict()["head.weight"], head)


def test_no_label_is_needed_and_none_is_read(small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "a", "task=order", "focus.regime=full")
    assert training_facts(config).classes == list(ORDERS)
    parts = read_partitions(config.index)
    table = read_videos(config, parts)
    assert table.column("labels").to_pylist() == [list(ORDERS)] * table.num_rows
    assert table.column("intervals").null_count == table.num_rows
    assert read_videos(config, parts, ["labels"]).column_names == ["video_row", "labels"]
    with pytest.raises(ConfigError, match=r"task=order needs focus\.regime=full, not ours"):
        small_world.run_config(tmp_path, "a", "task=order")
    assert not store.exists(config.url)
