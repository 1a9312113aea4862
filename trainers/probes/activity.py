"""Which activity a whole video shows: two heads, of which one sees the order of the features.

`mlp` sees the mean and the maximum over time, and so no order. `temporal`, after Timeception (Hussein et al., CVPR
2019), cuts the video into 64 equal stretches and looks at them through blocks of depthwise convolutions of several
lengths. The probabilities of the activities sum to 1 where each video has one activity; otherwise they are independent.

Both heads are written from the paper's description, and are small enough for some hundred videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.probes.training import Progress, Schedule, fit, fresh, resample_features

SCHEDULE = Schedule(epochs=60, batch_items=16, learning_rate=4e-3, weight_decay=5e-2)
STRETCHES = 64
CHANNELS = 64
GROUPS = 4
KERNELS = (3, 5, 7)
BLOCKS = 4  # the last block sees the whole video in four places


class PooledMLP(nn.Module):
    """float [B, T, D] -> logits [B, K]; the order of the T steps has no effect."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * num_features, CHANNELS), nn.ReLU(), nn.Dropout(0.4), nn.Linear(CHANNELS, num_classes)
        )

    def forward(self, features_BTD: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([features_BTD.mean(dim=1), features_BTD.amax(dim=1)], dim=1))


class TemporalBlock(nn.Module):
    """float [B, C, T] -> [B, C, T / 2]: kernels of several lengths for each channel, mixed in groups, then shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths = nn.ModuleList(
            nn.Conv1d(CHANNELS, CHANNELS, size, padding=size // 2, groups=CHANNELS) for size in KERNELS
        )
        self.mixed = nn.Conv1d(CHANNELS * (len(KERNELS) + 1), CHANNELS, 1, groups=GROUPS)
        self.norm = nn.GroupNorm(GROUPS, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ways = torch.stack([x, *(convolution(x) for convolution in self.lengths)], dim=2)
        mixed = torch.relu(self.norm(self.mixed(ways.flatten(1, 2))))
        shuffled = mixed.unflatten(1, (GROUPS, -1)).transpose(1, 2).flatten(1, 2)
        return functional.max_pool1d(shuffled + x, 2)


class TemporalHead(nn.Module):
    """float [B, STRETCHES, D] -> logits [B, K]."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.entry = nn.Conv1d(num_features, CHANNELS, 1)
        self.blocks = nn.Sequential(*(TemporalBlock() for _ in range(BLOCKS)))
        self.exit = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(CHANNELS * STRETCHES // 2**BLOCKS, num_classes)
        )

    def forward(self, features_BTD: torch.Tensor) -> torch.Tensor:
        return self.exit(self.blocks(self.entry(features_BTD.transpose(1, 2))))


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"mlp": PooledMLP, "temporal": TemporalHead}


def train_activity(
    features: Sequence[torch.Tensor],
    truth: np.ndarray,
    head_name: str,
    seed: int,
    schedule: Schedule = SCHEDULE,
    progress: Progress | None = None,
) -> tuple[nn.Module, list[float]]:
    """Train on videos of features float [T, D] and truth bool [V, K] -> the head, and the loss of each epoch."""
    head = fresh(lambda: HEADS[head_name](features[0].shape[1], truth.shape[1]), seed)
    x = torch.stack([resample_features(each, STRETCHES) for each in features])
    wanted = torch.from_numpy(truth.astype(np.float32))
    loss = functional.cross_entropy if has_one_each(truth) else functional.binary_cross_entropy_with_logits

    def loss_of(items: Sequence[int]) -> torch.Tensor:
        return loss(head(x[list(items)]), wanted[list(items)])

    return head, fit(head, loss_of, len(features), schedule, seed, progress)


@torch.inference_mode()
def activity_probabilities(head: nn.Module, features: Sequence[torch.Tensor], one_each: bool) -> np.ndarray:
    """float64 [V, K]; rows sum to 1 where each video has one activity."""
    logits = torch.cat([head(resample_features(each, STRETCHES)[None]) for each in features])
    return (torch.softmax(logits, dim=1) if one_each else torch.sigmoid(logits)).double().numpy()


def has_one_each(truth: np.ndarray) -> bool:
    """Whether each video has exactly one activity."""
    return bool((truth.sum(axis=1) == 1).all())
