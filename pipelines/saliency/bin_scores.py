"""Where in a video clips are drawn by a score instead of the method's salient times: `plan.resample_by`.

A score gives each bin of a video's time a weight. A clip that does not explore chooses a bin in proportion to the
weights, and its centre lies uniformly in the bin. Scores are made from saliency when an epoch is drawn, so they need no
state of their own, and a plan is made again as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adaptfocus.pipelines.columns import ListColumn
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.scores import function_at
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, pairs_of_bags
from adaptfocus.pipelines.schemas import NEVER_VISITED

SALIENT = "salient"  # not a score: the method's own way, around the salient time of one action
BUILT_IN = ("unsure", "loss", "coverage")
SETTING = "plan.resample_by"
LEAST_PROBABILITY = 1e-6  # so that a loss is finite
MOST_WEIGHT = 1e100  # sums of larger ones would not be finite, and no bin could be chosen by them
VIDEOS_AT_ONCE = 4096  # of which a score is asked at once


@dataclass(frozen=True)
class SeenBins:
    """What is known of the bins of V videos when an epoch is drawn, for scores that a user writes."""

    video_row: np.ndarray  # [V] int64
    labels: ListColumn  # ascending label ids of each
    saliency: SaliencyTable  # of their R pairs, in the order of videos and labels; its bins are [R, n]
    pair_video: np.ndarray  # [R] int64, the place in `video_row` of each pair
    epoch: int  # that is drawn, counted from 0

    def mean_of_pairs(self, values: np.ndarray) -> np.ndarray:
        """[R, n] to [V, n]: the mean over the labels of each video; 0 for a video without labels."""
        found = np.zeros((len(self.video_row), values.shape[1]))
        some = np.flatnonzero(self.labels.lengths)
        if len(some):
            begins = np.cumsum(self.labels.lengths)[some] - self.labels.lengths[some]
            found[some] = np.add.reduceat(values, begins) / self.labels.lengths[some, None]
        return found


def bin_weights(
    resample_by: str, video_rows: np.ndarray, labels: ListColumn, saliency: SaliencyTable, epoch: int
) -> np.ndarray:
    """The weight of each bin of some videos, float64 [V, n]; all 0 for a video without labels.

    Args:
        resample_by: one of BUILT_IN, or "package.module:function" of a function that takes `SeenBins`.
        video_rows: int64 [V]. labels: their ascending label ids. saliency: of at least these videos.

    Raises:
        ConfigError: the function cannot be imported, or gives something else than V x n numbers of at least 0, or fails.
    """
    score = score_of_bins(resample_by)
    bins = saliency.bins.score.shape[-1]
    found = np.zeros((len(video_rows), bins))
    for first in range(0, len(video_rows), VIDEOS_AT_ONCE):
        part = np.arange(first, min(first + VIDEOS_AT_ONCE, len(video_rows)))
        seen = _seen(video_rows[part], labels.take(part), saliency, epoch)
        try:
            weights = score(seen)
        except Exception as error:  # of somebody else's code
            raise ConfigError(f"{SETTING}={resample_by} failed: {type(error).__name__}: {error}") from error
        found[part] = _checked(resample_by, weights, (len(seen.video_row), bins))
    found[labels.lengths == 0] = 0
    return found


def score_of_bins(resample_by: str) -> Callable[[SeenBins], np.ndarray]:
    """The function that `plan.resample_by` names, other than `salient`.

    Raises:
        ConfigError: it cannot be imported.
    """
    built_in = {"unsure": unsure, "loss": loss, "coverage": coverage}.get(resample_by)
    return built_in or function_at(resample_by, SETTING, (SALIENT, *BUILT_IN))


def _seen(video_rows: np.ndarray, labels: ListColumn, saliency: SaliencyTable, epoch: int) -> SeenBins:
    where = pairs_of_bags(saliency, video_rows, labels)
    bins = saliency.bins
    own = SaliencyTable(
        np.repeat(video_rows, labels.lengths),
        labels.values,
        Bins(bins.score[where], bins.tau[where], bins.epoch[where]),
    )
    return SeenBins(video_rows, labels, own, np.repeat(np.arange(len(video_rows)), labels.lengths), epoch)


def _checked(resample_by: str, weights: object, shape: tuple[int, int]) -> np.ndarray:
    needs = f"for {shape[0]} videos of {shape[1]} bins; it must give one finite number of at least 0 for each bin"
    try:
        given = np.asarray(weights)
        found = given.astype(np.float64, casting="unsafe" if given.dtype == object else "same_kind")
    except (TypeError, ValueError):
        raise ConfigError(f"{SETTING}={resample_by} gave {str(weights)[:80]} {needs}") from None
    if found.shape != shape or not np.isfinite(found).all() or (found < 0).any():
        raise ConfigError(
            f"{SETTING}={resample_by} gave {found.ravel()[:3].tolist()} ... of shape {list(found.shape)} {needs}"
        )
    if found.max(initial=0) > MOST_WEIGHT:
        raise ConfigError(f"{SETTING}={resample_by} gave {found.max():g}; a weight may be at most {MOST_WEIGHT:g}")
    return found


def unsure(seen: SeenBins) -> np.ndarray:
    """4 p (1 - p), the mean over the video's actions; 1, the most there is, for a bin without a visit. [V, n]."""
    p, visited = _visited(seen)
    return seen.mean_of_pairs(np.where(visited, 4 * p * (1 - p), 1.0))


def loss(seen: SeenBins) -> np.ndarray:
    """-log p, the mean over the video's actions; log 2, that of p = 1/2, for a bin without a visit. [V, n]."""
    p, visited = _visited(seen)
    return seen.mean_of_pairs(-np.log(np.where(visited, np.maximum(p, LEAST_PROBABILITY), 0.5)))


def coverage(seen: SeenBins) -> np.ndarray:
    """The number of epochs since the bin's last visit; one more than there were for a bin without a visit. [V, n]."""
    return seen.mean_of_pairs((seen.epoch - seen.saliency.bins.epoch.numpy()).astype(np.float64))


def _visited(seen: SeenBins) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and whether there was a visit, both [R, n]."""
    bins = seen.saliency.bins
    return bins.score.numpy().astype(np.float64), bins.epoch.numpy() != NEVER_VISITED
