"""The step on a CPU equals the same formulas as tensors with autograd, so a device does not change a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.schemas import NEVER_VISITED, NO_LABEL
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.method import closed_form, objective
from benchmarks.focus_overhead import EPOCH, Shape, config_of, random_batch

RECIPES = ("full", "noisy", "ours_resampled", "best", "focused")
SWITCHES = (
    (), ("focus.normalise_mass=false",), ("focus.action_focusing=false",), ("focus.clip_focusing=false",),
    ("focus.delta_seconds=9",), ("saliency.update_rate=1",), ("saliency.update_rate=0.3", "saliency.staleness=0.9"),
    ("focus.noisy_or=0.5", "focus.temperature=0.02"), ("focus.negative_focus=0.7",),
    ("saliency.form=running_max", "saliency.read=before"), ("focus.weight_form=superloss", "focus.temperature=1"),
    ("focus.rivalry=1",), ("focus.rivalry=0.5", "focus.action_focusing=false"),
    ("focus.negative_focus=1", "focus.negative_power=0.5", "focus.noisy_or=1"),
)  # fmt: skip


class OneOfTwo(LocalEngine):
    """One of two ranks; the other holds the same."""

    workers = 2

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        return 2 * values


def both(
    recipe: str, switches: tuple[str, ...], batch: ClipBatch, logits: torch.Tensor, epoch: int, engine: LocalEngine
) -> list[tuple[torch.Tensor, ...]]:
    """(p of real labels, loss, gradient times the number of ranks), computed in both ways."""
    bags, clips, labels = batch.clip_positive.shape
    shape = Shape(bags, clips, 1, 4, logits.shape[1], (0, labels), 1)
    config = config_of(shape, recipe, *switches)
    z = logits.clone().requires_grad_()
    p, loss = objective.objective(config, engine, z, batch, epoch, 0.5)
    (loss * engine.workers).backward()
    assert z.grad is not None
    fast_p, fast_loss, gradient = closed_form.objective(config, engine, logits, batch, epoch, 0.5)
    real = torch.from_numpy(batch.label_ids != NO_LABEL).unsqueeze(1).expand_as(p)
    return [(p[real], loss.detach(), z.grad), (torch.from_numpy(fast_p)[real], torch.tensor(fast_loss), gradient)]


def agree(found: list[tuple[torch.Tensor, ...]]) -> None:
    for plain, fast in zip(*found, strict=True):
        assert fast.dtype == plain.dtype == torch.float32
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


@given(
    st.integers(0, 2**31), st.sampled_from(RECIPES), st.sampled_from(SWITCHES), st.integers(1, 4), st.integers(1, 6),
    st.sampled_from([1, 3, 20]), st.booleans(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_either_way_comes_to_the_same(
    seed: int, recipe: str, switches: tuple[str, ...], bags: int, clips: int, bins: int, is_one_of_two: bool
) -> None:
    """This includes videos without labels, bags that did not decode, clips that share a bin, and unvisited bins."""
    random, classes = np.random.default_rng(seed), 9
    batch = random_batch(Shape(bags, clips, 1, 4, classes, (0, 4), 1), seed, bins)
    real = (batch.label_ids != NO_LABEL)[:, None]
    shown = random.random(batch.clip_positive.shape) < 0.5
    never = random.random(batch.saliency_epoch.shape) < 0.2
    batch = replace(
        batch,
        ok=random.random(bags) < 0.8,
        tau=np.minimum(random.random((bags, clips)) * 1.1, 1.0),
        clip_positive=real & (shown | (recipe != "full")),
        saliency_epoch=np.where(never, NEVER_VISITED, batch.saliency_epoch),
        saliency_score=np.where(never, np.float32(0), batch.saliency_score),
        saliency_tau=np.where(never, np.float32(0), batch.saliency_tau),
    )
    logits = torch.from_numpy(random.normal(0, 3, (bags * clips, classes)).astype(np.float32))
    device = torch.device("cpu")
    engine = OneOfTwo(bags, device) if is_one_of_two else LocalEngine(bags, device)
    epoch = int(random.choice([0, 4, EPOCH]))
    agree(both(recipe, (*switches, f"saliency.bins={bins}"), batch, logits, epoch, engine))


@pytest.mark.parametrize("value", [-60.0, 60.0, 1e-9])
def test_logits_far_out_stay_finite(value: float) -> None:
    shape = Shape(bags=2, clips=3, frames=1, size_pixels=4, classes=5, labels=(1, 3), commit_steps=1)
    found = both("best", (), random_batch(shape, 0), torch.full((6, 5), value), EPOCH, LocalEngine(2))
    assert torch.isfinite(found[1][2]).all()
    agree(found)
