"""Inception-I3D: Inception v1, inflated.

Pixels are in [-1, 1]. Nine Inception modules pad as TensorFlow does. There are T/8 - 1 features along time: each is a
mean over two times, as upstream.

Weights keep the names they have in pytorch-i3d (``Mixed_3b.b1a.conv3d.weight``), except the head. Quo vadis, action
recognition? (arXiv 1705.07750).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.specs import INCEPTION_I3D, InputSpec

# Widths of a module's four branches: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after a maximum.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Kernel and stride of each maximum, by the name of the module that it comes before.
MAXIMA = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
LAYERS = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", *MIXED)

Triple = tuple[int, int, int]


def pad_same(x: torch.Tensor, kernel: Triple, stride: Triple) -> torch.Tensor:
    """Pad [B, C, T, H, W] with zeros so that the output is ceil(size / stride); an odd zero goes at the end."""
    sides: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(width - (size % step or step), 0)
        sides = [total // 2, total - total // 2, *sides]  # the last axis comes first
    return functional.pad(x, sides)


def maximum(x: torch.Tensor, kernel: Triple, stride: Triple) -> torch.Tensor:
    return functional.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(dim_in, dim_out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(dim_out, eps=1e-3, momentum=0.01)
        self.kernel: Triple = (kernel, kernel, kernel)
        self.stride: Triple = (stride, stride, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))), inplace=True)


class Inception(nn.Module):
    """Four parallel branches, concatenated."""

    def __init__(self, dim_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit(dim_in, widths[0], 1)
        self.b1a, self.b1b = Unit(dim_in, widths[1], 1), Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = Unit(dim_in, widths[3], 1), Unit(widths[3], widths[4], 3)
        self.b3b = Unit(dim_in, widths[5], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        largest = maximum(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(largest)], dim=1)


class InceptionI3D(Backbone):
    """The RGB stream."""

    layer_kinds = (Inception,)

    def __init__(self, num_classes: int, spec: InputSpec = INCEPTION_I3D) -> None:
        super().__init__()
        self.input_spec = spec
        self.add_module("Conv3d_1a_7x7", Unit(3, 64, 7, stride=2))
        self.add_module("Conv3d_2b_1x1", Unit(64, 64, 1))
        self.add_module("Conv3d_2c_3x3", Unit(64, 192, 3))
        dim_in = 192
        for name, widths in MIXED.items():
            self.add_module(name, Inception(dim_in, widths))
            dim_in = widths[0] + widths[2] + widths[4] + widths[5]
        self.head = nn.Linear(dim_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 1024, T/8, H/32, W/32]."""
        for name in LAYERS:
            if name in MAXIMA:
                x = maximum(x, *MAXIMA[name])
            x = self.get_submodule(name)(x)
        return x

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T/8 - 1, 1024], or [B, 1, 1024] where T/8 is 1."""
        x = self.feature_maps(x).mean(dim=(3, 4))
        return functional.avg_pool1d(x, min(2, x.shape[2]), stride=1).transpose(1, 2)
