"""The activity probe: trains two heads, one that sees no order and one that does.

The scores are the mAP of each head, and its accuracy where each video has exactly one activity.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from adaptfocus.pipelines.annotations.tasks import ActivityVideo
from adaptfocus.pipelines.errors import InputError
from adaptfocus.trainers.metrics.video import accuracy, mean_average_precision
from adaptfocus.trainers.probes.activity import HEADS, activity_probabilities, has_one_each, train_activity
from adaptfocus.trainers.probes.inputs import ProbeFeatures
from adaptfocus.trainers.probes.results import Details, SeedOutcome
from adaptfocus.trainers.probes.training import Progress, Schedule

HEADLINE = ("temporal: accuracy", "temporal: mAP", "mlp: mAP")
LISTED = 5  # probabilities of a prediction that are written


def run_seed(
    train: Sequence[ActivityVideo],
    test: Sequence[ActivityVideo],
    found: ProbeFeatures,
    seed: int,
    schedule: Schedule,
    progress: Progress | None = None,
) -> SeedOutcome:
    """Train both heads on `train`, and score them on `test`. The activities are those of both splits."""
    began = time.monotonic()
    names = sorted({name for video in [*train, *test] for name in video.activities})
    truth, wanted = (_truth(videos, names) for videos in (test, train))
    if not (truth.any() and wanted.any()):
        raise InputError(
            f"both splits must have a video with an activity; of {len(train)} training and {len(test)} test videos, "
            "those of one split show none; check `activities` in the annotations"
        )
    one_each = has_one_each(truth) and has_one_each(wanted)
    x, y = ([found.features[video.video_id] for video in videos] for videos in (train, test))
    metrics, losses, said = {}, {}, np.zeros((0, 0))
    for number, head_name in enumerate(HEADS):
        step = _part(progress, number, len(HEADS))
        head, losses[head_name] = train_activity(x, wanted, head_name, seed, schedule, step)
        said = activity_probabilities(head, y, one_each)
        if one_each:
            metrics[f"{head_name}: accuracy"] = accuracy(said, truth.argmax(axis=1))
        metrics[f"{head_name}: mAP"] = mean_average_precision(said, truth)[0]
    order = np.argsort(-said, axis=1)[:, :LISTED]
    predictions = [
        {"video_id": video.video_id, "probabilities": {names[k]: round(float(row[k]), 5) for k in best}}
        for video, row, best in zip(test, said, order, strict=True)
    ]
    details = [_activities(said, truth, names)] if one_each else []
    return SeedOutcome(seed, metrics, losses, time.monotonic() - began, predictions, details)


def _truth(videos: Sequence[ActivityVideo], names: Sequence[str]) -> np.ndarray:
    """bool [V, K]."""
    return np.array([[name in video.activities for name in names] for video in videos])


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """The progress of one of several equal parts."""
    return None if progress is None else lambda done, total: progress(number * total + done, parts * total)


def _activities(said: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> Details:
    """The results of the head that sees order on each activity, and what it most often mistakes it for."""
    rows = []
    for number, name in enumerate(names):
        guesses = said[truth[:, number]].argmax(axis=1)
        wrong = Counter(names[k] for k in guesses if k != number).most_common(1)
        taken = f"{wrong[0][0]} ({wrong[0][1]})" if wrong else ""
        rows.append((name, len(guesses), float((guesses == number).mean()) if len(guesses) else None, taken))
    return Details("Activities, temporal head", ("activity", "test videos", "right", "most often mistaken for"), rows)
