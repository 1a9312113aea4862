"""The segmentation probe: trains one head, and scores it by the metrics that are usual in this field.

Each feature is trained on the class at its time. Predictions are spread over moments at 15 Hz, the frame rate of
Breakfast, and scored there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from adaptfocus.pipelines.annotations.tasks import SegmentedVideo
from adaptfocus.trainers.metrics.segmentation import segmentation_scores
from adaptfocus.trainers.probes.inputs import ProbeFeatures
from adaptfocus.trainers.probes.results import Details, SeedOutcome, Span, Strips, evenly
from adaptfocus.trainers.probes.segmentation import segment, train_segmentation
from adaptfocus.trainers.probes.training import Progress, Schedule

HEADLINE = ("F1@50", "MoF", "edit")
EVALUATED_HZ = 15.0
NOT_COUNTED = ("background",)  # in edit and F1, as in MS-TCN's evaluation, where Breakfast's SIL counts
STRIPS = 6  # test videos to look at


def run_seed(
    train: Sequence[SegmentedVideo],
    test: Sequence[SegmentedVideo],
    found: ProbeFeatures,
    seed: int,
    schedule: Schedule,
    progress: Progress | None = None,
) -> SeedOutcome:
    """Train a head on `train`, and score it on `test`. The classes are those of both splits."""
    began = time.monotonic()
    names = sorted({label for video in [*train, *test] for _, _, label in video.segments})
    x = [found.features[video.video_id] for video in train]
    wanted = [classes_at(video, found.center_seconds[video.video_id], names) for video in train]
    head, losses = train_segmentation(x, wanted, len(names), seed, schedule, progress)
    moments = [evaluated_seconds(video) for video in test]
    truth = [classes_at(video, at, names) for video, at in zip(test, moments, strict=True)]
    said = [
        segment(head, found.features[video.video_id])[nearest(found.center_seconds[video.video_id], at)]
        for video, at in zip(test, moments, strict=True)
    ]
    spans = [spans_of(classes, names, video) for classes, video in zip(said, test, strict=True)]
    predictions = [
        {"video_id": video.video_id, "segments": [list(span) for span in each]}
        for video, each in zip(test, spans, strict=True)
    ]
    return SeedOutcome(
        seed, _scores(said, truth, names), {"multi-stage": losses}, time.monotonic() - began, predictions,
        [_classes(said, truth, names)], _strips(test, spans),
    )  # fmt: skip


def classes_at(video: SegmentedVideo, seconds: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The place in `names` of the class at each time: int64 [T]. After the last segment, its class continues."""
    ends = np.array([end for _, end, _ in video.segments])
    numbers = np.array([names.index(label) for _, _, label in video.segments])
    return numbers[np.minimum(np.searchsorted(ends, seconds, side="right"), len(numbers) - 1)]


def evaluated_seconds(video: SegmentedVideo) -> np.ndarray:
    """The times of a video that are scored: float64 seconds, EVALUATED_HZ a second, at least one."""
    return (np.arange(max(1, round(video.duration_seconds * EVALUATED_HZ))) + 0.5) / EVALUATED_HZ


def nearest(center_seconds: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The step whose centre is nearest to each time: int64."""
    between = (center_seconds[1:] + center_seconds[:-1]) / 2
    return np.searchsorted(between, seconds)


def spans_of(classes: np.ndarray, names: Sequence[str], video: SegmentedVideo) -> list[Span]:
    """Classes at EVALUATED_HZ -> spans of one class, with their start and end."""
    edges = [0, *(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(classes)]
    ends = [*(edge / EVALUATED_HZ for edge in edges[1:-1]), video.duration_seconds]
    return [
        Span(round(first / EVALUATED_HZ, 4), round(end, 4), names[int(classes[first])])
        for first, end in zip(edges[:-1], ends, strict=True)
    ]


def _scores(said: Sequence[np.ndarray], truth: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, float]:
    found = segmentation_scores(said, truth, [names.index(name) for name in NOT_COUNTED if name in names])
    return {f"F1@{overlap * 100:.0f}": value for overlap, value in found.f1.items()} | {
        "edit": found.edit,
        "MoF": found.mof,
        "MoF without background": found.mof_foreground,
        "IoU": found.iou,
    }


def _classes(said: Sequence[np.ndarray], truth: Sequence[np.ndarray], names: Sequence[str]) -> Details:
    """Recall, precision and IoU of each class, by frames."""
    s, t = np.concatenate(said), np.concatenate(truth)
    rows = []
    for number, name in enumerate(names):
        shown, guessed = t == number, s == number
        either = int((shown | guessed).sum())
        right = int((shown & guessed).sum())
        rows.append(
            (
                name,
                int(shown.sum()),
                right / int(shown.sum()) if shown.any() else None,
                right / int(guessed.sum()) if guessed.any() else None,
                right / either if either else None,
            )
        )
    return Details("Classes, by frames", ("class", "frames", "recall", "precision", "IoU"), rows)


def _strips(test: Sequence[SegmentedVideo], spans: Sequence[Sequence[Span]]) -> list[Strips]:
    """Strips of videos taken evenly from the test split, whatever their scores."""
    return [
        Strips(
            test[i].video_id,
            test[i].duration_seconds,
            (("true", [Span(*each) for each in test[i].segments]), ("found", spans[i])),
        )
        for i in evenly(len(test), STRIPS)
    ]
