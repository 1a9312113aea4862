"""From scores along time to intervals: those above a threshold, and ranked proposals at many thresholds.

Scores are known at the middles of steps. Between two of them an interval begins where a straight line crosses the
threshold, so a long stride costs less precision. An interval that begins with the first step begins with the video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adaptfocus.trainers.metrics.grounding import moment_iou

LEVELS = np.linspace(0.1, 0.9, 9)  # of proposals, as shares of the label's highest score in the video
LOWEST_PEAK = 0.01  # a label whose highest score is lower gets no proposal
OUTER_SHARE = 0.25  # of a proposal's length, at each side: the surroundings that it should stand out from
MOST_OF_LABEL = 1000  # proposals of one label of one video, before suppression: its cost grows with their square


@dataclass(frozen=True)
class Rules:
    """How intervals are formed."""

    merge_seconds: float = 0.0  # two intervals of a label with a gap of at most this become one
    min_seconds: float = 0.0  # shorter intervals are left out
    # Proposals of a label do not overlap by more. Soft suppression, which lowers their scores instead, gains 0.1 to 1.4
    # mAP by ActivityNet's rules and loses 41 to 80 by THUMOS14's own, where the best overlap hits, whatever its score.
    most_iou: float = 0.5
    most_proposals: int = 200  # of a video


class Intervals(NamedTuple):
    """Intervals of one video, of any labels. Arrays of one length."""

    label: np.ndarray  # int64
    start_seconds: np.ndarray  # float64
    end_seconds: np.ndarray  # float64
    score: np.ndarray  # float64

    def take(self, places: np.ndarray) -> Intervals:
        return Intervals(*(each[places] for each in self))


def intervals_above(
    scores: np.ndarray, times_seconds: np.ndarray, duration_seconds: float, thresholds: np.ndarray, rules: Rules
) -> Intervals:
    """The intervals in which a label's score is at least its threshold, by label and start. Their score is the mean.

    Args:
        scores: [T, K] in [0, 1].
        times_seconds: [T], ascending: the middle of each step.
        thresholds: [K]; a label whose threshold is nan gets none.
    """
    found = []
    for label in np.flatnonzero(scores.max(axis=0, initial=-np.inf) >= thresholds).tolist():
        own = scores[:, label].astype(np.float64)
        begins, ends = _stretches(own, times_seconds, duration_seconds, float(thresholds[label]))
        begins, ends = _merged(begins, ends, rules.merge_seconds)
        is_long = ends - begins >= rules.min_seconds
        found.append(_of_label(label, begins[is_long], ends[is_long], _Means(own, times_seconds)))
    return _joined(found)


def propose(scores: np.ndarray, times_seconds: np.ndarray, duration_seconds: float, rules: Rules) -> Intervals:
    """Ranked candidates for mAP, best first: stretches above each of LEVELS, without those that overlap a better one.

    A proposal's score is its mean minus that of its surroundings, as in the outer-inner contrast of AutoLoc (Shou et
    al., ECCV 2018): the best stretch is neither too short nor too long.

    Args: as `intervals_above`.
    """
    found = []
    peaks = scores.max(axis=0, initial=0.0)
    for label in np.flatnonzero(peaks >= LOWEST_PEAK).tolist():
        own = scores[:, label].astype(np.float64)
        levels = [
            _merged(*_stretches(own, times_seconds, duration_seconds, at), rules.merge_seconds)
            for at in (LEVELS * peaks[label]).tolist()
        ]
        moments = np.unique(np.concatenate([np.stack(each, axis=1) for each in levels]), axis=0)
        moments = moments[moments[:, 1] - moments[:, 0] >= max(rules.min_seconds, 1e-6)]
        contrast = _contrast(moments, duration_seconds, _Means(own, times_seconds))
        best = np.argsort(-contrast, kind="stable")[:MOST_OF_LABEL]
        kept = best[suppress(moments[best], contrast[best], rules.most_iou)]
        starts, ends = moments[kept].T
        found.append(Intervals(np.full(len(kept), label), starts, ends, contrast[kept]))
    every = _joined(found)
    return every.take(np.argsort(-every.score, kind="stable")[: rules.most_proposals])


def suppress(moments: np.ndarray, scores: np.ndarray, most_iou: float) -> np.ndarray:
    """The places of the moments [P, 2] that stay, best first: none overlaps a better one by more than `most_iou`."""
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][moment_iou(moments[left[1:]], moments[left[0]]) <= most_iou]
    return np.array(kept, np.int64)


class _Means:
    """Means of a label's score over stretches of time. A score holds from the middle before it to the one after."""

    def __init__(self, scores: np.ndarray, times_seconds: np.ndarray) -> None:
        gaps = np.diff(times_seconds)
        first = gaps[0] / 2 if len(gaps) else 0.5
        last = gaps[-1] / 2 if len(gaps) else 0.5
        middles = times_seconds[:-1] + gaps / 2
        self._edges = np.concatenate([[times_seconds[0] - first], middles, [times_seconds[-1] + last]])
        self._sums = np.concatenate([[0.0], np.cumsum(scores * np.diff(self._edges))])

    def over(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The mean over each stretch; 0 for one outside the video or without length."""
        sums = np.interp(end, self._edges, self._sums) - np.interp(start, self._edges, self._sums)
        inside = np.clip(end, self._edges[0], self._edges[-1]) - np.clip(start, self._edges[0], self._edges[-1])
        return np.divide(sums, inside, out=np.zeros_like(sums), where=inside > 1e-9)


def _contrast(moments: np.ndarray, duration_seconds: float, means: _Means) -> np.ndarray:
    start, end = moments.T
    margin = OUTER_SHARE * (end - start)
    before = np.maximum(start - margin, 0.0)
    after = np.minimum(end + margin, duration_seconds)
    length = (start - before) + (after - end)
    around = means.over(before, start) * (start - before) + means.over(end, after) * (after - end)
    return means.over(start, end) - np.divide(around, length, out=np.zeros_like(around), where=length > 1e-9)


def _stretches(
    scores: np.ndarray, times_seconds: np.ndarray, duration_seconds: float, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the scores [T] of one label are at least a threshold: starts and ends in seconds."""
    above = np.concatenate([[False], scores >= threshold, [False]])
    first = np.flatnonzero(above[1:] & ~above[:-1])  # steps
    last = np.flatnonzero(above[:-1] & ~above[1:]) - 1
    starts = np.where(first == 0, 0.0, _crossing(scores, times_seconds, np.maximum(first - 1, 0), first, threshold))
    inner = np.minimum(last + 1, len(scores) - 1)
    ends = np.where(last == len(scores) - 1, duration_seconds, _crossing(scores, times_seconds, inner, last, threshold))
    return starts, ends


def _crossing(
    scores: np.ndarray, times_seconds: np.ndarray, below: np.ndarray, above: np.ndarray, threshold: float
) -> np.ndarray:
    """The time between two neighbouring steps at which a straight line crosses the threshold."""
    rise = scores[above] - scores[below]
    share = np.divide(threshold - scores[below], rise, out=np.zeros(len(rise)), where=rise > 0)
    return times_seconds[below] + share * (times_seconds[above] - times_seconds[below])


def _merged(starts: np.ndarray, ends: np.ndarray, most_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    if len(starts) < 2:
        return starts, ends
    is_apart = starts[1:] - ends[:-1] > most_seconds
    return starts[np.concatenate([[True], is_apart])], ends[np.concatenate([is_apart, [True]])]


def _of_label(label: int, starts: np.ndarray, ends: np.ndarray, means: _Means) -> Intervals:
    return Intervals(np.full(len(starts), label), starts, ends, means.over(starts, ends))


def _joined(found: list[Intervals]) -> Intervals:
    if not found:
        return Intervals(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(3)))
    return Intervals(*(np.concatenate(each) for each in zip(*found, strict=True)))
