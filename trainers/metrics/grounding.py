"""Temporal sentence grounding: recall of the n best moments at an IoU, and mean IoU, as fractions in [0, 1].

Evaluations disagree about a moment whose IoU equals the threshold. It is a hit where they ask for at least the
threshold (``AT_LEAST``: CPL and its successors, MMN, D3G), and a miss where they ask for more (``ABOVE``: 2D-TAN).
Proposals on a grid do meet thresholds exactly, so the name of a score says which rule it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Edge = Literal[">=", ">"]
AT_LEAST: Edge = ">="
ABOVE: Edge = ">"
RANKS = (1, 5)
IOUS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class GroundingScores:
    """Scores over all sentences of a split."""

    sentences: int
    edge: Edge
    recall: dict[tuple[int, float], float]  # by (n, IoU)
    mean_iou: float  # of the best-ranked moments; nan without sentences

    def named(self) -> dict[str, float]:
        """The scores under the names of papers: ``{"R@1,IoU>=0.5": ..., "mIoU": ...}``."""
        return {f"R@{n},IoU{self.edge}{iou:g}": v for (n, iou), v in self.recall.items()} | {"mIoU": self.mean_iou}


def grounding_scores(
    predicted: Sequence[np.ndarray],
    true: np.ndarray,
    edge: Edge,
    ranks: Sequence[int] = RANKS,
    ious: Sequence[float] = IOUS,
) -> GroundingScores:
    """R@n at IoU, and mean IoU.

    Args:
        predicted: for each of S sentences its moments [P, 2] (start, end), best first. There may be fewer than n; a
            sentence without any counts as missed.
        true: [S, 2].

    Raises:
        ValueError: shapes or numbers disagree, an end is before its start, or a rank or an IoU is out of range.
    """
    true = _moments(true)
    if len(predicted) != len(true):
        raise ValueError(f"moments of {len(predicted)} sentences are predicted, and {len(true)} are known")
    if min(ranks, default=0) < 1 or not all(0 < iou <= 1 for iou in ious):
        raise ValueError(f"ranks must be at least 1, and IoUs in (0, 1]; they are {list(ranks)} and {list(ious)}")
    if edge not in (AT_LEAST, ABOVE):
        raise ValueError(f"edge must be '>=' or '>', not {edge!r}")
    of_sentence = [moment_iou(_moments(p), t) for p, t in zip(predicted, true, strict=True)]
    recall = {}
    for n in ranks:
        best = np.array([values[:n].max(initial=0.0) for values in of_sentence])
        for iou in ious:
            hit = best >= iou if edge == AT_LEAST else best > iou
            recall[n, iou] = float(hit.mean()) if len(hit) else float("nan")
    first = [values[:1].max(initial=0.0) for values in of_sentence]
    return GroundingScores(len(true), edge, recall, float(np.mean(first)) if first else float("nan"))


def moment_iou(moments: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU in float64 of moments [..., 2] with others [..., 2], broadcast; 0 for two moments of no length."""
    moments, other = np.asarray(moments, dtype=np.float64), np.asarray(other, dtype=np.float64)
    shared = np.minimum(moments[..., 1], other[..., 1]) - np.maximum(moments[..., 0], other[..., 0])
    covered = np.maximum(moments[..., 1], other[..., 1]) - np.minimum(moments[..., 0], other[..., 0])
    return np.maximum(shared, 0) / np.where(covered > 0, covered, 1)


def non_maximum_suppression(moments: np.ndarray, scores: np.ndarray, most_iou: float, most: int = 5) -> np.ndarray:
    """The moments [P, 2], best first, without each whose IoU with a better one that is kept is above `most_iou`.

    2D-TAN, MMN and D3G do this, at 0.5, before they count R@5. Equal scores keep their order.
    """
    ranked = _moments(moments)[np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")]
    kept: list[np.ndarray] = []
    for moment in ranked:
        if len(kept) == most:
            break
        if not kept or moment_iou(np.stack(kept), moment).max() <= most_iou:
            kept.append(moment)
    return np.stack(kept) if kept else np.zeros((0, 2))


def _moments(values: np.ndarray) -> np.ndarray:
    moments = np.asarray(values, dtype=np.float64)
    if moments.size == 0:
        return np.zeros((0, 2))
    if moments.ndim != 2 or moments.shape[1] != 2:
        raise ValueError(f"moments must be [number, 2], not {list(moments.shape)}")
    wrong = ~(moments[:, 0] <= moments[:, 1])
    if wrong.any():
        start, end = moments[wrong][0]
        raise ValueError(f"{int(wrong.sum())} of {len(moments)} moments end before they start: {start:g} to {end:g}")
    return moments
