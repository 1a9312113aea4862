"""ResNets over time: ResNet50-I3D, the same with non-local blocks, and the blocks that SlowFast and X3D share.

A stem is followed by four stages of bottlenecks; some have a kernel over time. There are T/2 features along time, each
a mean over space.

Weights keep the names they have in pytorchvideo (``blocks.N.res_blocks.M.branch2.conv_a.weight``), except the head.
Quo vadis (arXiv 1705.07750), Non-local neural networks (arXiv 1711.07971).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.specs import I3D_R50, InputSpec

DEPTHS_50 = (3, 4, 6, 3)
I3D_KERNELS = ((3,), (3, 1), (3, 1), (1, 3))  # over time, of each stage's blocks in turn
NONLOCAL_AFTER = ((), (1, 3), (1, 3, 5), ())  # blocks of each stage that a non-local block follows


def convolution(
    dim_in: int, dim_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1), groups: int = 1
) -> nn.Conv3d:
    """A 3D convolution that only changes sizes by its stride. It has no bias, because a batch norm follows it."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(dim_in, dim_out, kernel, stride, padding, groups=groups, bias=False)


class Stem(nn.Module):
    """7x7 pixels, stride 2, then a 3x3 maximum, stride 2."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.conv = convolution(3, width, (frames, 7, 7), (1, 2, 2))
        self.norm = nn.BatchNorm3d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.conv(x)), inplace=True)
        return functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Bottleneck(nn.Module):
    """Convolutions of Tx1x1, 1x3x3 and 1x1x1, each with a batch norm. The middle one has the stride."""

    def __init__(self, dim_in: int, dim_inner: int, dim_out: int, frames: int, stride: int) -> None:
        super().__init__()
        self.conv_a = convolution(dim_in, dim_inner, (frames, 1, 1))
        self.norm_a: nn.Module = nn.BatchNorm3d(dim_inner)
        self.conv_b = convolution(dim_inner, dim_inner, (1, 3, 3), (1, stride, stride))
        self.norm_b: nn.Module = nn.BatchNorm3d(dim_inner)
        self.conv_c = convolution(dim_inner, dim_out, (1, 1, 1))
        self.norm_c = nn.BatchNorm3d(dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm_a(self.conv_a(x)), inplace=True)
        x = self.activation_b(self.norm_b(self.conv_b(x)))
        return self.norm_c(self.conv_c(x))

    def activation_b(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x, inplace=True)


class ResBlock(nn.Module):
    """A bottleneck plus a shortcut. The shortcut is a convolution where width or size change."""

    def __init__(self, branch2: nn.Module, dim_in: int, dim_out: int, stride: int) -> None:
        super().__init__()
        changes = dim_in != dim_out or stride != 1
        self.branch1_conv = convolution(dim_in, dim_out, (1, 1, 1), (1, stride, stride)) if changes else None
        self.branch1_norm = nn.BatchNorm3d(dim_out) if dim_in != dim_out else None
        self.branch2 = branch2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = x if self.branch1_conv is None else self.branch1_conv(x)
        short = short if self.branch1_norm is None else self.branch1_norm(short)
        return functional.relu(short + self.branch2(x), inplace=True)


class NonLocal(nn.Module):
    """Every position looks at all others of its clip after a 2x2 maximum; the result is added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = dim // 2
        self.conv_theta, self.conv_phi, self.conv_g = (nn.Conv3d(dim, inner, 1) for _ in range(3))
        self.conv_out = nn.Conv3d(inner, dim, 1)
        self.norm = nn.BatchNorm3d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = functional.max_pool3d(x, (1, 2, 2))
        query, key, value = (
            convolve(seen).flatten(2).transpose(1, 2)  # [B, positions, C / 2]
            for convolve, seen in ((self.conv_theta, x), (self.conv_phi, small), (self.conv_g, small))
        )
        found = functional.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        return x + self.norm(self.conv_out(found.transpose(1, 2).unflatten(2, x.shape[2:])))


class Stage(nn.Module):
    """Blocks one after the other; the first changes width and size."""

    def __init__(
        self, dim_in: int, dim_inner: int, dim_out: int, depth: int, frames: Sequence[int], stride: int,
        nonlocal_after: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.res_blocks = nn.ModuleList()
        for block in range(depth):
            here, step = (dim_in, stride) if block == 0 else (dim_out, 1)
            inner = Bottleneck(here, dim_inner, dim_out, frames[block % len(frames)], step)
            self.res_blocks.append(ResBlock(inner, here, dim_out, step))
        self.nonlocal_blocks = nn.ModuleDict({str(block): NonLocal(dim_out) for block in nonlocal_after})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, block in enumerate(self.res_blocks):
            x = block(x)
            if str(number) in self.nonlocal_blocks:
                x = self.nonlocal_blocks[str(number)](x)
        return x


class ResNet3D(Backbone):
    """ResNet50-I3D 8x8; with `nonlocal_after`, Nonlocal-I3D."""

    layer_kinds = (ResBlock, NonLocal)

    def __init__(
        self,
        num_classes: int,
        spec: InputSpec = I3D_R50,
        width: int = 64,
        depths: Sequence[int] = DEPTHS_50,
        nonlocal_after: Sequence[Sequence[int]] = ((), (), (), ()),
    ) -> None:
        super().__init__()
        self.input_spec = spec
        self.blocks = nn.ModuleList([Stem(width, frames=5)])
        dim_in = width
        for number, (depth, kernels, after) in enumerate(zip(depths, I3D_KERNELS, nonlocal_after, strict=True)):
            inner = width << number
            self.blocks.append(Stage(dim_in, inner, 4 * inner, depth, kernels, 1 if number == 0 else 2, after))
            dim_in = 4 * inner
            if number == 0:
                self.blocks.append(nn.MaxPool3d((2, 1, 1), (2, 1, 1)))
        self.head = nn.Linear(dim_in, num_classes)
        initialise_convolutions(self)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 2048, T/2, H/32, W/32]."""
        for block in self.blocks:
            x = block(x)
        return x

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T/2, 2048]."""
        return self.feature_maps(x).mean(dim=(3, 4)).transpose(1, 2)


@torch.no_grad()
def initialise_convolutions(model: nn.Module) -> None:
    """He's initialisation, with zeros in the last layer of each residual branch.

    Batch norms are frozen, and a fresh one does nothing, so that depth would blow up a fresh model. A branch that adds
    nothing at first keeps its scale.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            module.weight *= module.groups**0.5  # torch counts the channels of all groups
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.norm_c.weight)
        if isinstance(module, NonLocal):
            nn.init.zeros_(module.norm.weight)
    head = model.head
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
