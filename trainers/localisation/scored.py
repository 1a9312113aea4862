"""What a localisation is worth on videos whose intervals are known: mAP at temporal IoUs, and per-frame mAP.

Only videos whose intervals somebody has annotated count. One that did not decode counts with nothing found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adaptfocus.pipelines.index.load import read_partition, read_partitions
from adaptfocus.trainers.localisation.outputs import Outputs, read_part, spans_of, videos_of_part
from adaptfocus.trainers.metrics.detection import (
    ACTIVITYNET_IOUS,
    THUMOS14_IOUS,
    DetectionScores,
    Segments,
    activitynet_map,
    thumos14_map,
)
from adaptfocus.trainers.metrics.frames import actions_at, charades_times, per_frame_map

MOST_FRAME_SCORES = 1 << 28  # steps x labels in memory at once: 1 GiB, and as much again to rank them

_COLUMNS = ["video_id", "duration_seconds", "intervals"]


class Known(NamedTuple):
    """A video whose intervals are known."""

    number: int
    duration_seconds: float
    spans: list[tuple[int, float, float]]  # label, start_seconds, end_seconds


def score_localisation(
    out: Outputs, parts: Sequence[str], index_url: str, fingerprint: str, stride_seconds: float
) -> dict[str, Any] | None:
    """All scores as fractions in [0, 1], as they are saved; None if no video's intervals are known.

    Raises:
        StorageError: a file cannot be read.
    """
    known = known_videos(index_url, fingerprint, out.classes)
    if not any(video.spans for video in known.values()):
        return None
    true = Segments.of([(v.number, k, start, end, 0.0) for v in known.values() for k, start, end in v.spans])
    found = _proposals(out, parts, known)
    return {
        "videos": len(known),
        "true_intervals": len(true.label),
        "labels": len(np.unique(true.label)),
        "activitynet": _named(activitynet_map(found, true, ACTIVITYNET_IOUS)),
        "thumos14_ious": _named(activitynet_map(found, true, THUMOS14_IOUS)),
        "thumos14_own_rules": _named(thumos14_map(found, true, THUMOS14_IOUS)),
        **_frame_scores(out, parts, known, stride_seconds),
    }


def known_videos(index_url: str, fingerprint: str, classes: Sequence[str]) -> dict[str, Known]:
    """id -> the truth of each video whose intervals are known. Intervals of other labels are left out."""
    found: dict[str, Known] = {}
    for partition in read_partitions(index_url, fingerprint):
        for row in read_partition(index_url, partition, _COLUMNS).select(_COLUMNS).to_pylist():
            if row["intervals"] is not None:
                spans = spans_of(row["intervals"], classes)
                found[row["video_id"]] = Known(len(found), row["duration_seconds"], spans)
    return found


def _proposals(out: Outputs, parts: Sequence[str], known: dict[str, Known]) -> Segments:
    number_of = {label: k for k, label in enumerate(out.classes)}
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    for name in parts:
        table = read_part(out.url, "proposals", name)
        video = np.array([known[v].number if v in known else -1 for v in table["video_id"].to_pylist()], np.int64)
        label = np.array([number_of[each] for each in table["label"].to_pylist()], np.int64)
        values = [table[each].to_numpy() for each in ("start_seconds", "end_seconds", "score")]
        for column, own in zip(columns, (video, label, *values), strict=True):
            column.append(own[video >= 0])
    if not parts:
        return Segments.of([])
    return Segments(*(np.concatenate(column) for column in columns))


def _frame_scores(
    out: Outputs, parts: Sequence[str], known: dict[str, Known], stride_seconds: float
) -> dict[str, float | None]:
    """Per-frame mAP at the steps (MultiTHUMOS's rule), and at 25 times a video (that of Charades)."""
    classes = len(out.classes)
    steps = sum(int(np.ceil(video.duration_seconds / stride_seconds)) for video in known.values())
    if steps * classes > MOST_FRAME_SCORES:
        return {"per_frame_map": None, "charades_map": None}
    scores: list[list[np.ndarray]] = [[], []]
    truth: list[list[np.ndarray]] = [[], []]
    left = dict(known)
    for name in parts:
        for video in videos_of_part(out.scores_url, name):
            own = left.pop(video.video_id, None)
            if own is None:
                continue
            times, at = video.center_seconds, charades_times(own.duration_seconds)
            between = np.stack([np.interp(at, times, each) for each in video.features.T], axis=1)
            for n, values in enumerate((video.features, between)):
                scores[n].append(values)
            truth[0].append(actions_at(own.spans, times, classes, "open"))
            truth[1].append(actions_at(own.spans, at, classes, "closed"))
    for own in left.values():  # not decoded: nothing was scored
        times = (np.arange(int(np.ceil(own.duration_seconds / stride_seconds))) + 0.5) * stride_seconds
        for n, (at, ends) in enumerate(((times, "open"), (charades_times(own.duration_seconds), "closed"))):
            truth[n].append(actions_at(own.spans, at, classes, ends))  # type: ignore[arg-type]
            scores[n].append(np.full((len(at), classes), -np.inf))
    found = [float(per_frame_map(s, t)[0]) for s, t in zip(scores, truth, strict=True)]
    of_step, of_charades = (None if np.isnan(each) else each for each in found)
    return {"per_frame_map": of_step, "charades_map": of_charades}


def _named(scores: DetectionScores) -> dict[str, Any]:
    at = {f"{iou:g}": float(value) for iou, value in zip(scores.ious, scores.at_iou, strict=True)}
    return {"average": scores.average, "at_iou": at}
