"""Clips drawn by a score of bins: `plan.resample_by`."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pydantic
import pytest
import torch

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.plan.draw import Drawer, class_weights
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.settings import PlanConfig
from adaptfocus.pipelines.saliency.bin_scores import SeenBins, bin_weights
from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import BY_SCORE, NO_LABEL
from tests.pipelines.plan.test_draw import CLIP, FIVE, RULES, planner_of, video

BINS = 20
SECONDS = 40.0


def only(*bins: int):
    """A score that gives some bins weight 1, and the last of them weight 3."""

    def score(seen: SeenBins) -> np.ndarray:
        found = np.zeros((len(seen.video_row), BINS))
        found[:, list(bins)] = 1
        found[:, bins[-1]] = 3
        return found

    return score


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a user, in which tests put functions."""
    module = ModuleType("scores_of_a_user")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def drawn(resample_by: str, planner: Planner = FIVE, clips: int = 3, explore: float = 0.5, **changes) -> list[dict]:
    """All clips of every video in epoch 1."""
    rules = replace(RULES, resample_by=resample_by, clips_per_bag=clips, explore_probability=explore)
    saliency = planner.empty_saliency(SaliencyConfig(bins=BINS))
    drawer = Drawer(planner, saliency, 7, 1, CLIP, rules, 0.98, class_weights(planner, rules), **changes)
    rows = planner.video_rows
    bags = drawer.bags(rows, np.zeros(len(rows), np.int64), np.arange(len(rows)))
    return [clip for clips in bags.column("clips").to_pylist() for clip in clips]


def test_clips_that_do_not_explore_lie_in_the_bins_of_the_score(own: ModuleType) -> None:
    own.score = only(13)  # type: ignore[attr-defined]
    clips = drawn("scores_of_a_user:score", clips=40)
    by_score = [clip for clip in clips if clip["focus_label_id"] == BY_SCORE]
    assert all(13 / BINS <= clip["tau"] < 14 / BINS for clip in by_score)
    assert 0.35 * len(clips) < len(by_score) < 0.65 * len(clips)
    assert {clip["focus_label_id"] for clip in clips} == {BY_SCORE, NO_LABEL}


def test_clips_that_explore_stay_where_they_are_without_a_score(own: ModuleType) -> None:
    """A change of the score moves only the clips that it chooses."""
    own.score = only(13)  # type: ignore[attr-defined]
    plain, scored = drawn("salient", clips=40), drawn("scores_of_a_user:score", clips=40)
    pairs = zip(plain, scored, strict=True)
    explored = [(before, after) for before, after in pairs if after["focus_label_id"] == NO_LABEL]
    assert explored
    assert all(before == after for before, after in explored)


def test_bins_are_chosen_in_proportion_to_their_weights(own: ModuleType) -> None:
    own.score = only(4, 8)  # type: ignore[attr-defined]
    planner = planner_of([video(n, ["run"]) for n in range(40)])
    clips = drawn("scores_of_a_user:score", planner, clips=200, explore=0.05)
    by_score = [int(clip["tau"] * BINS) for clip in clips if clip["focus_label_id"] == BY_SCORE]
    assert set(by_score) == {4, 8}
    expected, spread = 0.75 * len(by_score), (0.75 * 0.25 * len(by_score)) ** 0.5
    assert abs(by_score.count(8) - expected) < 4 * spread


def test_a_clip_in_a_bin_at_the_edge_lies_inside_its_video(own: ModuleType) -> None:
    own.score = only(0, 19)  # type: ignore[attr-defined]
    half = (CLIP.frames - 1) / 2 / 5
    centers = [clip["center_seconds"] for clip in drawn("scores_of_a_user:score", clips=40)]
    assert min(centers) >= half
    assert max(centers) <= SECONDS - half


