"""Numbers that are not finite: a run stops at that step, names it, and keeps nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, InputError
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.trainers.backbones import build, load_pretrained
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.finite import not_finite
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here
from adaptfocus.trainers.evaluation.feature_model import weights_of
from adaptfocus.trainers.evaluation.saved import scores_url
from adaptfocus.trainers.evaluation.scoring import evaluate, predict_here
from adaptfocus.trainers.loop import training
from adaptfocus.trainers.loop.divergence import DivergedError, LossWatch
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import classes_of, load_config
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.runs.snapshots import read_saliency
from tests.trainers.loop.test_training import weights
from tests.worlds import SmallWorld


def stopped(config: Any, engine: LocalEngine | None = None) -> tuple[Run, str]:
    """The run after it has ended itself, and what it said."""
    prepare(config)
    with pytest.raises(DivergedError) as caught:
        training.train(config, engine or LocalEngine(config.plan.bags_per_batch))
    return Run(config.url), str(caught.value)


def commits(run: Run) -> list[tuple[int, int]]:
    return [(e.epoch, e.cursor) for e in run.entries() if e.kind == "checkpoint"]


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def check_json(run: Run) -> None:
    files = [*Path(run.url).rglob("*.json")]
    assert files
    for file in files:
        json.loads(file.read_text(), parse_constant=no_constant)


def test_a_rate_that_is_too_high_stops_the_run_before_anything_is_kept(small_world: SmallWorld, tmp_path: Path) -> None:
    """The first step makes weights of 1e30, the second a loss of them; both belong to the first commit."""
    settings = ("optim.learning_rate=1e30", "optim.schedule=constant", "epochs=1")
    run, said = stopped(small_world.run_config(tmp_path, "fast", *settings))
    assert "the loss is not finite (nan) in batch 2 of 4 of epoch 1 (bags 4 to 7" in said
    assert "learning rate 1e+30" in said
    assert "a lower optim.learning_rate (it is 1e+30) or optim.clip_gradient_norm=1" in said
    assert commits(run) == []
    assert not [*Path(run.url).rglob("state.pt")]
    check_json(run)


class Poisoned(LocalEngine):
    """Hands out one batch whose saliency is not a number."""

    def __init__(self, number: int) -> None:
        super().__init__(4)
        self.number = number

    def batches(self, *args: Any) -> Iterator[ClipBatch]:
        for number, batch in enumerate(super().batches(*args)):
            bad = replace(batch, saliency_score=np.full_like(batch.saliency_score, np.nan),
                          saliency_epoch=np.zeros_like(batch.saliency_epoch))  # fmt: skip
            yield bad if number == self.number else batch


def test_what_was_committed_before_stays_and_can_be_used(small_world: SmallWorld, tmp_path: Path) -> None:
    """16 bags in epoch 0, then the third batch of epoch 1 (warm-up is over): commits are every two batches."""
    config = small_world.run_config(tmp_path, "later")
    run, said = stopped(config, Poisoned(6))
    assert "batch 3 of 5 of epoch 2 (bags 8 to 11" in said
    assert commits(run) == [(0, 8), (0, 16), (1, 8)]
    assert not [*not_finite(weights(run))]
    assert torch.isfinite(read_saliency(run, 1).bins.score).all()
    check_json(run)
    # The same command resumes from the last commit, and ends where it would have ended.
    training.train(config, LocalEngine(4))
    assert commits(run)[-1] == (2, 16)


@pytest.mark.parametrize(("value", "epochs_kept"), [(float("nan"), [(0, 4), (0, 8)]), (float("inf"), [(0, 4), (0, 8)])])
def test_weights_are_looked_at_before_they_are_kept(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, epochs_kept: list
) -> None:
    """A loss that is finite does not show what its own gradient has done to the weights."""
    make = training.step_function

    def spoiling(config: Any, engine: Any, trained: Any, model: torch.nn.Module, optimiser: Any) -> Callable:
        step, count = make(config, engine, trained, model, optimiser), iter(range(100))

        def spoiled(*args: Any) -> None:
            step(*args)
            if next(count) == 2:
                with torch.no_grad():
                    model.head.bias[0] = value  # type: ignore[union-attr, operator, index]

        return spoiled

    monkeypatch.setattr(training, "step_function", spoiling)
    run, said = stopped(small_world.run_config(tmp_path, "spoilt", "checkpoint.every_batches=1"))
    assert "model.head.bias of the weights and the optimiser's state are not finite in batch 3 of 4" in said
    assert commits(run) == epochs_kept


def test_in_bf16_the_message_offers_float32(small_world: SmallWorld, tmp_path: Path) -> None:
    settings = ("step.precision=bf16", "optim.clip_gradient_norm=5", "optim.learning_rate=1e38", "epochs=1")
    _, said = stopped(small_world.run_config(tmp_path, "bf16", *settings))
    assert "or step.precision=float32" in said
    assert "or optim.clip_gradient_norm" not in said, "it is set"


class Slow(Leaving):
    """A device that has not reached a step yet."""

    there: set[int] = set()  # noqa: RUF012 - shared on purpose
    made = 0

    def __init__(self) -> None:
        super().__init__()
        self.number = Slow.made
        Slow.made += 1

    def arrived(self) -> bool:
        return self.number in Slow.there

    def wait(self) -> None:
        Slow.there.add(self.number)


def test_a_gpus_losses_are_looked_at_as_they_arrive_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptfocus.trainers.loop.divergence.Leaving", Slow)
    monkeypatch.setattr(Slow, "there", set())
    monkeypatch.setattr(Slow, "made", 0)
    watch = LossWatch()
    losses: list[torch.Tensor | float] = [torch.tensor(1.0), torch.tensor(float("inf"))]
    assert watch.look(losses) is None, "neither is there"
    Slow.there.add(1)
    assert watch.look(losses) is None, "the first is not there, and the second is not looked at before it"
    Slow.there.add(0)
    losses.append(torch.tensor(float("nan")))
    assert watch.look(losses) == 1
    assert watch.value(1) == float("inf")
    other = LossWatch()
    assert other.look(losses, wait=True) == 1, "a commit waits for all of them"


def test_not_finite_names_places_and_leaves_whole_numbers_alone() -> None:
    state = {
        "model": {"a": torch.ones(3), "b": torch.tensor([1.0, -torch.inf]), "n": torch.tensor(3), "e": torch.ones(0)},
        "optimiser": {"state": {0: {"exp_avg": torch.tensor([torch.nan], dtype=torch.bfloat16)}}, "groups": [0.1]},
    }
    assert list(not_finite(state)) == ["model.b", "optimiser.state.0.exp_avg"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_no_start(tmp_path: Path, value: float) -> None:
    state = build("small3d", 2).state_dict()
    url = str(tmp_path / "w.pt")
    torch.save({"backbone": "small3d", "state_dict": state}, url)
    load_pretrained(build("small3d", 2), url)
    name = next(name for name in state if "head" not in name and state[name].is_floating_point())
    state[name].view(-1)[0] = value
    torch.save({"backbone": "small3d", "state_dict": state}, url)
    with pytest.raises(AdaptFocusError, match=f"holds numbers that are not finite .* in {name}"):
        load_pretrained(build("small3d", 2), url)


@pytest.fixture(scope="module")
def short(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = small_world.run_config(tmp_path_factory.mktemp("runs"), "short", "epochs=1")
    prepare(config)
    training.train(config, LocalEngine(4))
    return Run(config.url)


def test_a_checkpoint_that_is_not_finite_is_neither_resumed_nor_scored(
    short: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version may have left such a checkpoint: only its numbers are wrong."""
    commit = short.newest()[1]
    assert commit is not None
    state = short.load_state(commit)
    next(iter(state["model"].values())).view(-1)[0] = float("nan")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: state)
    with pytest.raises(InputError, match=r"state.pt holds numbers that are not finite .*--epoch"):
        short.load_state(commit)


