"""Weak negatives, input switches and repeats in the whole loop: real videos, killed and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.evaluation.scoring import evaluate, predict_here
from adaptfocus.trainers.runs.ledger import audit
from tests.trainers.loop.test_training import DyingEngine, Killed, trained, weights
from tests.worlds import SmallWorld


@pytest.mark.parametrize(
    "switches",
    [
        ("focus.background_weight=2", "focus.noisy_or=1", "input.fade_background=0.5"),
        ("input.motion=rgb_and_difference",),
        ("input.motion=zero_mean_kernels",),
        ("plan.repeat_factor=1",),
    ],
    ids=["best", "both", "zdc", "repeat"],
)
def test_killed_and_resumed_it_ends_with_the_same_weights(
    small_world: SmallWorld, tmp_path: Path, switches: tuple[str, ...]
) -> None:
    runs = {
        folder: small_world.run_config(tmp_path / folder, "run", "focus.background_from=0.3", *switches)
        for folder in ("once", "twice")
    }
    once = trained(runs["once"])
    with pytest.raises(Killed):
        trained(runs["twice"], DyingEngine(4, 7))
    twice = trained(runs["twice"])
    for name, value in weights(once).items():
        assert torch.equal(value, weights(twice)[name]), name
    found = audit(twice)
    assert (found.clips_lost, found.clips_twice) == (0, 0)
    assert found.clips_trained == found.clips_planned > 0
    scores = evaluate(twice, runs["twice"], small_world.test_index, 3, "test", predict_here)
    assert scores.map_max is not None, "the model is built for scoring as it was for training"


def test_weak_negatives_change_the_training_and_are_judged_once_they_begin(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    plain, negative = (
        trained(small_world.run_config(tmp_path, name, f"focus.background_weight={beta}", "epochs=4"))
        for name, beta in (("plain", 0), ("negative", 2))
    )

    def precision(run) -> list[float | None]:
        return [
            json.loads(store.read_bytes(run.epoch_url(epoch, "summary.json")))["precision_of_negatives"]
            for epoch in range(4)
        ]

    assert precision(plain) == [None] * 4
    assert precision(negative)[:2] == [None, None], "epoch 1 begins before 30 % of the training"
    late = precision(negative)[2:]
    assert all(value is not None and 0 < value <= 1 for value in late)
    assert any(not torch.equal(value, weights(negative)[name]) for name, value in weights(plain).items())


def test_repeats_are_bags_of_their_own_at_the_same_number_of_clips(small_world: SmallWorld, tmp_path: Path) -> None:
    run = trained(small_world.run_config(tmp_path, "repeat", "plan.repeat_factor=2"))
    bags, twice = [], 0
    for epoch in range(3):
        plan = read_plan(run.epoch_url(epoch, "plan"))
        assert plan is not None
        bags.append(plan.num_bags)
        for url, *rows in plan.slices(0):
            twice += sum(read_table(url, PLAN_SCHEMA, *rows).column("occurrence").to_pylist())
    assert bags == [16, 20, 16], "as without repeats"
    assert twice > 0
    assert audit(run).clips_twice == 0
