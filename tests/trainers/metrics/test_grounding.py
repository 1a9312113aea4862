"""Grounding scores by hand, at the edges of thresholds in both conventions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.trainers.metrics.grounding import (
    ABOVE,
    AT_LEAST,
    grounding_scores,
    moment_iou,
    non_maximum_suppression,
)

# Truth 0-10 in all three. IoU of the moments: (5/10, 10/10), (3/10), (0, 7/10).
TRUE = np.array([[0.0, 10.0]] * 3)
PREDICTED = [
    np.array([[0.0, 5.0], [0.0, 10.0]]),
    np.array([[7.0, 10.0]]),
    np.array([[10.0, 12.0], [3.0, 10.0]]),
]


def test_both_edges_by_hand() -> None:
    at_least = grounding_scores(PREDICTED, TRUE, AT_LEAST)
    assert at_least.recall == {
        (1, 0.3): pytest.approx(2 / 3), (1, 0.5): pytest.approx(1 / 3), (1, 0.7): 0.0,
        (5, 0.3): 1.0, (5, 0.5): pytest.approx(2 / 3), (5, 0.7): pytest.approx(2 / 3),
    }  # fmt: skip
    above = grounding_scores(PREDICTED, TRUE, ABOVE)
    # The IoUs that are thresholds are hits no longer: 0.5 and 0.3 of the first moments, 0.7 of the second.
    assert above.recall == {
        (1, 0.3): pytest.approx(1 / 3), (1, 0.5): 0.0, (1, 0.7): 0.0,
        (5, 0.3): pytest.approx(2 / 3), (5, 0.5): pytest.approx(2 / 3), (5, 0.7): pytest.approx(1 / 3),
    }  # fmt: skip
    assert at_least.mean_iou == above.mean_iou == pytest.approx((0.5 + 0.3 + 0) / 3)
    assert at_least.named()["R@1,IoU>=0.5"] == pytest.approx(1 / 3)
    assert set(above.named()) == {f"R@{n},IoU>{iou}" for n in (1, 5) for iou in (0.3, 0.5, 0.7)} | {"mIoU"}


def test_a_sentence_without_a_moment_is_missed() -> None:
    scores = grounding_scores([np.zeros((0, 2)), np.array([[0.0, 10.0]])], TRUE[:2], AT_LEAST, ranks=[1], ious=[1.0])
    assert scores.recall == {(1, 1.0): 0.5}
    assert scores.mean_iou == 0.5
    nothing = grounding_scores([], np.zeros((0, 2)), ABOVE)
    assert math.isnan(nothing.mean_iou)
    assert math.isnan(nothing.recall[1, 0.5])


def test_iou_of_moments() -> None:
    moments = np.array([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0], [5.0, 6.0], [1.0, 1.0]])
    assert moment_iou(moments, np.array([1.0, 3.0])).tolist() == pytest.approx([1 / 3, 1, 1 / 3, 0, 0])
    assert moment_iou(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.0


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    moments = np.array([[0.0, 10.0], [0.0, 9.0], [20.0, 30.0], [0.0, 5.0], [21.0, 30.0]])
    # Best first: 20-30, 0-9, 0-10 (IoU .9 with 0-9), 0-5 (5/9 with 0-9), 21-30 (.9 with 20-30).
    kept = non_maximum_suppression(moments, np.array([0.3, 0.8, 0.9, 0.2, 0.1]), most_iou=0.6)
    assert kept.tolist() == [[20, 30], [0, 9], [0, 5]]
    # More than the threshold is left out, the threshold itself is not.
    assert len(non_maximum_suppression(moments, np.array([0.3, 0.8, 0.9, 0.2, 0.1]), most_iou=0.9)) == 5
    assert non_maximum_suppression(moments, np.ones(5), most_iou=1.0, most=2).tolist() == [[0, 10], [0, 9]]
    assert non_maximum_suppression(np.zeros((0, 2)), np.zeros(0), 0.5).shape == (0, 2)


SPANS = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)


@given(SPANS, SPANS)
def test_iou_is_what_counting_tenths_gives(a: list[int], b: list[int]) -> None:
    """By sets of unit cells, which the moments fill."""
    p, t = set(range(*a)), set(range(*b))
    wanted = len(p & t) / len(p | t) if p and t and p & t else 0.0
    assert moment_iou(np.array(a), np.array(b)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: grounding_scores(PREDICTED, TRUE[:2], ABOVE), "moments of 3 sentences are predicted, and 2 are known"),
        (lambda: grounding_scores([np.zeros(2)], TRUE[:1], ABOVE), r"must be \[number, 2\], not \[2\]"),
        (
            lambda: grounding_scores([np.array([[3, 2]])], TRUE[:1], ABOVE),
            "1 of 1 moments end before they start: 3 to 2",
        ),
        (lambda: grounding_scores(PREDICTED, TRUE, ">>"), "edge must be '>=' or '>', not '>>'"),
        (lambda: grounding_scores(PREDICTED, TRUE, ABOVE, ranks=[0]), "ranks must be at least 1"),
        (lambda: grounding_scores(PREDICTED, TRUE, ABOVE, ious=[0.0]), r"IoUs in \(0, 1\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