def test_a_video_without_labels_or_weights_explores(own: ModuleType) -> None:
    planner = planner_of([video(0, []), video(1, ["run"])])
    own.nothing = lambda seen: np.zeros((len(seen.video_row), BINS))  # type: ignore[attr-defined]
    own.all = lambda seen: np.ones((len(seen.video_row), BINS))  # type: ignore[attr-defined]
    assert {clip["focus_label_id"] for clip in drawn("scores_of_a_user:nothing", planner)} == {NO_LABEL}
    with_all = drawn("scores_of_a_user:all", planner, clips=40)
    assert {clip["focus_label_id"] for clip in with_all[:40]} == {NO_LABEL}
    assert {clip["focus_label_id"] for clip in with_all[40:]} == {NO_LABEL, BY_SCORE}


def test_a_videos_clips_do_not_depend_on_the_videos_beside_it() -> None:
    """A window is planned in pieces, by any number of tasks."""
    alone = replace(planner_of([video(3, ["jump", "sit"])]), video_rows=np.array([3]))
    beside = drawn("coverage", FIVE, clips=10)[30:40]
    assert [clip["tau"] for clip in drawn("coverage", alone, clips=10)] == [clip["tau"] for clip in beside]


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        # Labels jump and sit. Bin 0: p = .5 and .9, visited in epochs 4 and 2; bin 1: p = .1 and never; bin 2: never.
        ("unsure", [(1 + 0.36) / 2, (0.36 + 1) / 2, 1]),
        ("loss", [-np.log(0.5 * 0.9) / 2, -np.log(0.1 * 0.5) / 2, np.log(2)]),
        ("coverage", [(1 + 3) / 2, (1 + 6) / 2, 6]),
    ],
)
def test_the_scores_that_are_built_in(name: str, weights: list[float]) -> None:
    planner = planner_of([video(0, []), video(1, ["jump", "sit"])])
    bins = Bins(
        torch.tensor([[0.5, 0.1, 0], [0.9, 0, 0]]), torch.zeros(2, 3), torch.tensor([[4, 4, -1], [2, -1, -1]]).int()
    )
    saliency = SaliencyTable(np.array([1, 1]), np.array([0, 2]), bins)
    found = bin_weights(name, planner.video_rows, planner.labels, saliency, epoch=5)
    assert np.allclose(found, [[0, 0, 0], weights])


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda seen: np.ones(len(seen.video_row)), r"of shape \[5\] for 5 videos of 20 bins"),
        (lambda seen: -np.ones((5, BINS)), r"gave \[-1\.0, -1\.0"),
        (lambda seen: np.full((5, BINS), np.nan), "one finite number of at least 0 for each bin"),
        (lambda seen: None, "one finite number of at least 0 for each bin"),
        (lambda seen: np.full((5, BINS), 1j), "one finite number of at least 0 for each bin"),
        (lambda seen: [[1], [1, 2]], "one finite number of at least 0 for each bin"),
        # Their sum is infinite, so each clip would lie in the last bin.
        (lambda seen: np.full((5, BINS), 1e308), r"gave 1e\+308; a weight may be at most 1e\+100"),
    ],
)
def test_a_function_that_gives_something_else_is_named(own: ModuleType, gives, said: str) -> None:
    own.score = gives  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=said):
        drawn("scores_of_a_user:score")


def test_a_function_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"plan\.resample_by=no\.such:thing cannot be imported .*every process"):
        drawn("no.such:thing")
    with pytest.raises(ConfigError, match=r"plan\.resample_by=sys:path is none of salient, unsure, loss, coverage"):
        drawn("sys:path")


def test_settings_that_leave_a_bin_out_for_ever_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"explore_probability = 0\.0 with plan\.resample_by = unsure"):
        PlanConfig(resample_by="unsure", explore_probability=0)
    with pytest.raises(pydantic.ValidationError, match="none of salient, unsure, loss, coverage"):
        PlanConfig(resample_by="stale")


def test_a_function_that_fails_is_named(own: ModuleType) -> None:
    own.score = lambda seen: seen.nothing  # type: ignore[attr-defined]
    with pytest.raises(
        ConfigError, match=r"plan\.resample_by=scores_of_a_user:score failed: AttributeError: .*nothing"
    ):
        drawn("scores_of_a_user:score")
