"""Localisation: the videos of an index -> scores along time -> thresholds -> intervals and their files.

Scores are an extraction (trainers/evaluation/extraction.py) whose features are the probabilities of all classes. So
they are made in this process or on a cluster, an interrupted command is resumed, and a video that does not decode is
refused with a reason. Everything after the scores is done part by part, by `over`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.load import open_index, read_light_rows
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.trainers.evaluation.extraction import Extraction, Make, extract
from adaptfocus.trainers.localisation.intervals import Rules
from adaptfocus.trainers.localisation.outputs import (
    Outputs,
    Written,
    spans_of,
    videos_of_part,
    write_activitynet,
    write_part,
)
from adaptfocus.trainers.localisation.thresholds import DEFAULT, Counts, Thresholds, calibrate
from adaptfocus.trainers.metrics.frames import actions_at

Stage = Callable[[str], Callable[[int, int], None]]  # title -> what is told how much is done


@dataclass(frozen=True)
class Localisation:
    """What is to be localised, and how."""

    scores: Extraction  # of kind "scores"
    classes: tuple[str, ...]
    out_url: str
    rules: Rules = field(default_factory=Rules)
    threshold: float | None = None  # for all labels, instead of calibrated ones
    calibrate: str | None = None  # URL of an index, or of a thresholds.json
    top: int | None = None
    tracks: bool = True

    def of_index(self, index_url: str) -> Localisation:
        """The same, of another index."""
        return replace(self, scores=replace(self.scores, index_url=index_url))

    def check(self) -> None:
        """
        Raises:
            ConfigError: a setting is out of range, or two exclude each other.
        """
        if self.threshold is not None and self.calibrate is not None:
            raise ConfigError("--threshold and --calibrate exclude each other; give only one of them")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ConfigError(
                f"--threshold is {self.threshold:g}; scores are probabilities, so give one between 0 and 1"
            )
        for name in ("merge_seconds", "min_seconds"):
            if not 0 <= getattr(self.rules, name) < float("inf"):
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self.rules, name):g}; it must be 0 or more")


@dataclass(frozen=True)
class Localised:
    """What was found."""

    videos: int
    refused: dict[str, int]  # kind -> videos without scores; scores/refused/ has the reasons
    steps: int
    intervals: int
    proposals: int
    without: int  # videos without an interval
    stride_seconds: float
    checkpoint: int | None
    index: str
    index_fingerprint: str
    thresholds_from: dict[str, int]  # source -> labels
    parts: tuple[str, ...]


def localise(
    job: Localisation,
    make: Make,
    over: Over = in_this_process,
    progress: Callable[[str], Any] | None = None,
) -> tuple[Localised, Outputs]:
    """Localise what is missing at the job's `out_url`, and write its files anew.

    Args:
        make: what makes scores, here or on a cluster.
        over: what does the rest.
        progress: gives a context for each stage's title, in which a function is told (done, all).

    Raises:
        ConfigError: settings exclude each other, or the folder belongs to another localisation.
        InputError: an index cannot be used, or has no truth to calibrate with.
        StorageError: a place cannot be read or written.
    """
    job.check()
    known = known_thresholds(job)
    out = Outputs(job.out_url, known or Thresholds.given(job.classes, DEFAULT), job.rules, job.top, job.tracks)
    facts = _scored(job.scores, out.scores_url, make, over, progress, "scoring videos")
    if known is None:
        out = replace(out, thresholds=calibrated(job, out.scores_url, facts, make, over, progress))
    names = tuple(facts["parts"])
    store.write_bytes(
        store.join(job.out_url, "thresholds.json"), json_text(out.thresholds.to_json(), indent=1).encode()
    )
    written = Written(*np.sum([tuple(each) for each in over(names, partial(write_part, out))] or [(0,) * 4], axis=0))
    write_activitynet(out, names)
    sources = out.thresholds.sources
    done = Localised(
        videos=int(written.videos),
        refused=facts["refused"],
        steps=facts["steps"],
        intervals=int(written.intervals),
        proposals=int(written.proposals),
        without=int(written.without),
        stride_seconds=facts["stride_seconds"],
        checkpoint=facts["checkpoint"],
        index=job.scores.index_url,
        index_fingerprint=facts["index_fingerprint"],
        thresholds_from={source: sources.count(source) for source in sorted(set(sources))},
        parts=names,
    )
    settings = {"classes": job.classes, "rules": asdict(job.rules), "top": job.top, "calibrate": job.calibrate}
    store.write_bytes(
        store.join(job.out_url, "localisation.json"), json_text(settings | asdict(done), indent=1).encode()
    )
    return done, out


def known_thresholds(job: Localisation) -> Thresholds | None:
    """The thresholds that are given or read; None if they will be calibrated on an index.

    A wrong place is told here, before all videos are scored.
    """
    if job.calibrate is None:
        return Thresholds.given(job.classes, DEFAULT if job.threshold is None else job.threshold)
    if job.calibrate.endswith(".json"):
        value = strict_json.read(job.calibrate, "give a thresholds.json that `adaptfocus localise` wrote")
        return Thresholds.from_json(value, job.classes, job.calibrate)
    open_index(job.calibrate)
    return None


def calibrated(
    job: Localisation, scores_url: str, facts: dict[str, Any], make: Make, over: Over, progress: Callable | None
) -> Thresholds:
    """Thresholds that are calibrated on an index, whose videos are scored for that."""
    assert job.calibrate is not None
    known = open_index(job.calibrate)
    if known.fingerprint != facts["index_fingerprint"]:
        scores_url = store.join(job.out_url, "calibration")
        facts = _scored(
            replace(job.scores, index_url=job.calibrate), scores_url, make, over, progress, "scoring to calibrate"
        )
    is_negative = job.scores.config.plan.unlabelled == "negative"
    count = partial(count_part, scores_url, job.calibrate, known.fingerprint, job.classes, is_negative)
    counts = Counts.empty(len(job.classes))
    for own in over(facts["parts"], count):
        counts += own
    return calibrate(job.classes, counts)


def count_part(
    scores_url: str, index_url: str, fingerprint: str, classes: Sequence[str], is_negative: bool, name: str
) -> Counts:
    """Count the scores of one part against its truth.

    Args:
        is_negative: whether a video without labels shows none of them; else nobody knows.
    """
    counts, number = Counts.empty(len(classes)), {label: k for k, label in enumerate(classes)}
    videos = [*videos_of_part(scores_url, name)]
    if not videos:
        return counts
    first, last = videos[0].video_row, videos[-1].video_row
    rows = read_light_rows(index_url, first, last + 1, fingerprint).select(["intervals"]).to_pylist()
    for video in videos:
        has_label = np.zeros(len(classes), bool)
        has_label[[number[label] for label in video.labels if label in number]] = True
        intervals = rows[video.video_row - first]["intervals"]
        shown = None
        if intervals is not None:
            spans = spans_of(intervals, classes)
            shown = actions_at(spans, video.center_seconds, len(classes), "closed")
        counts.add_video(video.features, has_label if video.labels or is_negative else None, shown)
    return counts


def _scored(job: Extraction, url: str, make: Make, over: Over, progress: Callable | None, title: str) -> dict[str, Any]:
    if progress is None:
        return extract(job, url, make, over=over)
    with progress(title) as tell:
        return extract(job, url, make, tell, over)
