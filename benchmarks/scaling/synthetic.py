"""Predictions and features without a network: numbers that only depend on the video's row."""

from __future__ import annotations

import numpy as np

from adaptfocus.pipelines.stream.batches import ERROR_BYTES, KIND_BYTES
from adaptfocus.trainers.evaluation.predictions import Prediction

VIDEOS_PER_FAILURE = 5000  # one video of so many does not decode


def prediction(slot: int, views: int, classes: int) -> Prediction:
    """Probabilities that only depend on the slot."""
    drawn = np.random.default_rng(slot).random((1, views, classes), np.float32)
    return slot, slot % VIDEOS_PER_FAILURE != VIDEOS_PER_FAILURE - 1, drawn


def synthetic_windows(row: int, windows: int, dim: int) -> dict[str, np.ndarray]:
    """All windows of a video, as a backbone would give them: features that only depend on the row."""
    ones = np.ones(windows, np.int64)
    return {
        "video_row": row * ones, "step": np.arange(windows), "center_seconds": np.arange(windows) + 0.5,
        "packets_decoded": ones, "frames_converted": ones, "read_bytes": ones,
        "kind": np.zeros((windows, KIND_BYTES), np.uint8), "error": np.zeros((windows, ERROR_BYTES), np.uint8),
        "features": np.random.default_rng(row).random((windows, dim), np.float32),
    }  # fmt: skip
