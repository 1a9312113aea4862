"""The switches of a step change how it is computed, not its result. One process, real backbones, small clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adaptfocus.pipelines.schemas import NO_LABEL
from adaptfocus.trainers.backbones import Backbone
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.loop.accumulate import split
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.sharding import on_cpu
from adaptfocus.trainers.loop.step import make_optimiser, ready, train_step
from adaptfocus.trainers.loop.training import wrap_and_restore
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.focus_overhead import Shape, config_of, random_batch
from tests.trainers.backbones.small_backbones import small
from tests.trainers.loop.test_training import DyingEngine, Killed, trained, weights
from tests.worlds import SmallWorld, make_world

pytestmark = pytest.mark.usefixtures("one_thread")

BAGS, CLIPS, CLASSES, EPOCH = 5, 3, 7, 4
TOLERANCE = 1e-6
OF_EACH_FAMILY = ("small3d", "inception_i3d", "nonlocal_i3d_r50", "slowfast_r50", "x3d_s", "mvit_b_16x4", "videomae_b",
                  "timesformer_b", "vjepa2_l", "efficientnet_lite0")  # fmt: skip


def shape_of(model: nn.Module) -> Shape:
    spec = model.input_spec
    return Shape(BAGS, CLIPS, spec.frames, spec.size_pixels, CLASSES, (1, 5), 1)


def batch_for(model: nn.Module, seed: int = 0) -> ClipBatch:
    """Bags with few labels first, so that parts of it weigh very different sums; one could not be decoded."""
    columns = random_batch(shape_of(model), seed).columns()
    order = np.argsort((columns["label_ids"] != NO_LABEL).sum(axis=1), kind="stable")
    for name in ("label_ids", "clip_positive", "saliency_score", "saliency_tau", "saliency_epoch"):
        columns[name] = columns[name][order]
    return ClipBatch(**columns | {"ok": np.arange(BAGS) != 3})


def step(
    recipe: str = "best", *overrides: str, epoch: int = EPOCH, backbone: str = "small3d", model: nn.Module | None = None
) -> dict[str, Any]:
    """One step of a fresh backbone -> its gradients, loss, ledger and state."""
    model = model or small(backbone, CLASSES)
    config = config_of(shape_of(model), recipe, f"backbone={backbone}", "focus.background_from=0", *overrides)
    engine, done = LocalEngine(BAGS, torch.device("cpu")), SinceCommit()
    ready(model, config.step, engine.workers)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)  # AdamW makes a step of any gradient, rounding included
    train_step(config, engine, model, model, optimiser, batch_for(model), epoch, 0.5, done)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {
        "gradients": gradients, "loss": float(done.losses[0]), "rows": done.scores.to_arrow().to_pylist(),
        "state": model.state_dict(), "steps": len(done.losses),
    }  # fmt: skip


def assert_same(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    assert found["gradients"].keys() == wanted["gradients"].keys()
    for name, gradient in wanted["gradients"].items():
        torch.testing.assert_close(found["gradients"][name], gradient, rtol=tolerance, atol=tolerance, msg=name)
    assert max(float(g.abs().max()) for g in wanted["gradients"].values()) > 100 * tolerance
    assert found["loss"] == pytest.approx(wanted["loss"], abs=tolerance)
    assert found["steps"] == wanted["steps"] == 1
    for mine, other in zip(found["rows"], wanted["rows"], strict=True):
        assert mine["probability"] == pytest.approx(other["probability"], abs=tolerance)
        assert mine | {"probability": None} == other | {"probability": None}


@pytest.mark.parametrize("parts", [2, 3, 9])
@pytest.mark.parametrize(
    ("recipe", "epoch"), [("best", EPOCH), ("ours_resampled", EPOCH), ("best", 0), ("noisy", 4), ("focused", EPOCH)]
)
def test_a_batch_in_parts_gives_the_gradient_and_the_ledger_of_the_whole(recipe: str, epoch: int, parts: int) -> None:
    assert_same(step(recipe, f"step.accumulate={parts}", epoch=epoch), step(recipe, epoch=epoch))


def test_parts_are_also_scored_beforehand_for_focused_negatives() -> None:
    """Only focused negatives are on here: their weights still depend on the scores of the whole batch."""
    switches = ("focus.action_focusing=false", "focus.clip_focusing=false", "focus.negative_focus=0.7")
    assert_same(step("ours_resampled", "step.accumulate=3", *switches), step("ours_resampled", *switches))


def test_sgd_is_what_the_published_convolutions_were_trained_with() -> None:
    """Two steps by hand with one gradient: v = g, then 1.9 g; each subtracts rate (g + .9 v) from w (Nesterov)."""
    model = small("small3d", CLASSES)
    config = config_of(shape_of(model), "noisy", "optim.name=sgd", "optim.learning_rate=0.1", "optim.weight_decay=0")
    optimiser = make_optimiser(config, model, torch.device("cpu"))
    bias = model.head.bias
    before = bias.detach().clone()
    for _ in range(2):
        bias.grad = torch.ones_like(bias)
        optimiser.step()
    torch.testing.assert_close(before - bias.detach(), torch.full_like(bias, 0.1 * (1 + 0.9) + 0.1 * (1 + 0.9 * 1.9)))


def test_parts_are_scored_beforehand_only_where_the_mass_needs_it() -> None:
    def calls(*overrides: str, **given: Any) -> int:
        model, seen = small("small3d", CLASSES), []
        model.register_forward_hook(lambda *_: seen.append(1))
        step("ours_resampled", "step.accumulate=5", *overrides, model=model, **given)
        return len(seen)

    assert calls() == 10
    assert calls(epoch=0) == 5  # in the warm-up every positive weighs 1
    assert calls("focus.normalise_mass=false") == 5
    assert calls("focus.action_focusing=false", "focus.clip_focusing=false") == 5


def test_parts_are_runs_of_bags_that_differ_by_one_at_most() -> None:
    assert split(8, 3) == [slice(0, 2), slice(2, 5), slice(5, 8)]
    assert split(2, 5) == [slice(0, 1), slice(1, 2)]
    assert split(4, 1) == [slice(0, 4)]


@pytest.mark.parametrize("backbone", OF_EACH_FAMILY)
def test_activations_that_are_computed_again_give_the_same_gradients(backbone: str) -> None:
    results, calls = [], ([], [])
    for again in (False, True):
        model = small(backbone, CLASSES)
        assert isinstance(model, Backbone)
        assert model.layers(), "the family says what it repeats"
        inner = next(m for m in model.layers()[0].modules() if not list(m.children()))
        inner.register_forward_hook(lambda *_, seen=calls[again]: seen.append(1))
        results.append(step("best", f"step.checkpoint_activations={again}", backbone=backbone, model=model))
    assert_same(results[1], results[0])
    assert len(calls[1]) > len(calls[0]), "a layer runs once more in the backward pass"
    assert results[1]["state"].keys() == results[0]["state"].keys()


@pytest.mark.parametrize("backbone", ["small3d", "nonlocal_i3d_r50", "x3d_s", "timesformer_b", "efficientnet_lite0"])
def test_channels_last_gives_the_same_step(backbone: str) -> None:
    """Two backbones have convolutions of pictures, whose layout has another name."""
    model = small(backbone, CLASSES)
    wanted, found = step(backbone=backbone), step("best", "step.channels_last=true", backbone=backbone, model=model)
    assert_same(found, wanted, 1e-5)
    kernel = next(m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d) and m.kernel_size[1] > 1)
    layout = torch.channels_last if kernel.ndim == 4 else torch.channels_last_3d
    assert kernel.is_contiguous(memory_format=layout)


def test_bf16_computes_the_backbone_in_bf16_and_the_rest_in_float32() -> None:
    seen = []
    model = small("small3d", CLASSES)
    model.head.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    found, wanted = step("best", "step.precision=bf16", model=model), step()
    assert seen == [torch.bfloat16]
    assert {value.dtype for value in found["state"].values()} == {torch.float32}
    assert found["loss"] == pytest.approx(wanted["loss"], rel=0.02)
    for mine, other in zip(found["rows"], wanted["rows"], strict=True):
        assert mine["probability"] == pytest.approx(other["probability"], abs=0.02)


def test_one_kernel_for_all_weights_is_the_same_adamw() -> None:
    states = []
    for fused in (True, False):
        model = small("small3d", CLASSES)
        config = config_of(shape_of(model), "best", f"step.fused_optimiser={fused}")
        engine, optimiser = LocalEngine(BAGS), make_optimiser(config, model, torch.device("cpu"))
        assert optimiser.param_groups[0]["fused"] == fused
        for seed in range(5):
            train_step(config, engine, model, model, optimiser, batch_for(model, seed), EPOCH, 0.5, SinceCommit())
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_a_compiled_backbone_makes_the_same_step_and_keeps_its_names() -> None:
    wanted = step()
    torch._dynamo.reset()  # forget what other tests have compiled from the same code for other shapes
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = step("best", "step.compile=true")
    assert_same(found, wanted, 1e-5)
    assert found["state"].keys() == wanted["state"].keys()


def went_on(first: str, then: str, backbone: str) -> dict[str, torch.Tensor]:
    """The weights after a step with some switches, and after one more with others, from the first one's state."""
    engine, state = LocalEngine(BAGS, torch.device("cpu")), None
    for seed, overrides in enumerate((first, then)):
        model = small(backbone, CLASSES)
        config = config_of(shape_of(model), "best", f"backbone={backbone}", *overrides.split())
        trained, optimiser = wrap_and_restore(config, engine, model, state)
        train_step(config, engine, trained, model, optimiser, batch_for(model, seed), EPOCH, 0.5, SinceCommit())
        state = on_cpu({"model": model.state_dict(), "optimiser": optimiser.state_dict()}, Leaving())
    assert state is not None
    return state["model"]


