"""Per-frame mAP and the metrics of activities, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptfocus.trainers.metrics.frames import actions_at, charades_times, per_frame_map
from adaptfocus.trainers.metrics.video import accuracy, charades_map, mean_average_precision

YES, NO = True, False


def test_frames_of_videos_of_different_lengths_are_ranked_together() -> None:
    scores = [np.array([[0.9], [0.2], [0.5]]), np.array([[0.8]])]
    truth = [np.array([[YES], [NO], [YES]]), np.array([[NO]])]
    # .9 yes, .8 no, .5 yes, .2 no: (1/1 + 2/3) / 2. The frame without any action stays where its score puts it.
    mean, per_class = per_frame_map(scores, truth)
    assert mean == per_class[0] == pytest.approx(5 / 6)


def test_ends_of_intervals_in_both_conventions() -> None:
    # At 4 frames a second: class 0 from 0.25 to 0.75 s, class 1 from 0.3 to 0.3 s.
    times = np.arange(4) / 4
    intervals = [(0, 0.25, 0.75), (1, 0.3, 0.3)]
    assert actions_at(intervals, times, 2, "closed")[:, 0].tolist() == [NO, YES, YES, YES]
    assert actions_at(intervals, times, 2, "open")[:, 0].tolist() == [NO, NO, YES, NO]
    assert not actions_at(intervals, times, 2, "closed")[:, 1].any()


def test_charades_is_localised_at_25_times() -> None:
    times = charades_times(50.0)
    assert (len(times), times[0], times[1], times[-1]) == (25, 0.0, 2.0, 48.0)


def test_a_frame_that_was_not_scored_ranks_last() -> None:
    scores = [np.array([[-np.inf], [0.1], [0.3]])]
    truth = [np.array([[YES], [NO], [YES]])]
    # .3 yes, .1 no, missing yes: (1 + 2/3) / 2.
    assert per_frame_map(scores, truth)[0] == pytest.approx(5 / 6)


def test_without_the_charades_rule() -> None:
    scores, truth = np.array([[0.9], [0.5], [0.1]]), np.array([[NO], [YES], [YES]])
    assert mean_average_precision(scores, truth)[0] == pytest.approx(7 / 12)
    assert charades_map(scores, truth)[0] == 1.0


def test_the_rule_changes_charades_by_some_tenths_of_a_point() -> None:
    """As many videos and classes as the test set, 49 of them without an action: what leaving the rule out costs."""
    random = np.random.default_rng(0)
    truth = random.random((1863, 157)) < 0.043
    truth[:49] = False
    scores = random.normal(size=truth.shape) + 1.2 * truth
    official, plain = charades_map(scores, truth)[0], mean_average_precision(scores, truth)[0]
    assert 0.001 < official - plain < 0.02
    # The same by the official script's loops: sort, running sums, precision at each positive.
    scores[~truth.any(axis=1)] = -np.inf
    aps = []
    for k in range(157):
        order = sorted(range(1863), key=lambda v: (-scores[v, k], v))
        hits = total = 0.0
        for rank, v in enumerate(order, start=1):
            if truth[v, k]:
                hits += 1
                total += hits / rank
        aps.append(total / hits)
    assert official == pytest.approx(sum(aps) / 157, abs=1e-12)


def test_accuracy() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]])
    assert accuracy(scores, np.array([1, 1, 0])) == pytest.approx(2 / 3), "of equal scores the first counts"
    assert math.isnan(accuracy(np.zeros((0, 2)), np.zeros(0, int)))
    for truth, said in ((np.array([0.0, 1, 0]), "of integers"), (np.array([0, 1, 2]), "not one of 0 to 1")):
        with pytest.raises(ValueError, match=said):
            accuracy(scores, truth)


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores \[2, 3\] and truth \[3, 3\] of a video"):
        per_frame_map([np.zeros((2, 3))], [np.zeros((3, 3), bool)])
    with pytest.raises(ValueError, match="there are no videos"):
        per_frame_map([], [])
