"""What a report is made of: runs, curves, videos as a run saw them, and what was left out.

infra/report/gather.py fills ReportData, which holds all that one page shows. Values that make no sense are refused.
Scores (mAP, hit rates, saliency) are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from adaptfocus.infra.running.found import Findings
from adaptfocus.infra.running.run_warnings import RunWarning
from adaptfocus.infra.running.time_spent import TimeSpent


@dataclass(frozen=True)
class Curve:
    """One quantity of one run. Curves of the same name share a chart."""

    name: str
    unit: str
    xs: Sequence[float]
    ys: Sequence[float]
    run: str
    x_label: str = "epoch"

    def __post_init__(self) -> None:
        if len(self.xs) != len(self.ys):
            raise ValueError(f"curve {self.name!r} of {self.run!r}: {len(self.xs)} xs but {len(self.ys)} ys")


@dataclass(frozen=True)
class Evaluated:
    """What was scored, and how sure the scores are; None or empty for what was not recorded.

    The keys of `intervals` and `resamples` are names of scores in RunRow. The values are 95 % intervals over test
    videos, and the score on each of the resamples that two runs on the same videos share.
    """

    evaluation: str
    index: str | None = None
    fingerprint: str | None = None
    videos: int | None = None
    undecodable: int | None = None
    views: int | None = None
    crops: int | None = None
    epoch: int | None = None  # the last epoch trained when it was scored, counted from 1
    class_ap: Mapping[str, float | None] = field(default_factory=dict)
    class_positives: Mapping[str, int] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[float] | None] = field(default_factory=dict)
    resamples: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class RunRow:
    """What is known about a run; None for what is unknown. Scores are fractions in [0, 1]."""

    run: str
    regime: str
    epochs: int | None = None
    clips_trained: int | None = None
    map_max: float | None = None
    map_mean: float | None = None
    per_time_map: float | None = None
    hit_rate: float | None = None
    clips_per_video: float | None = None  # in an epoch
    seconds: float | None = None
    workers: int | None = None
    notes: str = ""
    seed: int | None = None
    hit_chance: float | None = None  # the hit_rate of random moments
    epochs_planned: int | None = None
    url: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)  # settings in which the runs of the page differ
    evaluated: Evaluated | None = None
    spent: TimeSpent | None = None  # None: nothing was measured
    found: Findings | None = None  # which classes are found, after the newest epoch
    warnings: Sequence[RunWarning] = ()
    bags_per_epoch: int | None = None  # if epochs are stretches, whose videos may have several bags or none

    def __post_init__(self) -> None:
        for name in ("map_max", "map_mean", "per_time_map", "hit_rate", "hit_chance"):
            value = getattr(self, name)
            if value is not None and not (0 <= value <= 1):
                raise ValueError(f"run {self.run!r}: {name} is {value}, must be a fraction in [0, 1] or None")


@dataclass(frozen=True)
class ActionTimeline:
    """Saliency of one action in one video, in n bins over the video; None for bins never visited."""

    label: str
    score_bins: Sequence[float | None]  # [n]
    tau_bins: Sequence[float | None]  # [n] fraction of the video
    spike_score: float | None
    spike_tau: float | None
    salient_seconds: float | None
    intervals_seconds: Sequence[tuple[float, float]] | None = None
    hit: bool | None = None

    def __post_init__(self) -> None:
        if not self.score_bins or len(self.score_bins) != len(self.tau_bins):
            raise ValueError(
                f"action {self.label!r}: {len(self.score_bins)} scores, {len(self.tau_bins)} taus; "
                "there must be as many of both, and at least one"
            )


class DrawnClip(NamedTuple):
    """A drawn clip: ``reason`` is "explore", "focus" or "score"; ``label`` is the action that it focuses on.

    ``epoch`` counts from 1, as the axes of the curves do.
    """

    center_seconds: float
    half_width_seconds: float
    reason: str
    label: str | None
    epoch: int
    clip_id: int | None = None  # as `adaptfocus show` takes it


class Thumbnail(NamedTuple):
    """A frame as JPEG or PNG, for the action it belongs to."""

    label: str
    seconds: float
    image: bytes


class Dropped(NamedTuple):
    """Something left out: a stable kind, its count, one message as an example, and the stage that left it out."""

    kind: str
    count: int
    example: str
    stage: str = ""


@dataclass(frozen=True)
class VideoSample:
    """One video as one run saw it."""

    run: str
    video_id: str
    duration_seconds: float
    labels: Sequence[str]
    actions: Sequence[ActionTimeline]
    drawn_clips: Sequence[DrawnClip] = ()
    thumbnails: Sequence[Thumbnail] = ()
    strip: Sequence[tuple[float, bytes]] = ()  # (seconds, image) of frames evenly over the video
    why: str = ""  # the reason why it is shown

    def __post_init__(self) -> None:
        if not self.duration_seconds > 0:
            raise ValueError(f"video {self.video_id!r}: duration is {self.duration_seconds} s, must be above 0")


@dataclass(frozen=True)
class ReportData:
    """All that one page shows."""

    title: str
    created: str
    command: str
    runs: Sequence[RunRow]
    curves: Sequence[Curve] = ()
    diagnostics: Sequence[Curve] = ()
    samples: Sequence[VideoSample] = ()
    dropped: Sequence[Dropped] = ()
    config_text: str = ""
    ledger: Sequence[tuple[str, Sequence[str | int | float]]] = ()  # a fact, and its value for each of `runs`
    evaluation: str = "test"

    def __post_init__(self) -> None:
        for name, values in self.ledger:
            if len(values) != len(self.runs):
                raise ValueError(f"ledger fact {name!r}: {len(values)} values for {len(self.runs)} runs")
