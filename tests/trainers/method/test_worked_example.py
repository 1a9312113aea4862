"""One step of AdaptFocus, from logits to gradients, worked out by hand.

One bag of a video with the action 0, and a second class, 1, that it does not have. Epoch 3. Bin 10 of 20 was visited in
epoch 1: s = 0.6 at tau 0.54. The other bins were never visited. Three clips:

    clip   tau    p of action 0   visits bin   after the visit
    A      0.52   0.8             10           s = 0.6 + 0.5 (0.8 - 0.6) = 0.7, tau = 0.54 + 0.5 (0.52 - 0.54) = 0.53
    B      0.90   0.5             18           s = 0.5
    C      0.60   0.5             12           s = 0.5

    a = 0.7, lambda = 0.53, threshold 0.7 a = 0.49
    AF   w_A = 2 sigmoid((0.8 - 0.49) / 0.1) = 2 sigmoid(3.1) = 1.913785, w_B = w_C = 2 sigmoid(0.1) = 1.049958
    CF   m_A = 1 (0.01 away), m_B = 0 (0.37 away), m_C = 1 (0.07 away)
    mass n_pos / sum(w m) = 3 / (1.913785 + 1.049958) = 1.012233: W_A = 1.937197, W_B = 0, W_C = 1.062803
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from adaptfocus.trainers.backbones import InputSpec
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.step import train_step
from benchmarks.focus_overhead import Shape, adamw, config_of, random_batch

SHAPE = Shape(bags=1, clips=3, frames=1, size_pixels=4, classes=2, labels=(1, 2), commit_steps=1)
W_A, W_C = 1.937197, 1.062803
LN_2 = 0.693147


class Scripted(nn.Module):
    """A model whose logits, [3, 2], are its weights: what reaches them is the gradient of the loss."""

    input_spec = InputSpec(frames=1, frame_stride=1, size_pixels=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self) -> None:
        super().__init__()
        # logit(0.8) = ln 4; p = 1/2 everywhere else
        self.logits = nn.Parameter(torch.tensor([[1.386294, 0.0], [0.0, 0.0], [0.0, 0.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


def example() -> ClipBatch:
    batch = random_batch(SHAPE, 0)
    score, seen_at = np.zeros((1, 2, 20), np.float32), np.zeros((1, 2, 20), np.float32)
    epoch = np.full((1, 2, 20), -1, np.int32)
    score[0, 0, 10], seen_at[0, 0, 10], epoch[0, 0, 10] = 0.6, 0.54, 1
    return replace(
        batch, label_ids=np.array([[0, -1]]), clip_positive=np.array([[[True, False]] * 3]),
        tau=np.array([[0.52, 0.90, 0.60]]), saliency_score=score, saliency_tau=seen_at, saliency_epoch=epoch,
    )  # fmt: skip


def stepped(*overrides: str) -> tuple[float, torch.Tensor]:
    """The loss of one step, and its gradient over the logits [3, 2]."""
    config, model, done = config_of(SHAPE, "ours_resampled", *overrides), Scripted(), SinceCommit()
    engine = LocalEngine(1, torch.device("cpu"))
    train_step(config, engine, model, model, adamw(model, config), example(), 3, 0.5, done)
    assert model.logits.grad is not None
    return float(done.losses[0]), model.logits.grad


def test_the_loss_by_hand() -> None:
    # Positives: -ln 0.8 = 0.223144 for A, ln 2 for C, nothing for B. Three negatives at p = 1/2, weight 1: ln 2 each.
    loss, _ = stepped()
    assert loss == pytest.approx((W_A * 0.223144 + W_C * LN_2 + 3 * LN_2) / (3 * 2), abs=1e-6)


def test_the_gradient_by_hand() -> None:
    # d BCE / d logit = p - y, times the weight, over 3 clips x 2 classes.
    _, gradient = stepped()
    by_hand = [[W_A * (0.8 - 1) / 6, 0.5 / 6], [0.0, 0.5 / 6], [W_C * (0.5 - 1) / 6, 0.5 / 6]]
    assert gradient.tolist() == [pytest.approx(row, abs=1e-6) for row in by_hand]


def test_a_masked_positive_gets_exactly_no_gradient_and_negatives_their_plain_one() -> None:
    """Not a small gradient: none. With it, a wrong label would still be learnt, slowly."""
    _, gradient = stepped()
    assert gradient[1, 0].item() == 0.0
    _, plain = stepped("focus.regime=noisy")
    assert torch.equal(gradient[:, 1], plain[:, 1])
    assert plain[1, 0].item() == pytest.approx(-0.5 / 6)


def test_without_mass_normalisation_by_hand() -> None:
    loss, gradient = stepped("focus.normalise_mass=false")
    assert loss == pytest.approx((1.913785 * 0.223144 + 1.049958 * LN_2 + 3 * LN_2) / 6, abs=1e-6)
    assert gradient[1, 0].item() == 0.0


def test_noisy_or_by_hand() -> None:
    # Action 0: 1 - (1 - 0.8)(1 - 0.5)(1 - 0.5) = 0.95, -ln 0.95 = 0.051293. Class 1: the mean of -ln(1 - 1/2) is ln 2.
    # Mean over 1 bag x 2 classes, mu = 0.5: 0.5 (0.051293 + ln 2) / 2.
    alone, _ = stepped()
    loss, gradient = stepped("focus.noisy_or=0.5")
    assert loss - alone == pytest.approx(0.5 * (0.051293 + LN_2) / 2, abs=1e-6)
    # Clip focusing masks only BCE: d/d logit_B of -ln(1 - q) with q = prod(1 - p) = 0.05 is -q p_B / (1 - q)
    assert gradient[1, 0].item() == pytest.approx(0.5 * -(0.05 * 0.5 / 0.95) / 2, abs=1e-6)


def test_only_one_or_the_other_focusing_by_hand() -> None:
    # Only AF: B counts with w_B: n_pos / sum = 3 / (1.913785 + 2 * 1.049958) = 0.747440
    _, gradient = stepped("focus.clip_focusing=false")
    assert gradient[1, 0].item() == pytest.approx(0.747440 * 1.049958 * -0.5 / 6, abs=1e-6)
    # Only CF: A and C weigh 3 / 2 each
    _, gradient = stepped("focus.action_focusing=false")
    assert gradient[:, 0].tolist() == pytest.approx([1.5 * -0.2 / 6, 0.0, 1.5 * -0.5 / 6], abs=1e-6)


def test_weak_negatives_by_hand() -> None:
    # Only B is masked: (1 - m)(1 - w / 2) = 1 - 1.049958 / 2 = 0.475021; BCE(0, 0) = ln 2; weight 2, over 3 clips x 2.
    alone, _ = stepped()
    loss, gradient = stepped("focus.background_weight=2")
    assert loss - alone == pytest.approx(2 * 0.475021 * LN_2 / 6, abs=1e-6)
    assert gradient[1, 0].item() == pytest.approx(2 * 0.475021 * 0.5 / 6, abs=1e-6)
