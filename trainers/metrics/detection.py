"""Temporal action detection: mAP at temporal IoUs, by the rules of ActivityNet's and of THUMOS14's own evaluation.

The two disagree about what is found. ActivityNet's ``eval_detection.py`` goes through predictions, best first: each
takes the true segment that it overlaps most and that is still free, and an IoU equal to the threshold is enough.
THUMOS14's ``TH14eventdetpr.m`` goes through true segments, in the order of their file: each takes the free prediction
that overlaps it most, whatever its score, and the IoU must be above the threshold. There, a prediction that touches a
segment marked as ambiguous is no false positive. Most papers score THUMOS14 by ActivityNet's rules at the IoUs
``THUMOS14_IOUS``. A score should say which rules it used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ACTIVITYNET_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
THUMOS14_IOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
AMBIGUOUS = -1  # the label of segments that count neither for nor against a prediction, in THUMOS14's rules

# How THUMOS14's AP is taken of precision: its maximum at 11 recalls, or the mean of precisions at each hit, as later
# copies of the evaluation do.
Points = Literal["eleven", "hits"]


@dataclass(frozen=True)
class Segments:
    """Labelled stretches of some videos, in the order of their file. Arrays of one length."""

    video: np.ndarray  # int64, any numbers
    label: np.ndarray  # int64
    start_seconds: np.ndarray  # float64
    end_seconds: np.ndarray  # float64
    score: np.ndarray  # float64; of true segments it means nothing

    def __post_init__(self) -> None:
        lengths = {len(each) for each in (self.video, self.label, self.start_seconds, self.end_seconds, self.score)}
        if len(lengths) != 1:
            raise ValueError(f"segments have columns of {sorted(lengths)} rows; all must be as long")
        if not (self.start_seconds <= self.end_seconds).all() or np.isnan(self.score).any():
            raise ValueError("a segment ends before it starts, or a time or a score is nan")

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, float, float, float]]) -> Segments:
        """Rows of (video, label, start_seconds, end_seconds, score)."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * 5
        types = (np.int64, np.int64, np.float64, np.float64, np.float64)
        return cls(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))

    def take(self, places: np.ndarray) -> Segments:
        """Some segments: bool or int64 places."""
        return Segments(*(each[places] for each in (
            self.video, self.label, self.start_seconds, self.end_seconds, self.score
        )))  # fmt: skip


@dataclass(frozen=True)
class DetectionScores:
    """APs as fractions in [0, 1]."""

    ious: tuple[float, ...]
    labels: np.ndarray  # int64 [K]: the labels that have a true segment, ascending; only these are scored
    ap: np.ndarray  # float64 [IoUs, K]

    @property
    def at_iou(self) -> np.ndarray:
        """mAP at each IoU, [IoUs]; nan without true segments."""
        return self.ap.mean(axis=1) if self.ap.size else np.full(len(self.ious), np.nan)

    @property
    def average(self) -> float:
        """The mean over IoUs of mAP."""
        return float(self.at_iou.mean())


def activitynet_map(predicted: Segments, true: Segments, ious: Sequence[float] = ACTIVITYNET_IOUS) -> DetectionScores:
    """mAP by ActivityNet's rules: AP is the area below the precision's upper envelope.

    Predictions in videos without a true segment of their label are false positives. Of equal scores or overlaps the
    later row comes first. Predictions of a label without true segments are left out.

    Raises:
        ValueError: an IoU is not in (0, 1].
    """
    return _by_label(predicted, true, ious, _activitynet_ap)


def thumos14_map(
    predicted: Segments, true: Segments, ious: Sequence[float] = THUMOS14_IOUS, points: Points = "eleven"
) -> DetectionScores:
    """mAP by the rules of THUMOS14's own evaluation. True segments with the label AMBIGUOUS belong to every label.

    Raises:
        ValueError: an IoU is not in (0, 1].
    """
    ambiguous = true.take(true.label == AMBIGUOUS)
    known = true.take(true.label != AMBIGUOUS)
    return _by_label(predicted, known, ious, lambda p, t, i: _thumos14_ap(p, t, ambiguous, i, points))


def segment_iou(start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray) -> np.ndarray:
    """IoU of stretches [N] with others [M]: float64 [N, M]; 0 where neither has a length."""
    shared = np.minimum(end[:, None], other_end) - np.maximum(start[:, None], other_start)
    shared = np.maximum(shared, 0.0)
    covered = (end - start)[:, None] + (other_end - other_start) - shared
    return np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)


