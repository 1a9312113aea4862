"""All settings of a run, checked; no torch."""

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
