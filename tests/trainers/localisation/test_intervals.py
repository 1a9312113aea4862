"""Intervals from scores along time: their ends, gaps and lengths, and ranked proposals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptfocus.trainers.localisation.intervals import Intervals, Rules, intervals_above, propose, suppress
from adaptfocus.trainers.metrics.grounding import moment_iou

TIMES = np.array([0.5, 1.5, 2.5, 3.5, 4.25])  # a video of 4.5 s in steps of 1 s; the last is its rest


def above(scores: list[float], threshold: float = 0.5, rules: Rules = Rules()) -> list[tuple[float, ...]]:
    found = intervals_above(np.array([scores], np.float32).T, TIMES, 4.5, np.array([threshold]), rules)
    return [tuple(row) for row in np.round(np.stack(found[1:3], axis=1), 6).tolist()]


def test_an_interval_begins_where_a_line_crosses_the_threshold() -> None:
    assert above([0, 1, 1, 0, 0]) == [(1.0, 3.0)]
    assert above([0.25, 0.75, 0.25, 0, 0], 0.5) == [(1.0, 2.0)]
    assert above([0, 1, 0, 0, 0], 0.25) == [(0.75, 2.25)]


def test_an_interval_at_an_end_reaches_the_end_of_the_video() -> None:
    assert above([1, 1, 0, 0, 0]) == [(0.0, 2.0)]
    assert above([0, 0, 0, 0, 1])[0][1] == 4.5
    assert above([1, 1, 1, 1, 1]) == [(0.0, 4.5)]


def test_nothing_above_gives_nothing_and_the_threshold_itself_counts() -> None:
    assert above([0.1, 0.2, 0.3, 0.2, 0.1], 0.31) == []
    assert above([0, 0.5, 0.5, 0, 0], 0.5) == [(1.5, 2.5)]
    assert above([0, 1, 0, 0, 0], float("nan")) == []


def test_small_gaps_are_joined_and_short_intervals_left_out() -> None:
    scores = [1, 0, 1, 0, 0]
    assert above(scores) == [(0.0, 1.0), (2.0, 3.0)]
    assert above(scores, rules=Rules(merge_seconds=1.0)) == [(0.0, 3.0)]
    assert above(scores, rules=Rules(min_seconds=1.1)) == []


def test_the_score_of_an_interval_is_its_mean() -> None:
    scores = np.array([[0.0, 0.8, 0.4, 0.0, 0.0]]).T
    found = intervals_above(scores, TIMES, 4.5, np.array([0.4]), Rules())
    start, end = found.start_seconds[0], found.end_seconds[0]
    inside = (1.0 - start) * 0.0 + 1.0 * 0.8 + (end - 2.0) * 0.4
    assert found.score[0] == pytest.approx(inside / (end - start))


def test_the_best_proposal_is_the_plateau_and_not_a_part_of_it() -> None:
    times = np.arange(40) + 0.5
    scores = np.full((40, 2), 0.02)
    scores[10:20, 0] = 0.9
    scores[15, 0] = 0.95
    scores[:, 1] = 0.001  # below LOWEST_PEAK: no proposal
    found = propose(scores, times, 40.0, Rules())
    assert found.label.tolist() == [0] * len(found.label)
    assert moment_iou(np.array([found.start_seconds[0], found.end_seconds[0]]), np.array([10.0, 20.0])) > 0.9
    assert (np.diff(found.score) <= 0).all()


def test_at_most_so_many_proposals() -> None:
    scores = np.random.default_rng(0).random((300, 4))
    assert len(propose(scores, np.arange(300) + 0.5, 300.0, Rules(most_proposals=7)).label) == 7


def test_suppression_keeps_the_better_of_two_that_overlap() -> None:
    moments = np.array([[0.0, 10.0], [1.0, 10.0], [20.0, 30.0]])
    assert suppress(moments, np.array([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
    assert suppress(moments, np.array([0.5, 0.9, 0.1]), 0.95).tolist() == [1, 0, 2]
    assert suppress(np.zeros((0, 2)), np.zeros(0), 0.5).tolist() == []


@settings(deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.floats(0, 1, width=32)))
def test_whatever_the_scores_intervals_are_inside_the_video_and_apart(scores: np.ndarray) -> None:
    times, duration = np.arange(len(scores)) + 0.5, float(len(scores))
    found = intervals_above(scores, times, duration, np.full(scores.shape[1], 0.5), Rules())
    check_inside(found, duration)
    for label in range(scores.shape[1]):
        own = found.take(found.label == label)
        assert (own.start_seconds[1:] > own.end_seconds[:-1]).all()
        for at, score in zip(times, scores[:, label], strict=True):
            is_in = ((own.start_seconds <= at + 1e-9) & (at - 1e-9 <= own.end_seconds)).any()
            assert is_in == (score >= 0.5)
    proposals = propose(scores, times, duration, Rules())
    check_inside(proposals, duration)
    assert np.isfinite(proposals.score).all()


def check_inside(found: Intervals, duration_seconds: float) -> None:
    assert (found.start_seconds >= 0).all()
    assert (found.end_seconds <= duration_seconds + 1e-9).all()
    assert (found.start_seconds <= found.end_seconds).all()
