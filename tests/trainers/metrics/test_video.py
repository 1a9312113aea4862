"""Metrics against numbers computed by hand, and against a second, slow version of the rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.trainers.metrics.video import (
    average_precision,
    charades_map,
    max_and_mean_over_views,
    per_time_map,
)

YES, NO = True, False


def test_average_precision_by_hand() -> None:
    # Ranked .9 yes, .8 no, .7 yes, .6 yes, .5 no. Precisions at the positives: 1/1, 2/3, 3/4. Mean 29/36.
    scores = np.array([0.5, 0.7, 0.9, 0.6, 0.8])
    truth = np.array([NO, YES, YES, YES, NO])
    assert average_precision(scores, truth) == pytest.approx(29 / 36, abs=1e-15)


def test_charades_map_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.3], [0.8, 0.7, 0.2], [0.4, 0.6, 0.9]])
    truth = np.array([[YES, NO, NO], [NO, YES, NO], [YES, YES, NO]])
    # Class 0: yes (.9), no (.8), yes (.4): (1/1 + 2/3) / 2 = 5/6. Class 1: yes (.7), yes (.6), no: 1.
    # Class 2 has no positive: nan, and out of the mean. Mean (5/6 + 1) / 2 = 11/12.
    mean, per_class = charades_map(scores, truth)
    assert mean == pytest.approx(11 / 12, abs=1e-15)
    assert per_class[:2] == pytest.approx([5 / 6, 1.0], abs=1e-15)
    assert math.isnan(per_class[2])


def test_a_video_without_any_action_ranks_last() -> None:
    """Without this rule a published 0.1893 becomes 0.1856 on the same scores: results could not be compared."""
    scores = np.array([[0.9], [0.5], [0.1]])
    truth = np.array([[NO], [YES], [YES]])
    # Video 0 has no action and goes to the end: yes, yes, no. AP 1. Ranked by its score it would come first:
    # no, yes, yes: (1/2 + 2/3) / 2 = 7/12.
    assert charades_map(scores, truth)[0] == 1.0
    assert average_precision(scores[:, 0], truth[:, 0]) == pytest.approx(7 / 12, abs=1e-15)


def test_a_moment_without_any_action_keeps_its_score() -> None:
    # One video, three views; the empty view ranks first: no, yes, yes = 7/12, unlike in the Charades rule.
    scores = np.array([[[0.9], [0.5], [0.1]]])
    truth = np.array([[[NO], [YES], [YES]]])
    assert per_time_map(scores, truth)[0] == pytest.approx(7 / 12, abs=1e-15)


def test_per_time_map_ranks_all_videos_views_together() -> None:
    # Video 0: .9 yes, .2 no. Video 1: .8 no, .3 yes. Together: yes, no, yes, no: (1 + 2/3) / 2 = 5/6.
    scores = np.array([[[0.9], [0.2]], [[0.8], [0.3]]])
    truth = np.array([[[YES], [NO]], [[NO], [YES]]])
    assert per_time_map(scores, truth)[0] == pytest.approx(5 / 6, abs=1e-15)


def test_ties_are_broken_by_row_order() -> None:
    truth = np.array([NO, YES, NO, YES])
    # All scores equal: the rows as they are: no, yes, no, yes: (1/2 + 2/4) / 2 = 1/2; reversed yes, no, yes, no: 5/6.
    assert average_precision(np.zeros(4), truth) == 0.5
    assert average_precision(np.zeros(4), truth[::-1]) == pytest.approx(5 / 6, abs=1e-15)


def test_scores_that_differ_only_beyond_float32_and_float16() -> None:
    truth = np.array([NO, YES])
    assert average_precision(np.array([0.5, 0.5 + 1e-12]), truth) == 1.0
    assert average_precision(np.array([0.25, 0.5], dtype=np.float16), truth) == 1.0


def slow_charades(scores: list[list[float]], truth: list[list[bool]]) -> tuple[float, list[float]]:
    """The same rule by counting: the precision at a positive is (positives ahead or here) / (rows ahead or here)."""
    videos, classes = len(scores), len(scores[0])
    precisions = []
    for k in range(classes):
        key = [(-scores[v][k] if any(truth[v]) else math.inf, v) for v in range(videos)]
        of_class = []
        for v in range(videos):
            if truth[v][k]:
                ahead = [u for u in range(videos) if key[u] <= key[v]]
                of_class.append(sum(truth[u][k] for u in ahead) / len(ahead))
        precisions.append(sum(of_class) / len(of_class) if of_class else math.nan)
    known = [p for p in precisions if not math.isnan(p)]
    return (sum(known) / len(known) if known else math.nan), precisions


# Scores of one digit, so that ties are common.
TABLES = st.integers(1, 12).flatmap(
    lambda v: st.integers(1, 4).flatmap(
        lambda k: st.tuples(
            st.lists(st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=k, max_size=k), min_size=v, max_size=v),
            st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=v, max_size=v),
        )
    )
)


@settings(deadline=None, max_examples=300)
@given(TABLES)
def test_charades_map_equals_the_slow_rule(table: tuple[list[list[float]], list[list[bool]]]) -> None:
    scores, truth = table
    mean, per_class = charades_map(np.array(scores), np.array(truth))
    slow_mean, slow_per_class = slow_charades(scores, truth)
    np.testing.assert_allclose(per_class, slow_per_class, atol=1e-12)
    np.testing.assert_allclose(mean, slow_mean, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(TABLES, st.randoms(use_true_random=False))
def test_only_the_order_of_scores_matters(table: tuple[list[list[float]], list[list[bool]]], random: object) -> None:
    """A sigmoid on the scores or other names for the classes change no AP."""
    scores, truth = np.array(table[0]), np.array(table[1])
    _, per_class = charades_map(scores, truth)
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    _, permuted = charades_map(1 / (1 + np.exp(-scores[:, order])), truth[:, order])
    np.testing.assert_array_equal(permuted, per_class[order])


def test_nothing_to_judge_is_nan_and_not_zero() -> None:
    mean, per_class = charades_map(np.zeros((2, 3)), np.zeros((2, 3), dtype=bool))
    assert math.isnan(mean)
    assert np.isnan(per_class).all()
    assert math.isnan(charades_map(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool))[0])


def test_max_and_mean_over_views() -> None:
    scores = np.array([[[1, 5], [3, 1]]], dtype=np.float32)
    maximum, mean = max_and_mean_over_views(scores)
    assert maximum.tolist() == [[3, 5]]
    assert mean.tolist() == [[2, 3]]
    assert maximum.dtype == mean.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: charades_map(np.zeros((2, 3)), np.zeros((3, 2), dtype=bool)), r"scores \[2, 3\] and truth \[3, 2\]"),
        (lambda: charades_map(np.zeros(2), np.zeros(2, dtype=bool)), r"must both be \[V, K\]"),
        (lambda: per_time_map(np.zeros((2, 3)), np.zeros((2, 3), dtype=bool)), r"must both be \[V, N, K\]"),
        (lambda: charades_map(np.zeros((2, 3)), np.zeros((2, 3))), "truth must be bool, not float64"),
        (lambda: charades_map(np.array([[np.nan, 0.0]]), np.array([[YES, NO]])), "1 of 2 scores are nan"),
        (lambda: max_and_mean_over_views(np.zeros((2, 0, 3))), r"at least one view, not \[2, 0, 3\]"),
    ],
)
def test_what_cannot_be_judged_is_refused(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