def _by_label(predicted: Segments, true: Segments, ious: Sequence[float], ap_of) -> DetectionScores:
    if not ious or not all(0 < iou <= 1 for iou in ious):
        raise ValueError(f"IoUs must be in (0, 1]; they are {list(ious)}")
    labels = np.unique(true.label)
    ap = np.zeros((len(ious), len(labels)))
    for k, label in enumerate(labels.tolist()):
        own = predicted.take(predicted.label == label)
        if len(own.score):
            ap[:, k] = ap_of(own, true.take(true.label == label), np.asarray(ious, np.float64))
    return DetectionScores(tuple(ious), labels, ap)


def _activitynet_ap(predicted: Segments, true: Segments, ious: np.ndarray) -> np.ndarray:
    """AP of one label at each IoU, [IoUs]."""
    predicted = predicted.take(np.argsort(predicted.score, kind="stable")[::-1])
    hits = np.zeros((len(ious), len(predicted.score)), bool)
    for video in np.unique(true.video).tolist():
        rows = np.flatnonzero(predicted.video == video)
        own = true.take(true.video == video)
        overlap = _overlaps(predicted.take(rows), own)
        best_first = np.argsort(overlap, axis=1, kind="stable")[:, ::-1]
        for at, iou in enumerate(ious.tolist()):
            taken = np.zeros(len(own.video), bool)
            for place in np.flatnonzero((overlap >= iou).any(axis=1)).tolist():
                for of_true in best_first[place].tolist():
                    if overlap[place, of_true] < iou:
                        break
                    if not taken[of_true]:
                        taken[of_true] = hits[at, rows[place]] = True
                        break
    return np.array([_area_of_envelope(row, len(true.video)) for row in hits])


def _thumos14_ap(
    predicted: Segments, true: Segments, ambiguous: Segments, ious: np.ndarray, points: Points
) -> np.ndarray:
    """AP of one label at each IoU, [IoUs]."""
    predicted = predicted.take(np.argsort(-predicted.score, kind="stable"))
    hits = np.zeros((len(ious), len(predicted.score)), bool)
    is_ambiguous = np.zeros(len(predicted.score), bool)
    for video in np.unique(predicted.video).tolist():
        rows = np.flatnonzero(predicted.video == video)
        found = predicted.take(rows)
        is_ambiguous[rows] = _overlaps(found, ambiguous.take(ambiguous.video == video)).sum(axis=1) > 0
        overlap = _overlaps(found, true.take(true.video == video))
        for at, iou in enumerate(ious.tolist()):
            free = np.ones(len(rows), bool)
            for column in overlap.T:
                if free.any():
                    best = np.flatnonzero(free)[column[free].argmax()]
                    free[best] &= not column[best] > iou
            hits[at, rows] = ~free
    return np.array([_thumos14_of(row, predicted.score, is_ambiguous, len(true.video), points) for row in hits])


def _thumos14_of(hit: np.ndarray, score: np.ndarray, is_ambiguous: np.ndarray, positives: int, points: Points) -> float:
    counted = hit | ~is_ambiguous
    hit, score = hit[counted], score[counted]
    if points == "eleven":  # it sorts hits before misses of the same score; later copies keep the order of videos
        hit = hit[np.lexsort((~hit, -score))]
    if not hit.any():
        return 0.0
    found = np.cumsum(hit)
    precision = found / np.arange(1, len(hit) + 1)
    if points == "hits":
        return float(precision[hit].sum() / positives)
    recall = found / positives
    return float(np.mean([precision[recall >= at].max(initial=0.0) for at in _ELEVEN]))


def _overlaps(some: Segments, others: Segments) -> np.ndarray:
    return segment_iou(some.start_seconds, some.end_seconds, others.start_seconds, others.end_seconds)


def _area_of_envelope(hit: np.ndarray, positives: int) -> float:
    found = np.cumsum(hit)
    precision = np.concatenate([[0.0], found / np.arange(1, len(hit) + 1), [0.0]])
    recall = np.concatenate([[0.0], found / positives, [1.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    rises = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[rises] - recall[rises - 1]) * envelope[rises]).sum())


# 0:0.1:1 as MATLAB computes it: from both ends to the middle. 3 * 0.1 is above 3 / 10, so a recall of 3 / 10 is not
# enough there.
_ELEVEN = [*(k * 0.1 for k in range(5)), 0.5, *(1 - k * 0.1 for k in range(4, -1, -1))]
