"""What an epoch's summary is computed from, as sums: those of some partitions are added to those of others.

Floats are added in one order, that of the windows, so that they are the same whoever computed them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

DROPPED_BITS = 13  # of a float32's 23 of mantissa


@dataclass(frozen=True)
class Histogram:
    """How many of some numbers >= 0 have the same sign, exponent and first 10 bits of mantissa as a float32.

    So a number is known to about 1/1000 of itself, and histograms are added without a loss.
    """

    bits: np.ndarray  # int64 [M], ascending
    count: np.ndarray  # int64 [M]

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        """Args: `values`: float32 [N], none negative."""
        return cls(
            *np.unique(values.astype(np.float32).view(np.int32).astype(np.int64) >> DROPPED_BITS, return_counts=True)
        )

    def __add__(self, other: Histogram) -> Histogram:
        bits, where = np.unique(np.concatenate([self.bits, other.bits]), return_inverse=True)
        count = np.zeros(len(bits), np.int64)
        np.add.at(count, where.ravel(), np.concatenate([self.count, other.count]))
        return Histogram(bits, count)

    def median(self) -> float:
        """The median, to about 1/2000 of itself: the middle of the numbers that its place stands for. 0 of none."""
        total = int(self.count.sum())
        if not total:
            return 0.0
        found = self.bits[np.searchsorted(np.cumsum(self.count), [(total - 1) // 2, total // 2], side="right")]
        middle = np.where(found, (found << DROPPED_BITS) + (1 << DROPPED_BITS - 1), 0)
        return float(middle.astype(np.int32).view(np.float32).astype(np.float64).mean())


@dataclass(frozen=True)
class EpochSums:
    """Sums over the bags and the pairs (video, action) of some partitions. K classes; arrays are float64 or int64."""

    bags: int  # in the ledger
    bags_trained: int
    clips_trained: int
    probability: Histogram  # of the trained clips' labels
    # Over trained bags' labels at their clips: positives that are not masked, positives; weight of the positives where
    # intervals are known, and of those that are true; weight of the weak negatives where intervals are known, and of
    # those that are right.
    weights: np.ndarray  # [6]
    pairs: int  # with a visited bin
    spike: float  # of their spike-actionness
    contrast: np.ndarray  # [K], of their contrasts
    pairs_of: np.ndarray  # [K]: the pairs of each class that have a contrast
    judged: int  # pairs with a visited bin and a true interval
    hits: int  # of these: the salient time lies in an interval
    ranks: np.ndarray  # [4, K]: trained bags with the label, those that are ranked, their ranks, the ranks' variances
    recency: np.ndarray  # [4, K], as `diagnosis.evidence` adds them up
    labels_left_out: int = 0  # of trained bags: their videos have more labels than bags have places

    @classmethod
    def none(cls, classes: int) -> EpochSums:
        """The sums over nothing."""
        of_classes = [np.zeros(shape) for shape in (classes, classes, (4, classes), (4, classes))]
        nothing = Histogram(np.zeros(0, np.int64), np.zeros(0, np.int64))
        contrast, pairs_of, ranks, recency = of_classes
        return cls(0, 0, 0, nothing, np.zeros(6), 0, 0.0, contrast, pairs_of, 0, 0, ranks, recency)

    def __add__(self, other: EpochSums) -> EpochSums:
        return EpochSums(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))
