"""Per-frame mAP: which actions go on at a moment.

Input: scores at some times of each video, and intervals. Does: reads the truth off the intervals, ranks all frames of
all videos together. Output: floats.

MultiTHUMOS is scored at the frames of a model's features, each with the actions in whose inside it lies (``open``:
start < t < end, as Super-events, TGM, PDAN and MS-TCT do); Charades at 25 times a video, the ends of an interval
included (``closed``, its Charades_v1_localize.m). A frame without an action keeps its score: the rule of the
video-level metric is not applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from adaptfocus.trainers.metrics.video import mean_average_precision

Ends = Literal["open", "closed"]
CHARADES_TIMES = 25


def per_frame_map(scores: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    """mAP over all frames of all videos, whose numbers of frames may differ.

    Args:
        scores: [T, K] of each video; a frame that was not scored is -inf.
        truth: [T, K] bool of each video.

    Returns:
        The mean over the classes that have a positive frame (nan if none has), and the AP of each class [K].

    Raises:
        ValueError: the shapes disagree, the truth is no boolean, or a score is nan.
    """
    if not len(scores):
        raise ValueError("there are no videos; each has scores and truth [T, K]")
    for s, t in zip(scores, truth, strict=True):
        if np.shape(s) != np.shape(t):
            raise ValueError(f"scores {list(np.shape(s))} and truth {list(np.shape(t))} of a video must both be [T, K]")
    return mean_average_precision(np.concatenate(list(scores)), np.concatenate(list(truth)))


def actions_at(
    intervals: Sequence[tuple[int, float, float]], times_seconds: np.ndarray, num_classes: int, ends: Ends
) -> np.ndarray:
    """bool [T, K]: whether a class goes on at a time.

    Args:
        intervals: (class, start_seconds, end_seconds) of one video.
        times_seconds: [T].
        ends: whether an interval holds its own start and end.
    """
    times = np.asarray(times_seconds, dtype=np.float64)
    truth = np.zeros((len(times), num_classes), bool)
    for number, start, end in intervals:
        inside = (start <= times) & (times <= end) if ends == "closed" else (start < times) & (times < end)
        truth[inside, number] = True
    return truth


def charades_times(length_seconds: float) -> np.ndarray:
    """The 25 times at which Charades is localised: 0, length / 25, ..., 24 length / 25."""
    return np.arange(CHARADES_TIMES) / CHARADES_TIMES * length_seconds
