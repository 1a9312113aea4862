"""The results of a probe: the scores of several seeds, and details and examples of the first seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Span(NamedTuple):
    """A stretch of a video and what it shows."""

    start_seconds: float
    end_seconds: float
    label: str


def evenly(count: int, most: int) -> list[int]:
    """At most `most` places, evenly spread over `count`, independent of any score."""
    chosen = min(count, most)
    return [(2 * i + 1) * count // (2 * chosen) for i in range(chosen)]


@dataclass(frozen=True)
class Strips:
    """One video, or one sentence about it, as rows of spans one below the other: what is true and what was found."""

    title: str
    duration_seconds: float
    rows: Sequence[tuple[str, Sequence[Span]]]
    note: str = ""


@dataclass(frozen=True)
class Details:
    """A table of scores of classes, or of kinds of sentences. The first column names the class or kind."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]  # floats are fractions


@dataclass(frozen=True)
class SeedOutcome:
    """The results of one seed: of one head, or of several where a task has several."""

    seed: int
    metrics: Mapping[str, float]  # by name; fractions in [0, 1]
    losses: Mapping[str, Sequence[float]]  # by head: the mean loss of each epoch
    seconds: float
    predictions: Sequence[Mapping[str, Any]]  # of each test video or sentence
    details: Sequence[Details] = ()
    strips: Sequence[Strips] = ()


@dataclass(frozen=True)
class ProbeResult:
    """All seeds of one probe."""

    task: str
    features: Sequence[str]  # URLs
    annotations: str
    dim: int
    stride_seconds: float
    items: Mapping[str, Mapping[str, int]]  # split -> how many videos, sentences, ... were used
    missing: Mapping[str, Sequence[str]]  # split -> annotated videos without features
    schedule: Mapping[str, Any]
    headline: Sequence[str]  # names of the metrics to look at first
    outcomes: Sequence[SeedOutcome]

    def metrics(self) -> dict[str, tuple[float, float, list[float]]]:
        """name -> mean, standard deviation over seeds (n - 1; 0 for one seed), values by seed."""
        found = {}
        for name in self.outcomes[0].metrics:
            values = [outcome.metrics[name] for outcome in self.outcomes]
            found[name] = (float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, values)
        return found

    def as_json(self) -> dict[str, Any]:
        """The contents of result.json."""
        return {
            "task": self.task,
            "features": list(self.features),
            "annotations": self.annotations,
            "dim": self.dim,
            "stride_seconds": self.stride_seconds,
            "items": {split: dict(counts) for split, counts in self.items.items()},
            "without_features": {
                split: {"videos": len(ids), "examples": list(ids[:5])} for split, ids in self.missing.items()
            },
            "schedule": dict(self.schedule),
            "seeds": [outcome.seed for outcome in self.outcomes],
            "metrics": {
                name: {"mean": mean, "std": std, "values": values}
                for name, (mean, std, values) in self.metrics().items()
            },
            "headline": list(self.headline),
            "details": [
                {"title": each.title, "columns": list(each.columns), "rows": [list(row) for row in each.rows]}
                for each in self.outcomes[0].details
            ],
            "seconds": sum(outcome.seconds for outcome in self.outcomes),
        }
