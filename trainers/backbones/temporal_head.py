"""A light head over features that a backbone has made before; it is trained where `features` is given.

It takes T steps of D features in place of T frames: float [B, D, T, 1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.small3d import HEAD_BIAS
from adaptfocus.trainers.backbones.specs import TEMPORAL_HEAD, InputSpec

CHANNELS = 128
FEATURES = 512  # until `take_form` says how many there are


class TemporalHead(Backbone):
    """LayerNorm of each step, two convolutions over three steps each, mean over time, a linear head.

    T' = T. It sees each step with the two steps before and the two after it. Each step is a window of the video.
    """

    layer_kinds = (nn.Sequential,)
    input_spec = TEMPORAL_HEAD

    def __init__(self, num_classes: int, features: int = FEATURES, spec: InputSpec | None = None) -> None:
        super().__init__()
        self.input_spec = spec or self.input_spec
        self.num_classes, self.num_features = num_classes, CHANNELS
        self.norm = nn.LayerNorm(features)
        self.body = nn.Sequential(
            nn.Conv1d(features, CHANNELS, 3, padding=1), nn.ReLU(),
            nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(CHANNELS, num_classes)
        nn.init.constant_(self.head.bias, HEAD_BIAS)

    def take_form(self, shapes: Mapping[str, torch.Size]) -> None:
        """Change to the number of features that the weights take."""
        shape = shapes.get("norm.weight")
        if shape is not None and len(shape) == 1 and shape != self.norm.weight.shape:
            features, like = shape[0], self.norm.weight
            self.norm = nn.LayerNorm(features).to(like)
            self.body[0] = nn.Conv1d(features, CHANNELS, 3, padding=1).to(like)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, D, T, 1, 1] -> features float [B, T, C]."""
        steps = self.norm(x.mean(dim=(3, 4)).transpose(1, 2))
        return self.body(steps.transpose(1, 2)).transpose(1, 2)
