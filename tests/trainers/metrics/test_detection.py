"""mAP at temporal IoUs: literal cases counted by hand, and an oracle that follows the official code row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.trainers.metrics.detection import (
    AMBIGUOUS,
    Segments,
    activitynet_map,
    segment_iou,
    thumos14_map,
)

TRUE = Segments.of([(0, 0, 0.0, 10.0, 0), (0, 0, 20.0, 30.0, 0), (1, 0, 5.0, 15.0, 0)])


def ap_at(scores, iou: float) -> float:
    return float(scores.at_iou[scores.ious.index(iou)])


def test_three_segments_counted_by_hand() -> None:
    found = Segments.of([(0, 0, 0.0, 10.0, 0.9), (2, 0, 0.0, 9.0, 0.8), (1, 0, 5.0, 13.0, 0.7)])
    scores = activitynet_map(found, TRUE, (0.5, 0.9))
    # hit, miss (a video without the action), hit of IoU 0.8: precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3.
    assert ap_at(scores, 0.5) == pytest.approx(1 / 3 + 2 / 3 / 3)
    assert ap_at(scores, 0.9) == pytest.approx(1 / 3)
    assert scores.average == pytest.approx((5 / 9 + 1 / 3) / 2)
    # At 11 recalls: the precision's maximum is 1 up to recall 1/3 (4 points), 2/3 up to 2/3 (3 points), then 0.
    assert ap_at(thumos14_map(found, TRUE, (0.5,)), 0.5) == pytest.approx((4 + 3 * 2 / 3) / 11)
    assert ap_at(thumos14_map(found, TRUE, (0.5,), "hits"), 0.5) == pytest.approx((1 + 2 / 3) / 3)


def test_an_overlap_of_exactly_the_threshold_is_enough_for_activitynet_only() -> None:
    true, found = Segments.of([(0, 0, 0.0, 2.0, 0)]), Segments.of([(0, 0, 0.0, 1.0, 0.5)])
    assert ap_at(activitynet_map(found, true, (0.5,)), 0.5) == 1.0
    assert ap_at(thumos14_map(found, true, (0.5,)), 0.5) == 0.0


def test_a_true_segment_is_found_once() -> None:
    true = Segments.of([(0, 0, 0.0, 10.0, 0)])
    twice = Segments.of([(0, 0, 0.0, 9.0, 0.9), (0, 0, 0.0, 10.0, 0.8)])
    assert ap_at(activitynet_map(twice, true, (0.5,)), 0.5) == 1.0
    # By THUMOS14's rules the true segment takes the better overlap, so the better score is a false positive.
    assert ap_at(thumos14_map(twice, true, (0.5,)), 0.5) == pytest.approx(0.5)


def test_activitynet_takes_the_next_free_segment() -> None:
    true = Segments.of([(0, 0, 0.0, 10.0, 0), (0, 0, 1.0, 11.0, 0)])
    found = Segments.of([(0, 0, 0.0, 10.0, 0.9), (0, 0, 0.0, 10.0, 0.8)])
    assert ap_at(activitynet_map(found, true, (0.5,)), 0.5) == 1.0


def test_what_touches_an_ambiguous_segment_is_no_false_positive() -> None:
    true = Segments.of([(0, 0, 0.0, 10.0, 0), (0, AMBIGUOUS, 50.0, 60.0, 0)])
    found = Segments.of([(0, 0, 59.0, 90.0, 0.9), (0, 0, 0.0, 10.0, 0.8)])
    assert ap_at(thumos14_map(found, true, (0.5,)), 0.5) == 1.0
    elsewhere = Segments.of([(0, 0, 70.0, 90.0, 0.9), (0, 0, 0.0, 10.0, 0.8)])
    assert ap_at(thumos14_map(elsewhere, true, (0.5,)), 0.5) == 0.5


def test_a_label_without_predictions_counts_as_zero_and_one_without_truth_not_at_all() -> None:
    found = Segments.of([(0, 0, 0.0, 10.0, 0.9), (0, 7, 0.0, 10.0, 0.9)])
    true = Segments.of([(0, 0, 0.0, 10.0, 0), (0, 1, 0.0, 10.0, 0)])
    scores = activitynet_map(found, true, (0.5,))
    assert scores.labels.tolist() == [0, 1]
    assert scores.ap.tolist() == [[1.0, 0.0]]
    assert np.isnan(activitynet_map(found, Segments.of([])).average)


def test_wrong_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="ends before"):
        Segments.of([(0, 0, 2.0, 1.0, 0)])
    with pytest.raises(ValueError, match="IoUs must be in"):
        activitynet_map(TRUE, TRUE, (0.0,))


def test_stretches_without_length_do_not_overlap() -> None:
    at = np.array([1.0])
    assert segment_iou(at, at, at, at).tolist() == [[0.0]]


def rows(most: int):
    """Segments on a coarse grid, so that overlaps do equal thresholds; all scores differ."""
    row = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 8), st.integers(1, 6))
    return st.lists(row, min_size=1, max_size=most).map(
        lambda found: [(v, k, float(s), float(s + n), 1 - i / 100) for i, (v, k, s, n) in enumerate(found)]
    )


@settings(deadline=None)
@given(rows(12), rows(8))
def test_activitynet_agrees_with_its_official_code(found: list, true: list) -> None:
    scores = activitynet_map(Segments.of(found), Segments.of(true), (0.25, 0.5, 0.75))
    for at, iou in enumerate(scores.ious):
        for k, label in enumerate(scores.labels.tolist()):
            assert scores.ap[at, k] == pytest.approx(slow_activitynet_ap(found, true, label, iou))


@settings(deadline=None)
@given(rows(12), rows(8))
def test_thumos14_agrees_with_its_official_code(found: list, true: list) -> None:
    scores = thumos14_map(Segments.of(found), Segments.of(true), (0.25, 0.5, 0.75))
    for at, iou in enumerate(scores.ious):
        for k, label in enumerate(scores.labels.tolist()):
            assert scores.ap[at, k] == pytest.approx(slow_thumos14_ap(found, true, label, iou))


def iou_of(a: tuple, b: tuple) -> float:
    shared = max(0.0, min(a[3], b[3]) - max(a[2], b[2]))
    return shared / ((a[3] - a[2]) + (b[3] - b[2]) - shared)


def slow_activitynet_ap(found: list, true: list, label: int, iou: float) -> float:
    """One prediction after the other, with a lock on each true segment; then the area below the envelope."""
    own = [t for t in true if t[1] == label]
    lock: set[int] = set()
    flags = []
    for p in sorted((p for p in found if p[1] == label), key=lambda p: -p[4]):
        ranked = sorted((n for n, t in enumerate(own) if t[0] == p[0]), key=lambda n: (-iou_of(p, own[n]), -n))
        free = [n for n in ranked if iou_of(p, own[n]) >= iou and n not in lock]
        lock |= set(free[:1])
        flags.append(bool(free))
    area, best = 0.0, 0.0
    for end in range(len(flags), 0, -1):
        best = max(best, sum(flags[:end]) / end)
        area += best / len(own) * flags[end - 1]
    return area


def slow_thumos14_ap(found: list, true: list, label: int, iou: float) -> float:
    """One true segment after the other takes the free prediction with the largest overlap."""
    own = [t for t in true if t[1] == label]
    ranked = sorted((p for p in found if p[1] == label), key=lambda p: -p[4])
    hit: set[int] = set()
    for video in {p[0] for p in ranked}:
        for t in (t for t in own if t[0] == video):
            free = [n for n, p in enumerate(ranked) if p[0] == video and n not in hit]
            best = max(free, key=lambda n: iou_of(ranked[n], t), default=None)
            if best is not None and iou_of(ranked[best], t) > iou:
                hit.add(best)
    total = 0.0
    for tenth in range(11):
        # Recall as a fraction: a recall of 3 / 10 is below MATLAB's 3 * 0.1. There are fewer true segments here.
        reached = [
            len([h for h in hit if h < end]) / end
            for end in range(1, len(ranked) + 1)
            if 10 * len([h for h in hit if h < end]) >= tenth * len(own)
        ]
        total += max(reached, default=0.0) / 11
    return total if hit else 0.0
