"""Which moments of a run count, from bins of saliency."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import NEVER_VISITED
from adaptfocus.trainers.localisation.salient import Peaks, SalientRules, _best, peaks

BINS = 6


def table_of(scores: np.ndarray) -> SaliencyTable:
    """Pairs of labels 0 and 1 in turn, with these scores at the centres of their bins; 0 means never visited."""
    score = torch.from_numpy(scores.astype(np.float32))
    tau = torch.full_like(score, 0) + (torch.arange(score.shape[1]) + 0.5) / score.shape[1]
    epoch = torch.where(score > 0, 0, NEVER_VISITED).to(torch.int32)
    rows = np.arange(len(scores))
    return SaliencyTable(rows // 2, rows % 2, Bins(score, tau, epoch))


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.5, 0.9]), min_size=BINS, max_size=BINS), min_size=1, max_size=5
    ),
    per_video=st.integers(1, 4),
    length=st.sampled_from([1.0, 9.5, 25.5]),
    low=st.sampled_from([0.0, 0.2, 0.6]),
)
def test_the_best_moments_of_each_pair_that_do_not_overlap(
    scores: list[list[float]], per_video: int, length: float, low: float
) -> None:
    """Against a plain loop: a moment is taken unless a better one of its label overlaps it."""
    rules = SalientRules(length, low, per_video)
    found = peaks(table_of(np.array(scores)), np.full(len(scores), 60.0), 0, 0.5, rules)
    expected = []
    for row, own in enumerate(scores):
        taken: list[tuple[float, float]] = []
        for score, place in sorted((-score, place) for place, score in enumerate(own)):
            center = (place + 0.5) * 10
            is_good = -score > 0 and np.float32(-score) >= low and len(taken) < per_video
            if is_good and all(abs(center - each) >= length for each, _ in taken):
                taken.append((center, -score))
        expected += [(row // 2, row % 2, pytest.approx(c, abs=1e-4), pytest.approx(s)) for c, s in taken]
    assert list(zip(*(each.tolist() for each in found), strict=True)) == expected


def test_old_visits_count_for_less() -> None:
    table = table_of(np.array([[0.8, 0.6, 0, 0, 0, 0]]))
    table.bins.epoch[0, 1] = 4
    found = peaks(table, np.array([60.0]), 4, 0.9, SalientRules(1.0))
    assert found.center_seconds.tolist() == pytest.approx([15.0]), "0.8 of four epochs ago counts as 0.52"


def test_the_best_of_each_label_in_all_parts_whatever_their_order() -> None:
    random = np.random.default_rng(0)
    parts = [
        Peaks(
            np.arange(n * 50, n * 50 + 50), random.integers(0, 3, 50), random.random(50),
            random.integers(0, 9, 50).astype(np.float32) / 9,
        )
        for n in range(3)
    ]  # fmt: skip
    one, other = _best(iter(parts), 4), _best(iter(parts[::-1]), 4)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert np.bincount(one.label_id).tolist() == [4, 4, 4]
    for label in range(3):
        every = sorted((s for part in parts for s in part.score[part.label_id == label]), reverse=True)[:4]
        assert sorted(one.score[one.label_id == label], reverse=True) == every


@pytest.mark.parametrize("wrong", [{"length_seconds": 0}, {"length_seconds": 1, "min_score": 2}])
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"--seconds is 0|--min-score is 2"):
        SalientRules(**wrong)
