"""The loss of a global batch, with numbers worked out by hand, and its independence of how the batch is split."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.trainers.method.loss import masses, noisy_or, weak_negatives, weigh_focused_negatives, weighted_bce

OK = torch.tensor([True])


def test_plain_bce_by_hand() -> None:
    # One bag, one clip, two classes, logits 0: every entry is log 2, so the mean is log 2.
    logits, positive = torch.zeros(1, 1, 2), torch.tensor([[[True, False]]])
    weight = torch.ones(1, 1, 2)
    total = masses(weight, positive, OK)
    assert weighted_bce(logits, positive, weight, OK, total, True).item() == pytest.approx(math.log(2))


def test_mass_normalisation_by_hand() -> None:
    # Two positives with w m = 0.5 and 0: n_pos / sum = 2 / 0.5 = 4, so W = 2 and 0; two negatives weigh 1.
    # Sum = (2 + 0 + 1 + 1) log 2 over 2 clips x 2 classes = log 2. Without it: (0.5 + 0 + 2) log 2 / 4.
    logits = torch.zeros(1, 2, 2)
    positive = torch.tensor([[[True, False], [True, False]]])
    weight = torch.tensor([[[0.5, 1.0], [0.0, 1.0]]])
    total = masses(weight, positive, OK)
    assert total.tolist() == [2.0, 0.5, 2.0, 1.0, 0.0]
    assert weighted_bce(logits, positive, weight, OK, total, True).item() == pytest.approx(math.log(2))
    assert weighted_bce(logits, positive, weight, OK, total, False).item() == pytest.approx(0.625 * math.log(2))


def test_negatives_weigh_more_where_the_model_is_wrong_and_1_in_the_mean() -> None:
    # One positive; three negatives with p^2 = .01, .04 and .25: of a share of .6, n_neg / sum = 3 / .3 = 10 each.
    # .4 + .6 x 10 x .01 = .46, .4 + .6 x 10 x .04 = .64, .4 + .6 x 10 x .25 = 1.9; the sum is 3.
    p = torch.tensor([[[0.9, 0.1], [0.2, 0.5]]])
    positive = torch.tensor([[[True, False], [False, False]]])
    total = masses(torch.ones(1, 2, 2), positive, OK, p**2 * ~positive)
    found = weigh_focused_negatives(p**2 * ~positive, 0.6, total)
    assert found[~positive].tolist() == pytest.approx([0.46, 0.64, 1.9])
    logits = torch.zeros(1, 2, 2, dtype=torch.float64)
    loss = weighted_bce(logits, positive, torch.ones(1, 2, 2, dtype=torch.float64), OK, total, True, found.double())
    assert loss.item() == pytest.approx(math.log(2)), "four entries of log 2 that weigh 4 together"


def test_negatives_that_the_model_all_knows_weigh_1() -> None:
    positive = torch.tensor([[[True, False]]])
    pull = torch.zeros(1, 1, 2)
    assert weigh_focused_negatives(pull, 0.6, masses(torch.ones(1, 1, 2), positive, OK, pull))[0, 0, 1] == 1.0


def test_a_masked_positive_has_exactly_no_gradient() -> None:
    logits = torch.randn(1, 2, 2, requires_grad=True)
    positive = torch.tensor([[[True, False], [True, False]]])
    weight = torch.tensor([[[0.5, 1.0], [0.0, 1.0]]])
    weighted_bce(logits, positive, weight, OK, masses(weight, positive, OK), True).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1, 0].item() == 0.0
    assert (logits.grad != 0).sum() == 3


def test_a_bag_that_was_not_decoded_counts_nowhere() -> None:
    torch.manual_seed(0)
    logits, positive = torch.randn(2, 3, 4), torch.rand(2, 3, 4) > 0.5
    weight = torch.where(positive, torch.rand(2, 3, 4), 1.0)
    ok = torch.tensor([True, False])
    lone = weighted_bce(logits[:1], positive[:1], weight[:1], OK, masses(weight[:1], positive[:1], OK), True)
    both = weighted_bce(logits, positive, weight, ok, masses(weight, positive, ok), True)
    assert both.item() == pytest.approx(lone.item())


def test_all_positives_masked_leaves_the_negatives() -> None:
    logits, positive = torch.zeros(1, 1, 2), torch.tensor([[[True, False]]])
    weight = torch.tensor([[[0.0, 1.0]]])
    loss = weighted_bce(logits, positive, weight, OK, masses(weight, positive, OK), True)
    assert loss.item() == pytest.approx(0.5 * math.log(2))


def test_noisy_or_by_hand() -> None:
    # p = 1/2 at both clips: 1 - (1/2)^2 = 3/4 for the positive; the negative's mean log(1 - p) is -log 2.
    logits = torch.zeros(1, 2, 2)
    positive = torch.tensor([[True, False]])
    total = torch.tensor([2.0, 2.0, 2.0, 1.0])
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert noisy_or(logits, positive, OK, total).item() == pytest.approx(expected, rel=1e-5)


def test_noisy_or_is_finite_for_confident_logits() -> None:
    for value in (-60.0, 60.0):
        logits = torch.full((1, 4, 2), value, requires_grad=True)
        loss = noisy_or(logits, torch.tensor([[True, False]]), OK, torch.tensor([4.0, 4.0, 4.0, 1.0]))
        loss.backward()
        assert torch.isfinite(loss)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_parts_of_a_split_batch_add_up_to_the_whole(seed: int, parts: int, normalise: bool) -> None:
    make = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, 5, generator=make, dtype=torch.float64, requires_grad=True)
    positive = torch.rand(4, 3, 5, generator=make) > 0.6
    weight = torch.where(positive, torch.rand(4, 3, 5, generator=make), 1.0)
    ok = torch.rand(4, generator=make) > 0.2

    def loss(chosen: slice, total: torch.Tensor) -> torch.Tensor:
        part = weighted_bce(logits[chosen], positive[chosen], weight[chosen], ok[chosen], total, normalise)
        return part + noisy_or(logits[chosen], positive[chosen].any(1), ok[chosen], total)

    pieces = [slice(i, i + 4 // parts) for i in range(0, 4, 4 // parts)]
    total = sum((masses(weight[s], positive[s], ok[s]) for s in pieces), torch.zeros(5, dtype=torch.float64))
    whole = loss(slice(0, 4), masses(weight, positive, ok))
    (gradient,) = torch.autograd.grad(whole, logits)
    split = torch.stack([loss(s, total) for s in pieces]).sum()
    (split_gradient,) = torch.autograd.grad(split, logits)
    assert split.item() == pytest.approx(whole.item(), abs=1e-9)
    assert torch.allclose(gradient, split_gradient, atol=1e-9)


def test_weak_negatives_by_hand() -> None:
    # logits 0 and 2 of two label places, weights .5 and 1: .5 log 2 + log(1 + e^2) = 2.473502, over 1 clip x 3 classes
    logits = torch.tensor([[[0.0, 2.0]]])
    weight = torch.tensor([[[0.5, 1.0]]])
    total = torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    assert weak_negatives(logits, weight, OK, total, 3).item() == pytest.approx(2.473502 / 3, abs=1e-6)
    assert weak_negatives(logits, weight, ~OK, total, 3).item() == 0.0, "a bag that did not decode says nothing"


def test_weak_negatives_push_down_only_what_is_masked_and_only_through_logits() -> None:
    logits = torch.zeros(2, 2, 2, requires_grad=True)
    weight = torch.tensor([[[0.0, 0.5], [1.0, 0.0]]]).repeat(2, 1, 1).requires_grad_()
    total = torch.tensor([8.0, 8.0, 4.0, 2.0], dtype=torch.float64)
    weak_negatives(logits, weight, torch.tensor([True, True]), total, 2).backward()
    assert weight.grad is None
    assert logits.grad is not None
    # d softplus(0) = 1/2, times the weight, over 4 clips x 2 classes
    assert logits.grad[0].flatten().tolist() == pytest.approx([0.0, 0.03125, 0.0625, 0.0])


@given(st.integers(1, 4), st.integers(0, 2**31))
def test_weak_negatives_of_parts_add_up(parts: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits, weight = (torch.rand(4, 3, 5, generator=random, dtype=torch.float64) for _ in range(2))
    ok = torch.rand(4, generator=random) < 0.8
    total = torch.tensor([0.0, 0.0, float(ok.sum()) * 3, float(ok.sum())], dtype=torch.float64)
    whole = weak_negatives(logits, weight, ok, total, 7)
    split = [
        weak_negatives(z, w, o, total, 7)
        for z, w, o in zip(logits.chunk(parts), weight.chunk(parts), ok.chunk(parts), strict=True)
    ]
    assert float(sum(split)) == pytest.approx(float(whole), abs=1e-12)
