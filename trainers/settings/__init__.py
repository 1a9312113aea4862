"""All settings of a run, and their checks. Nothing here imports torch."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.settings.parts import (
        AugmentConfig,
        CheckpointConfig,
        FocusConfig,
        InputConfig,
        OptimConfig,
        PlacementConfig,
        StepConfig,
    )
    from adaptfocus.trainers.settings.recipes import recipe
    from adaptfocus.trainers.settings.run import TrainConfig

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "FocusConfig",
    "InputConfig",
    "OptimConfig",
    "PlacementConfig",
    "StepConfig",
    "TrainConfig",
    "recipe",
]
__getattr__ = lazily(
    __name__,
    {
        "parts": (
            "AugmentConfig",
            "CheckpointConfig",
            "FocusConfig",
            "InputConfig",
            "OptimConfig",
            "PlacementConfig",
            "StepConfig",
        ),
        "recipes": ("recipe",),
        "run": ("TrainConfig",),
    },
)
