"""Thresholds from truth about times, or about videos only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import InputError
from adaptfocus.trainers.localisation.thresholds import BINS, Counts, Thresholds, best_threshold, bins_of, calibrate


def video(scores: list[float], has: bool | None, shown: list[bool] | None = None) -> Counts:
    counts = Counts.empty(1)
    told = None if has is None else np.array([has])
    counts.add_video(np.array([scores], np.float32).T, told, None if shown is None else np.array([shown]).T)
    return counts


def test_labels_of_videos_choose_between_the_videos_best_scores() -> None:
    counts = video([0.1, 0.9], True) + video([0.8, 0.2], True) + video([0.3, 0.2], False)
    found = calibrate(("a",), counts)
    assert found.sources == ("labels",)
    assert 0.3 < found.values[0] <= 0.8  # in the middle of the gap, in log odds
    assert found.values[0] == pytest.approx(0.57, abs=0.03)
    assert found.f1[0] == 1.0
    assert found.positives.tolist() == [2]


def test_intervals_choose_between_times_and_come_first() -> None:
    counts = video([0.1, 0.2, 0.6, 0.7], True, [False, False, True, True])
    found = calibrate(("a",), counts)
    assert found.sources == ("intervals",)
    assert 0.2 < found.values[0] <= 0.6
    assert found.positives.tolist() == [2]


def test_a_label_without_a_positive_gets_the_median_of_the_others() -> None:
    counts = Counts.empty(3)
    counts.add_video(np.array([[0.9, 0.6, 0.5]]), np.array([True, True, False]), None)
    counts.add_video(np.array([[0.1, 0.1, 0.5]]), np.array([False, False, False]), None)
    found = calibrate(("a", "b", "c"), counts)
    assert found.sources == ("labels", "labels", "default")
    assert found.values[2] == pytest.approx(np.median(found.values[:2]))
    assert np.isnan(found.f1[2])


def test_a_video_that_nobody_labelled_says_nothing() -> None:
    with pytest.raises(InputError, match="cannot be calibrated"):
        calibrate(("a",), video([0.9], None))
    with pytest.raises(InputError, match="cannot be calibrated"):
        calibrate(("a",), video([0.9], False))


def test_thresholds_come_back_from_their_file_in_the_order_of_the_labels() -> None:
    saved = calibrate(("a",), video([0.9], True) + video([0.1], False)).to_json()
    both = {"thresholds": [*saved["thresholds"], saved["thresholds"][0] | {"label": "b", "threshold": 0.25}]}
    found = Thresholds.from_json(both, ("b", "a"), "x.json")
    assert found.values.tolist() == [0.25, saved["thresholds"][0]["threshold"]]
    with pytest.raises(InputError, match=r"x\.json has no threshold for each label"):
        Thresholds.from_json(saved, ("c",), "x.json")
    with pytest.raises(InputError, match="has no threshold"):
        Thresholds.from_json({"thresholds": [{"label": "a", "threshold": "high"}]}, ("a",), "x.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": 30}, "a threshold is not between 0 and 1"),  # written by hand, in per cent
        ({"threshold": "nan"}, "a threshold is not between 0 and 1"),
        ({"from": "me"}, "\"from\" is 'me', and none of intervals, labels, given, default"),
        ({"positives": 10**30}, "has no threshold for each label"),
    ],
)
def test_a_file_of_thresholds_that_cannot_be_is_told(change: dict, said: str) -> None:
    saved = Thresholds.given(("a",), 0.5).to_json()
    saved["thresholds"][0] |= change
    with pytest.raises(InputError, match=said):
        Thresholds.from_json(saved, ("a",), "x.json")


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_no_other_threshold_is_better(scored: list[tuple[float, bool]]) -> None:
    counts = np.zeros((2, BINS), np.int64)
    for score, positive in scored:
        counts[int(positive), bins_of(np.array(score))] += 1
    _, best = best_threshold(counts)
    for limit in range(BINS):
        tp, fp = counts[1, limit:].sum(), counts[0, limit:].sum()
        assert 2 * tp / max(tp + fp + counts[1].sum(), 1) <= best + 1e-12


def test_bins_keep_the_order_and_the_ends() -> None:
    places = bins_of(np.array([0.0, 1e-5, 0.5, 1 - 1e-5, 1.0]))
    assert (np.diff(places) > 0).all()
    assert places[0] == 0
    assert places[-1] == BINS - 1
