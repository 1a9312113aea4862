"""SlowFast R50 8x8: few frames go through a wide network, and all frames through a narrow one that feeds it.

T must be a multiple of 4. The model itself picks every fourth frame for the slow pathway. Features of both pathways
come out at the times of the slow one.

Weights keep the names they have in pytorchvideo, except the head. SlowFast networks (arXiv 1812.03982).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.resnet3d import (
    DEPTHS_50,
    ResBlock,
    Stage,
    Stem,
    convolution,
    initialise_convolutions,
)
from adaptfocus.trainers.backbones.specs import SLOWFAST_R50, InputSpec

ALPHA = 4  # frames of the fast pathway for one of the slow
BETA = 8  # channels of the slow pathway for one of the fast
SLOW_KERNELS, FAST_KERNELS = (1, 1, 3, 3), (3, 3, 3, 3)  # over time, of each stage's blocks

Paths = tuple[torch.Tensor, torch.Tensor]


class FastToSlow(nn.Module):
    """Appends features of the fast pathway to those of the slow one, with twice their channels, at its times."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = convolution(dim, 2 * dim, (7, 1, 1), (ALPHA, 1, 1))
        self.norm = nn.BatchNorm3d(2 * dim)

    def forward(self, paths: Paths) -> Paths:
        slow, fast = paths
        sent = functional.relu(self.norm(self.conv_fast_to_slow(fast)), inplace=True)
        return torch.cat([slow, sent], dim=1), fast


class TwoPaths(nn.Module):
    """One stage of both pathways, and then what the fast one hands over."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: nn.Module) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion

    def forward(self, paths: Paths) -> Paths:
        slow, fast = self.multipathway_blocks
        return self.multipathway_fusion((slow(paths[0]), fast(paths[1])))


class SlowFast(Backbone):
    """Two ResNets with a connection after the stem and after each stage except the last."""

    layer_kinds = (ResBlock,)

    def __init__(
        self, num_classes: int, spec: InputSpec = SLOWFAST_R50, width: int = 64, depths: Sequence[int] = DEPTHS_50
    ) -> None:
        super().__init__()
        self.input_spec = spec
        narrow = width // BETA
        self.blocks = nn.ModuleList([TwoPaths(Stem(width, frames=1), Stem(narrow, frames=5), FastToSlow(narrow))])
        slow_in, fast_in = width + 2 * narrow, narrow
        for number, depth in enumerate(depths):
            slow, fast, stride = width << number, narrow << number, 1 if number == 0 else 2
            last = number == len(depths) - 1
            self.blocks.append(
                TwoPaths(
                    Stage(slow_in, slow, 4 * slow, depth, (SLOW_KERNELS[number],), stride),
                    Stage(fast_in, fast, 4 * fast, depth, (FAST_KERNELS[number],), stride),
                    nn.Identity() if last else FastToSlow(4 * fast),
                )
            )
            slow_in, fast_in = 4 * slow + (0 if last else 8 * fast), 4 * fast
        self.head = nn.Linear(slow_in + fast_in, num_classes)
        initialise_convolutions(self)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 2304, T/4, H/32, W/32]: slow channels, then fast ones."""
        slow, fast = self._paths(x)
        return torch.cat([slow, functional.avg_pool3d(fast, (ALPHA, 1, 1))], dim=1)

    def _paths(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        paths = (slow_frames(x), x)
        for block in self.blocks:
            paths = block(paths)
        return paths

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T/4, 2304]: of each slow frame and the fast frames around it."""
        slow, fast = (path.mean(dim=(3, 4)) for path in self._paths(x))
        return torch.cat([slow, functional.avg_pool1d(fast, ALPHA)], dim=1).transpose(1, 2)

    def first_convolutions(self) -> list[nn.Conv3d]:
        return [stem.conv for stem in self.blocks[0].multipathway_blocks if isinstance(stem, Stem)]  # type: ignore[union-attr]


def slow_frames(x: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] -> the T/4 frames of the slow pathway: evenly spaced, including the first and the last."""
    frames = x.shape[2]
    last = frames // ALPHA - 1
    places = [number * (frames - 1) // max(last, 1) for number in range(last + 1)]
    return torch.stack([x[:, :, place] for place in places], dim=2)  # an index tensor would be a copy that waits
