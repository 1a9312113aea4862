"""A threshold for each label, from videos whose truth is known.

Where an index has intervals of a label, its threshold is the one with the best F1 over steps: is the label happening at
this time? Where it has only video-level labels, it is the one with the best F1 over videos: does the label happen at
any time? The second knows nothing of times. It assumes that a score which is high enough to tell videos apart is high
enough at each time. Each threshold says what it comes from. A label without positives gets a default.

Scores are counted in bins, so that parts of any index are counted by themselves and then added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from adaptfocus.pipelines.errors import InputError

Source = Literal["intervals", "labels", "given", "default"]
DEFAULT = 0.5
WIDEST_LOGIT = 16.0  # float32 probabilities are exact to about here
BINS = 641  # of the log odds, 0.05 wide
_EDGES = np.linspace(-WIDEST_LOGIT, WIDEST_LOGIT, BINS + 1)


class Counts(NamedTuple):
    """Scores by label, truth and bin: int64 [K, 2, BINS]; index 1 of the truth is positive."""

    steps: np.ndarray  # of videos whose intervals are known
    videos: np.ndarray  # the highest score of each labelled video

    @classmethod
    def empty(cls, classes: int) -> Counts:
        return cls(np.zeros((classes, 2, BINS), np.int64), np.zeros((classes, 2, BINS), np.int64))

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]  # sums of counts, not a longer tuple
        return Counts(self.steps + other.steps, self.videos + other.videos)

    def add_video(self, scores: np.ndarray, has_label: np.ndarray | None, shown: np.ndarray | None) -> None:
        """Count one video.

        Args:
            scores: [T, K].
            has_label: bool [K]; None if nobody has labelled the video.
            shown: whether a label happens at a step, bool [T, K]; None if nobody knows.
        """
        label = np.arange(scores.shape[1])
        if has_label is not None:
            np.add.at(self.videos, (label, has_label.astype(int), bins_of(scores.max(axis=0))), 1)
        if shown is not None:
            np.add.at(self.steps, (label[None, :], shown.astype(int), bins_of(scores)), 1)


@dataclass(frozen=True)
class Thresholds:
    """A threshold for each label."""

    labels: tuple[str, ...]
    values: np.ndarray  # float64 [K]
    sources: tuple[Source, ...]
    f1: np.ndarray  # float64 [K], of steps or of videos; nan where nothing was calibrated
    positives: np.ndarray  # int64 [K], steps or videos

    @classmethod
    def given(cls, labels: tuple[str, ...], value: float) -> Thresholds:
        """The same for all labels."""
        count = len(labels)
        nothing = np.zeros(count, np.int64)
        return cls(labels, np.full(count, value), ("given",) * count, np.full(count, np.nan), nothing)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {
                "label": label, "threshold": float(value), "from": source,
                "f1": None if np.isnan(f1) else round(float(f1), 4), "positives": int(positives),
            }
            for label, value, source, f1, positives in zip(
                self.labels, self.values, self.sources, self.f1, self.positives, strict=True
            )
        ]  # fmt: skip
        return {"thresholds": rows}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], labels: tuple[str, ...], where: str) -> Thresholds:
        """What `to_json` gave, in the order of `labels`.

        Raises:
            InputError: it is something else, or a label has no threshold.
        """
        try:
            of_label = {row["label"]: row for row in value["thresholds"]}
            own = [of_label[label] for label in labels]
            values = np.array([float(row["threshold"]) for row in own])
            if not all(0 < value < 1 for value in values):
                raise ValueError("a threshold is not between 0 and 1")
            f1 = np.array([np.nan if row["f1"] is None else float(row["f1"]) for row in own])
            positives = np.array([int(row["positives"]) for row in own], np.int64)
            sources = tuple(row["from"] for row in own)
            if unknown := [each for each in sources if each not in get_args(Source)]:
                raise ValueError(f'"from" is {unknown[0]!r}, and none of {", ".join(get_args(Source))}')
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{where} has no threshold for each label of the run ({error}); give a thresholds.json that "
                "`adaptfocus localise` wrote for the same classes, or an index"
            ) from None
        return cls(labels, values, sources, f1, positives)


def calibrate(labels: tuple[str, ...], counts: Counts) -> Thresholds:
    """The threshold of each label: from steps if any step is positive, else from videos, else the median of the rest.

    Raises:
        InputError: no label has a positive.
    """
    values, f1 = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    positives, sources = np.zeros(len(labels), np.int64), ["default"] * len(labels)
    for k in range(len(labels)):
        for source, own in (("intervals", counts.steps[k]), ("labels", counts.videos[k])):
            if own[1].any():
                values[k], f1[k] = best_threshold(own)
                positives[k], sources[k] = own[1].sum(), source
                break
    if not positives.any():
        raise InputError(
            "the thresholds cannot be calibrated: no video of that index has a label of the run; give another index "
            "with --calibrate, or one threshold for all labels with --threshold"
        )
    values[np.isnan(values)] = np.nanmedian(values)
    return Thresholds(labels, values, tuple(sources), f1, positives)  # type: ignore[arg-type]


def best_threshold(counts: np.ndarray) -> tuple[float, float]:
    """The threshold with the best F1, and that F1. If several neighbouring ones are best, their middle.

    Args:
        counts: [2, BINS], negatives and positives.
    """
    above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]  # at or above the lower edge of each bin
    f1 = 2 * above[1] / np.maximum(above[0] + above[1] + counts[1].sum(), 1)
    first = int(f1.argmax())
    after = first
    while after + 1 < BINS and f1[after + 1] == f1[first]:
        after += 1
    middle = (_EDGES[first] + _EDGES[after]) / 2
    return float(1 / (1 + np.exp(-middle))), float(f1[first])


def bins_of(scores: np.ndarray) -> np.ndarray:
    """The bin of each probability, int64."""
    p = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    logits = np.log(p) - np.log1p(-p)
    return np.clip(((logits + WIDEST_LOGIT) / (2 * WIDEST_LOGIT) * BINS).astype(np.int64), 0, BINS - 1)