@pytest.mark.parametrize("switch", ["step.channels_last=true", "step.fused_optimiser=false"])
def test_a_state_is_resumed_with_another_layout_or_kernel(switch: str) -> None:
    """AdamW's moments follow their weights: one kernel over both would read moments of another layout out of order."""
    wanted = went_on("", "", "x3d_s")
    for first, then in ((switch, ""), ("", switch)):
        for name, value in went_on(first, then, "x3d_s").items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=2e-5, msg=name)


def test_precision_is_part_of_what_is_trained_and_the_other_switches_are_not() -> None:
    def config(*overrides: str) -> dict:
        return config_of(shape_of(small("small3d")), "best", *overrides).what_is_trained()

    others = ("channels_last=true", "fused_optimiser=false", "accumulate=2", "checkpoint_activations=true",
              "compile=true", "sharding=fsdp2")  # fmt: skip
    for other in others:
        assert config(f"step.{other}") == config()
    assert config("step.precision=bf16") != config()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return make_world(tmp_path_factory.mktemp("world"), train=10, test=2)


def test_a_run_is_resumed_with_other_switches(world: SmallWorld, tmp_path: Path) -> None:
    """A user moves a run to a machine with less memory in the middle of an epoch: same ledger, same weights."""
    undisturbed = trained(world.run_config(tmp_path, "a", "epochs=2"))
    with pytest.raises(Killed):
        trained(world.run_config(tmp_path, "b", "epochs=2"), DyingEngine(4, 3))
    less: Callable[..., TrainConfig] = world.run_config
    resumed = trained(less(tmp_path, "b", "epochs=2", "step.accumulate=2", "step.checkpoint_activations=true",
                           "step.channels_last=true", "step.fused_optimiser=false"))  # fmt: skip
    for name, value in weights(undisturbed).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=1e-4, msg=name)
    with pytest.raises(Exception, match=r"step\.precision: 'float32' -> 'bf16'"):
        trained(world.run_config(tmp_path, "b", "epochs=2", "step.precision=bf16"))
