"""Average precision of some classes, from what the parts of an evaluation say of them: one task reads nothing else.

AP is exact: a task ranks all videos of the index by each of its classes. The same rankings are scored on resamples of
the videos (trainers/metrics/bootstrap.py). What is added up over classes is added up in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from adaptfocus.pipelines.over import Over
from adaptfocus.trainers.evaluation.predictions import PartWriter
from adaptfocus.trainers.evaluation.view_plans import Truth, Views, read_moments, read_tags
from adaptfocus.trainers.metrics.bootstrap import blocks_of_draws, mean_over_classes, resampled_ap, resamples_for
from adaptfocus.trainers.metrics.video import mean_of_judged, precision_of_ranked

WORK_BYTES = 96 * 2**20  # of scores and rankings, in one task
RANKED = ("map_max", "map_mean")
MOMENTS = "per_time_map"


@dataclass(frozen=True)
class Ranking:
    """The rows of one class, best first."""

    video: np.ndarray  # int32 [rows]
    hits: np.ndarray  # bool [rows]


class ClassScores(NamedTuple):
    """By the name of a mAP: AP of some classes [K'] (nan without positives), and that on resamples [K', R]."""

    ap: dict[str, np.ndarray]
    resampled: dict[str, np.ndarray]


class MeanScores(NamedTuple):
    """By the name of a mAP: itself, AP of each class [K], and mAP on resamples [R]."""

    mean: dict[str, float]
    ap: dict[str, np.ndarray]
    resampled: dict[str, np.ndarray]


@dataclass(frozen=True)
class Scoring:
    """What the tasks that score an index have in common."""

    views: Views
    partitions: int
    parts: PartWriter
    resamples: dict[str, int]  # by the name of a mAP; without `per_time_map` if not all intervals are known

    @classmethod
    def of(cls, views: Views, partitions: int, parts: PartWriter, truth: Truth) -> Scoring:
        resamples: dict[str, int] = {kind: resamples_for(int(truth.positives.sum()), truth.videos) for kind in RANKED}
        if truth.is_known:
            resamples[MOMENTS] = resamples_for(int(truth.moments.sum()), truth.videos)
        return cls(views, partitions, parts, resamples)

    def groups(self) -> list[range]:
        """Classes that one task scores: as many as fit WORK_BYTES."""
        numbers = 24 + (8 * self.views.views if MOMENTS in self.resamples else 0)  # bytes a video and a class
        each = max(1, WORK_BYTES // (numbers * max(self.parts.plan.num_bags, 1)))
        classes = len(self.views.classes)
        return [range(first, min(first + each, classes)) for first in range(0, classes, each)]


def score_all(scoring: Scoring, names: Sequence[str], over: Over, done: Callable[[], None]) -> dict[str, MeanScores]:
    """The scores of some checkpoints, by the names of their evaluations. `done` is called after each group."""
    groups = scoring.groups()
    results = iter(over([(name, group) for name in names for group in groups], partial(score_classes, scoring)))
    found = {}
    for name in names:
        ap: dict[str, list[np.ndarray]] = {kind: [] for kind in scoring.resamples}
        total = {kind: np.zeros(n) for kind, n in scoring.resamples.items()}
        judged = {kind: np.zeros(n, np.int64) for kind, n in scoring.resamples.items()}
        for _ in groups:
            own = next(results)
            for kind in scoring.resamples:
                ap[kind].append(own.ap[kind])
                for values in own.resampled[kind]:  # class by class: sums of floats depend on their order
                    total[kind] += np.nan_to_num(values)
                    judged[kind] += ~np.isnan(values)
            done()
        whole = {kind: np.concatenate(values) for kind, values in ap.items()}
        resampled = {kind: mean_over_classes(total[kind], judged[kind]) for kind in total}
        found[name] = MeanScores({kind: mean_of_judged(each) for kind, each in whole.items()}, whole, resampled)
    return found


def score_classes(scoring: Scoring, item: tuple[str, range]) -> ClassScores:
    """The scores of one checkpoint for some classes.

    Args:
        item: the name of the evaluation, and the classes.
    """
    name, classes = item
    by_kind = _ranked(scoring, name, classes)
    if MOMENTS in scoring.resamples:
        by_kind[MOMENTS] = _moments(scoring, name, classes)
    videos = scoring.parts.plan.num_bags
    return ClassScores(
        {kind: np.array([precision_of_ranked(each.hits) for each in ranked]) for kind, ranked in by_kind.items()},
        {kind: _resampled(ranked, videos, scoring.resamples[kind]) for kind, ranked in by_kind.items()},
    )


def _ranked(scoring: Scoring, name: str, classes: range) -> dict[str, list[Ranking]]:
    """Videos by their largest and their mean probability; those without any class rank last, as Charades has it."""
    some_class, label, slot = read_tags(scoring.views, scoring.partitions, classes)
    scores = scoring.parts.read_ranked(name, classes)
    is_judged = np.zeros(scores.shape[-1], bool)
    is_judged[some_class] = True
    found: dict[str, list[Ranking]] = {kind: [] for kind in RANKED}
    for at, number in enumerate(classes):
        truth = np.zeros(len(is_judged), bool)
        truth[slot[label == number]] = True
        for kind, values in zip(RANKED, scores[at], strict=True):
            found[kind].append(_best_first(np.where(is_judged, values, -np.inf), truth, 1))
    return found


def _moments(scoring: Scoring, name: str, classes: range) -> list[Ranking]:
    """Each view of each video is a row of its own, with what its moment shows."""
    label, slot, shown = read_moments(scoring.views, scoring.partitions, classes)
    scores = scoring.parts.read_moments(name, classes)
    found = []
    for at, number in enumerate(classes):
        truth, is_own = np.zeros(scores.shape[1:], bool), label == number
        truth[slot[is_own]] = shown[is_own]
        found.append(_best_first(scores[at].ravel(), truth.ravel(), scores.shape[2]))
    return found


def _best_first(scores: np.ndarray, truth: np.ndarray, rows_of_video: int) -> Ranking:
    """The order of rows breaks ties."""
    order = np.argsort(-scores, kind="stable")
    return Ranking((order // rows_of_video).astype(np.int32), truth[order])


def _resampled(rankings: Sequence[Ranking], videos: int, resamples: int) -> np.ndarray:
    """AP of each class in each resample, [K', R]."""
    blocks = [
        np.stack([resampled_ap(each.video, each.hits, drawn) for each in rankings])
        for drawn in blocks_of_draws(videos, resamples)
    ]
    return np.hstack(blocks) if blocks else np.full((len(rankings), resamples), np.nan)
