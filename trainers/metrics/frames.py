"""Per-frame mAP: which actions happen at a moment. All frames of all videos are ranked together.

MultiTHUMOS is scored at the frames of a model's features. An action counts strictly inside its interval (``open``:
start < t < end, as Super-events, TGM, PDAN and MS-TCT do). Charades is scored at 25 times a video, and an interval
includes its ends (``closed``, its Charades_v1_localize.m). A frame without an action keeps its score: the Charades rule
of the video-level metric is not applied.
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
        scores: [T, K] of each video; -inf for a frame that was not scored.
        truth: [T, K] bool of each video.

    Returns:
        The mean over the classes that have a positive frame (nan if none has), and the AP of each class [K].

    Raises:
        ValueError: the shapes disagree, the truth is not boolean, or a score is nan.
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
    """Whether each class happens at each time: bool [T, K].

    Args:
        intervals: (class, start_seconds, end_seconds) of one video.
        times_seconds: [T].
        ends: whether an interval includes its own start and end.
    """
    times = np.asarray(times_seconds, dtype=np.float64)
    truth = np.zeros((len(times), num_classes), bool)
    for number, start, end in intervals:
        inside = (start <= times) & (times <= end) if ends == "closed" else (start < times) & (times < end)
        truth[inside, number] = True
    return truth


def charades_times(length_seconds: float) -> np.ndarray:
    """The 25 times at which localisation on Charades is scored: 0, length / 25, ..., 24 length / 25."""
    return np.arange(CHARADES_TIMES) / CHARADES_TIMES * length_seconds