def test_scores_and_features_of_weights_that_overflow_are_not_written(
    small_world: SmallWorld, short: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are finite, but so large that the scores of a clip are not."""
    load = Run.load_state

    def huge(self: Run, commit: Any) -> dict[str, Any]:
        state = load(self, commit)
        return state | {"model": {name: value * 1e30 for name, value in state["model"].items()}}

    monkeypatch.setattr(Run, "load_state", huge)
    config = load_config(short.url)
    with pytest.raises(InputError, match=r"the scores of checkpoint .* are not finite"):
        evaluate(short, config, small_world.test_index, 2, "huge", predict_here)
    assert not store.exists(scores_url(short.url, "huge"))
    job = Extraction(config, len(classes_of(config)), weights_of(config), small_world.test_index, "pooled", 2.0)
    with pytest.raises(InputError, match=r"the features of video .* are not finite"):
        extract(job, str(tmp_path / "features"), make_here)
    assert not [*(tmp_path / "features").rglob("*.parquet")]


def test_json_has_null_where_a_value_is_undefined() -> None:
    text = json_text({"a": float("nan"), "b": [1.5, -float("inf"), (np.float64("nan"), 2)], "c": "NaN"})
    assert json.loads(text, parse_constant=no_constant) == {"a": None, "b": [1.5, None, [None, 2]], "c": "NaN"}
