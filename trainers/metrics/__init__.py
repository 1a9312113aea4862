"""Scores of videos, frames, moments and segments, as functions of numpy arrays."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.metrics.bootstrap import interval
    from adaptfocus.trainers.metrics.frames import per_frame_map
    from adaptfocus.trainers.metrics.video import accuracy, charades_map, mean_average_precision

__all__ = ["accuracy", "charades_map", "interval", "mean_average_precision", "per_frame_map"]
__getattr__ = lazily(
    __name__,
    {
        "bootstrap": ("interval",),
        "frames": ("per_frame_map",),
        "video": (
            "accuracy",
            "charades_map",
            "mean_average_precision",
        ),
    },
)
