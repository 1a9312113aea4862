"""X3D S, M and L: a ResNet of depthwise convolutions over space and time, with squeeze and excitation.

A stem is followed by four stages, and a widening after them. Time is never strided, so there are T features along time.

Weights keep the names they have in pytorchvideo, except the head. X3D (arXiv 2004.04730).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.resnet3d import Bottleneck, ResBlock, convolution, initialise_convolutions
from adaptfocus.trainers.backbones.specs import X3D_M, InputSpec

DEPTHS_M, DEPTHS_L = (3, 5, 11, 7), (5, 10, 25, 15)
WIDTHS = (24, 48, 96, 192)
INNER = 2.25  # width of a block's middle divided by that of its ends
FEATURES = 2048
# The first stage keeps the width, and its first block halves the size, so its shortcut has a convolution. PySlowFast
# has a batch norm after it, and pytorchvideo has none.
SHORTCUT = "blocks.1.res_blocks.0"
SHORTCUT_NORM = tuple(f"{SHORTCUT}.branch1_norm.{part}" for part in ("weight", "bias", "running_mean", "running_var"))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor that is computed from the means of all channels over the clip."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        reduced = _round_to_8(dim / 16)
        self.block = nn.Sequential(
            nn.Conv3d(dim, reduced, 1), nn.ReLU(inplace=True), nn.Conv3d(reduced, dim, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.block(x.mean(dim=(2, 3, 4), keepdim=True))


class DepthwiseBottleneck(Bottleneck):
    """Convolutions of 1x1x1, 3x3x3 (each channel separately) and 1x1x1; every other block excites."""

    def __init__(self, dim_in: int, dim_inner: int, dim_out: int, stride: int, excites: bool) -> None:
        super().__init__(dim_in, dim_inner, dim_out, frames=1, stride=stride)
        self.conv_b = convolution(dim_inner, dim_inner, (3, 3, 3), (1, stride, stride), groups=dim_inner)
        self.norm_b = nn.Sequential(self.norm_b, SqueezeExcitation(dim_inner) if excites else nn.Identity())

    def activation_b(self, x: torch.Tensor) -> torch.Tensor:
        return functional.silu(x)


class SeparableStem(nn.Module):
    """Convolutions over 3x3 pixels with stride 2, then over 5 frames of each channel separately."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # These are upstream's names; each says the reverse of what it does.
        self.conv = nn.ModuleDict(
            {
                "conv_t": convolution(3, width, (1, 3, 3), (1, 2, 2)),
                "conv_xy": convolution(width, width, (5, 1, 1), groups=width),
            }
        )
        self.norm = nn.BatchNorm3d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.conv["conv_xy"](self.conv["conv_t"](x))), inplace=True)


class SeparableStage(nn.Module):
    """Blocks one after the other; the first halves the size."""

    def __init__(self, dim_in: int, dim_out: int, depth: int) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList()
        for block in range(depth):
            here, stride = (dim_in, 2) if block == 0 else (dim_out, 1)
            inner = DepthwiseBottleneck(here, int(INNER * dim_out), dim_out, stride, excites=block % 2 == 0)
            self.res_blocks.append(ResBlock(inner, here, dim_out, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.res_blocks:
            x = block(x)
        return x


class Widening(nn.Module):
    """What follows the stages: a widening, a mean over space, and a further widening."""

    def __init__(self, dim_in: int, dim_inner: int, dim_out: int) -> None:
        super().__init__()
        self.pool = nn.ModuleDict(
            {
                "pre_conv": convolution(dim_in, dim_inner, (1, 1, 1)),
                "pre_norm": nn.BatchNorm3d(dim_inner),
                "post_conv": convolution(dim_inner, dim_out, (1, 1, 1)),
            }
        )

    def forward(self, x: torch.Tensor, over: tuple[int, ...]) -> torch.Tensor:
        """float [B, C, T, H, W] -> float [B, C', T, H, W], with size 1 along the axes `over` of the mean, if any."""
        x = functional.relu(self.pool["pre_norm"](self.pool["pre_conv"](x)), inplace=True)
        x = x.mean(dim=over, keepdim=True) if over else x
        return functional.relu(self.pool["post_conv"](x), inplace=True)


class X3D(Backbone):
    """X3D-S and X3D-M have weights of the same shapes, for different clips; X3D-L is deeper."""

    layer_kinds = (ResBlock,)

    def __init__(self, num_classes: int, spec: InputSpec = X3D_M, depths: Sequence[int] = DEPTHS_M) -> None:
        super().__init__()
        self.input_spec = spec
        self.blocks = nn.ModuleList([SeparableStem(WIDTHS[0])])
        dim_in = WIDTHS[0]
        for dim_out, depth in zip(WIDTHS, depths, strict=True):
            self.blocks.append(SeparableStage(dim_in, dim_out, depth))
            dim_in = dim_out
        self.blocks.append(Widening(dim_in, int(INNER * dim_in), FEATURES))
        self.head = nn.Linear(FEATURES, num_classes)
        initialise_convolutions(self)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 2048, T, H/32, W/32]: widened, so their mean is not the features."""
        return self._widened(x, ())

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T, 2048]."""
        return self._widened(x, (3, 4))[..., 0, 0].transpose(1, 2)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """What the head reads: the mean over space and time is taken before the last widening, as upstream."""
        return self._widened(x, (2, 3, 4))[..., 0, 0, 0]

    def optional_weights(self) -> tuple[str, ...]:
        return SHORTCUT_NORM

    def take_form(self, shapes: Mapping[str, torch.Size]) -> None:
        """Add a batch norm on the first shortcut, as in PySlowFast, or remove it, as in pytorchvideo."""
        block, wanted = self.get_submodule(SHORTCUT), any(name in shapes for name in SHORTCUT_NORM)
        assert isinstance(block, ResBlock)
        assert block.branch1_conv is not None
        if f"{SHORTCUT}.branch1_conv.weight" in shapes and wanted != (block.branch1_norm is not None):
            weight = block.branch1_conv.weight
            norm = nn.BatchNorm3d(weight.shape[0], device=weight.device, dtype=weight.dtype)
            block.branch1_norm = norm if wanted else None
            self.train(self.training)  # a new norm is frozen like the others

    def _widened(self, x: torch.Tensor, over: tuple[int, ...]) -> torch.Tensor:
        *body, widening = self.blocks
        for block in body:
            x = block(x)
        return widening(x, over)


def _round_to_8(width: float) -> int:
    """The nearest multiple of 8 that is at least 8, and at most a tenth below `width`."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded
