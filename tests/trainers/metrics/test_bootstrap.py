"""Intervals over test videos, compared with real resamples and with a world whose truth is known."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from adaptfocus.trainers.metrics import bootstrap
from adaptfocus.trainers.metrics.bootstrap import (
    blocks_of_draws,
    draws,
    interval,
    interval_of_score,
    resampled_map,
    resamples_for,
)
from adaptfocus.trainers.metrics.video import mean_average_precision


def a_test_set(rng: np.random.Generator, videos: int, classes: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """A test set whose scores are correlated with the truth."""
    truth = rng.random((videos, classes)) < share
    return rng.normal(size=truth.shape) + 1.2 * truth, truth


@pytest.mark.parametrize("cells_at_once", [1 << 24, 60], ids=["all positives at once", "some at a time"])
def test_a_resample_is_scored_as_if_its_videos_stood_in_a_table(
    monkeypatch: pytest.MonkeyPatch, cells_at_once: int
) -> None:
    monkeypatch.setattr(bootstrap, "_POSITIVES_AT_ONCE", cells_at_once)
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", cells_at_once * 2)
    rng, drawn = np.random.default_rng(0), draws(30, 40)
    scores, truth = a_test_set(rng, 30, 5, 0.15)
    scores = scores.round(1)  # ties: row order decides, as everywhere
    scores[3] = scores[17] = -np.inf
    moments, at = rng.normal(size=(30, 4, 5)).round(1), rng.random((30, 4, 5)) < 0.1
    by_video, by_moment = resampled_map(scores, truth, drawn), resampled_map(moments, at, drawn)
    for n, times in enumerate(drawn.T.astype(int)):
        rows = np.repeat(np.arange(30), times)
        assert by_video[n] == pytest.approx(mean_average_precision(scores[rows], truth[rows])[0], abs=1e-12)
        rows = np.repeat(np.arange(30 * 4), np.repeat(times, 4))
        wanted = mean_average_precision(moments.reshape(-1, 5)[rows], at.reshape(-1, 5)[rows])[0]
        assert by_moment[n] == pytest.approx(wanted, abs=1e-12)


def test_draws_are_those_of_the_number_of_videos_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs on the same videos must see the same resamples, on every machine and in every version."""
    drawn = draws(7, 3)
    assert (draws(7, 1000)[:, :3] == drawn).all()
    assert (drawn.sum(axis=0) == 7).all()
    assert drawn.T.astype(int).tolist() == DRAWN
    assert draws(0).shape == (0, 1000)
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "DRAWN_BYTES", 7 * 4 * 3)
        blocks = [*blocks_of_draws(7, 10)]
    assert [each.shape[1] for each in blocks] == [3, 3, 4]
    assert (np.hstack(blocks) == draws(7, 10)).all()
    assert draws(7, 1).tolist() == drawn[:, :1].tolist()


@pytest.mark.parametrize(
    ("shape", "first", "digest"),
    [
        ((400, 7), [0.23760227211626858, 0.21932551113419682, 0.21648733479345061], "a5f812c9a7da5b1d"),
        ((60, 9, 5), [0.2489270037417411, 0.2462136018134924, 0.24189696639725494], "3658b838ef7f957b"),
    ],
    ids=["videos", "moments"],
)
def test_resamples_are_what_they_always_were_to_the_last_bit(shape: tuple, first: list[float], digest: str) -> None:
    rng = np.random.default_rng(5)
    scores, truth = rng.random(shape, np.float32).astype(float).round(2), rng.random(shape) < 0.2
    scores[:4] = -np.inf
    found = resampled_map(scores, truth, draws(shape[0], 300))
    assert found[:3].tolist() == first
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == digest


DRAWN = [[1, 0, 0, 0, 3, 3, 0], [1, 1, 1, 2, 1, 0, 1], [2, 0, 1, 0, 2, 1, 1]]


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """40 test videos, 200 times: mAP over all test sets of that size lies in the interval about 95 times of 100."""
    rng, drawn = np.random.default_rng(1), draws(40, 300)
    true = np.mean([mean_average_precision(*a_test_set(rng, 40, 6, 0.2))[0] for _ in range(600)])
    held = 0
    for _ in range(200):
        scores, truth = a_test_set(rng, 40, 6, 0.2)
        found = interval(mean_average_precision(scores, truth)[0], resampled_map(scores, truth, drawn))
        assert found is not None
        held += found[0] <= true <= found[1]
    assert 0.88 <= held / 200 <= 0.99


def test_what_is_not_known_has_no_interval_and_none_leaves_the_unit_range() -> None:
    scores, truth = np.zeros((5, 2)), np.zeros((5, 2), bool)
    assert np.isnan(resampled_map(scores, truth, draws(5))).all()
    assert interval(0.5, resampled_map(scores, truth, draws(5))) is None
    assert interval(None, np.linspace(0, 1, 1000)) is None
    assert interval_of_score(0.95, np.linspace(0.8, 1.0, 1000)) == (pytest.approx(0.855, abs=1e-3), 1.0)
    with pytest.raises(ValueError, match="must be"):
        resampled_map(scores, truth[:4], draws(5))


def test_a_large_test_set_takes_fewer_resamples_and_never_too_few() -> None:
    assert resamples_for(0, 20) == 1000
    assert resamples_for(2000 * 157, 2000) == 200
