"""Scores: of videos, frames, moments and segments. Numpy in, numbers out."""

from adaptfocus.trainers.metrics.bootstrap import interval
from adaptfocus.trainers.metrics.frames import per_frame_map
from adaptfocus.trainers.metrics.video import accuracy, charades_map, mean_average_precision

__all__ = ["accuracy", "charades_map", "interval", "mean_average_precision", "per_frame_map"]
