"""A step never waits for a GPU. Shown without one: on torch's "meta" device, whose tensors have shapes and no numbers.

Calls that make the host wait for a GPU (`.item()`, `.cpu()`, `if tensor`, `nonzero`, a mask as an index) fail on it by
themselves. A copy from ordinary memory would not fail, so the tests catch it. The same loop, step, objective, optimiser
and staging of batches run as on a GPU. Only the way out for scores is replaced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.loop import step as step_module
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.step import make_optimiser, ready, step_function
from adaptfocus.trainers.loop.training import Position, train_epoch
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.focus_overhead import Shape, config_of, random_batch
from tests.trainers.backbones.small_backbones import small

META = torch.device("meta")
BAGS = 4


class WaitsError(AssertionError):
    """Something in a step would make the host wait for a GPU."""


class NoWaitsInKernels(TorchDispatchMode):
    """Refuses copies between the host and the device that the host would wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            given = args[1] if name == "copy_" else args[0]
            waits = not ((kwargs or {}).get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if waits and given.device != made.device:
                raise WaitsError(f"{name} from {given.device} to {made.device} without non_blocking")
        return made


class NoWaitsInFunctions(TorchFunctionMode):
    """Refuses tensors made from Python numbers on the device, because torch copies these and waits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and made.device == META:
            raise WaitsError(f"{func.__name__} on the device")
        return made


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], contextlib.AbstractContextManager]:
    """A block in which every wait for the device raises. The only way out is `device.transfer.Leaving`."""

    def take(self: Leaving, tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    monkeypatch.setattr(Leaving, "take", take)

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        with NoWaitsInKernels(), NoWaitsInFunctions():
            yield

    return block


def given(model: nn.Module, *overrides: str) -> tuple[TrainConfig, Callable, torch.optim.Optimizer, Any]:
    """Settings, the step of a bare GPU box, its optimiser, and a batch."""
    spec = model.input_spec
    shape = Shape(BAGS, 2, spec.frames, spec.size_pixels, 5, (1, 3), 1)
    config = config_of(shape, "best", "focus.background_from=0", *overrides)
    ready(model.to(META), config.step, 1)
    optimiser = make_optimiser(config, model, META)
    step = step_function(config, LocalEngine(BAGS, META), model, model, optimiser)
    return config, step, optimiser, random_batch(shape, 0)


@pytest.mark.parametrize("epoch", [0, 20])
@pytest.mark.parametrize(
    "overrides",
    [
        "optim.clip_gradient_norm=1",
        "focus.delta_seconds=3 focus.noisy_or=0",
        "focus.negative_focus=0.7 focus.rivalry=1",
        "saliency.form=running_max saliency.read=before focus.weight_form=superloss",
        "focus.regime=full",
        "focus.regime=noisy",
        "step.accumulate=3 optim.clip_gradient_norm=1",
        "step.channels_last=true step.checkpoint_activations=true",
        "input.motion=difference input.fade_background=0",
        "input.motion=zero_mean_kernels",
        "augment.crop_area=[0.5,1] augment.flip_probability=0.5 augment.brightness=0.3 augment.hue=0.1 dropout=0.3",
    ],
)
def test_a_step_does_not_wait(no_waits: Callable, overrides: str, epoch: int) -> None:
    _, step, _, batch = given(small("small3d"), *overrides.split())
    done = SinceCommit()
    if "augment" in overrides:
        step(batch, epoch, 0.5, SinceCommit())  # a run's first step copies matrices of colours, which are kept
    with no_waits():
        for _ in range(3):
            step(batch, epoch, 0.5, done)
    assert len(done.losses) == 3
    assert isinstance(done.losses[0], torch.Tensor)
    assert done.losses[0].device == META, "it was the GPU's path"


@pytest.mark.parametrize("backbone", ["inception_i3d", "nonlocal_i3d_r50", "slowfast_r50", "x3d_s", "mvit_b_16x4",
                                      "videomae_b", "timesformer_b", "vjepa2_l", "efficientnet_lite0"])  # fmt: skip
def test_no_backbone_waits(no_waits: Callable, backbone: str) -> None:
    _, step, _, batch = given(small(backbone), f"backbone={backbone}")
    with no_waits():
        step(batch, 20, 0.5, SinceCommit())


def test_the_loop_around_the_step_does_not_wait(no_waits: Callable) -> None:
    """Schedule, heartbeat and the question whether to commit are asked after each step, from numbers of the host."""
    model = small("small3d")
    config, step, optimiser, batch = given(model)
    steps = []

    class NoCommits:
        def after_step(self, plan: PlanFacts, cursor: int, done: SinceCommit) -> SinceCommit:
            steps.append(cursor)
            return done

    class Beats:
        def at(self, *_: object) -> None: ...

        waits_for = at

    batches = [replace(batch, slot=batch.slot + number * BAGS) for number in range(3)]
    plan = PlanFacts("", 20, 3 * BAGS + 1, (), (), 1)
    with no_waits(), pytest.raises(RuntimeError, match="lost bags"):  # three steps of an epoch that has one more bag
        train_epoch(
            config, LocalEngine(BAGS, META), NoCommits(), plan, Position(20, 0, None), iter(batches), step,  # type: ignore[arg-type]
            model, optimiser, Beats(),  # type: ignore[arg-type]
        )  # fmt: skip
    assert steps == [BAGS, 2 * BAGS, 3 * BAGS]


def test_looking_at_losses_does_not_wait(no_waits: Callable) -> None:
    """This is what a loop does after each step on a GPU to check that its numbers are finite."""
    _, step, _, batch = given(small("small3d"))
    done = SinceCommit()
    with no_waits():
        for _ in range(3):
            step(batch, 20, 0.5, done)
            assert done.watch.look(done.losses) is None
    assert len(done.losses) == 3


def waits_by_item(logits: torch.Tensor) -> None:
    logits.sum().item()


def waits_by_if(logits: torch.Tensor) -> None:
    if logits.max() > 3:
        pass


def waits_by_cpu(logits: torch.Tensor) -> None:
    logits.detach().cpu()


def waits_by_mask(logits: torch.Tensor) -> None:
    logits[logits > 0].sum()


def waits_by_numbers(logits: torch.Tensor) -> None:
    logits * torch.tensor([1.0], device=logits.device)


def waits_by_copy(logits: torch.Tensor) -> None:
    logits * torch.ones(1).to(logits.device)


@pytest.mark.parametrize(
    "wait", [waits_by_item, waits_by_if, waits_by_cpu, waits_by_mask, waits_by_numbers, waits_by_copy]
)
def test_whoever_adds_a_wait_is_told(no_waits: Callable, monkeypatch: pytest.MonkeyPatch, wait: Callable) -> None:
    plain = step_module.logits_of

    def logits_of(*args: Any, **kwargs: Any) -> torch.Tensor:
        logits = plain(*args, **kwargs)
        wait(logits)
        return logits

    monkeypatch.setattr(step_module, "logits_of", logits_of)
    _, step, _, batch = given(small("small3d"))
    with no_waits(), pytest.raises((WaitsError, RuntimeError, NotImplementedError)):
        step(batch, 20, 0.5, SinceCommit())
