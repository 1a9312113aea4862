"""Temporal action segmentation: a multi-stage dilated temporal network (MS-TCN, Abu Farha and Gall, CVPR 2019).

A first stage predicts the class of each moment from features [T, D]; each later stage predicts it from the classes of
the stage before. The loss is cross-entropy, plus a truncated squared difference of neighbouring log-probabilities that
keeps segments whole.

This is written from the paper. The layers are those described there, but fewer and narrower, so that a CPU trains them
in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.probes.training import Progress, Schedule, fit, fresh, pad_sequences

SCHEDULE = Schedule(epochs=24, batch_items=8, learning_rate=4e-3)
STAGES, LAYERS, CHANNELS = 3, 8, 32  # eight layers see 255 moments on either side
SMOOTHING, TRUNCATION = 0.15, 4.0
IGNORED = -100  # class of padding


class Stage(nn.Module):
    """float [B, C_in, T] -> logits [B, K, T], through residual layers of dilation 1, 2, 4, ..."""

    def __init__(self, num_inputs: int, num_classes: int) -> None:
        super().__init__()
        self.entry = nn.Conv1d(num_inputs, CHANNELS, 1)
        self.dilated = nn.ModuleList(
            nn.Conv1d(CHANNELS, CHANNELS, 3, padding=2**n, dilation=2**n) for n in range(LAYERS)
        )
        self.mixed = nn.ModuleList(nn.Conv1d(CHANNELS, CHANNELS, 1) for _ in range(LAYERS))
        self.dropout = nn.Dropout(0.3)
        self.exit = nn.Conv1d(CHANNELS, num_classes, 1)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """`real` float [B, 1, T]: 0 where a video has ended. Values there have no effect."""
        x = self.entry(x) * real
        for dilated, mixed in zip(self.dilated, self.mixed, strict=True):
            x = (x + self.dropout(mixed(torch.relu(dilated(x))))) * real
        return self.exit(x)


class MultiStage(nn.Module):
    """float [B, T, D], bool [B, T] -> the logits of every stage, [stages, B, K, T]."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        sizes = [num_features, *[num_classes] * (STAGES - 1)]
        self.stages = nn.ModuleList(Stage(size, num_classes) for size in sizes)

    def forward(self, features_BTD: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
        x, real, logits = features_BTD.transpose(1, 2), is_real[:, None].float(), []
        for stage in self.stages:
            logits.append(stage(x, real))
            x = torch.softmax(logits[-1], dim=1)
        return torch.stack(logits)


def train_segmentation(
    features: Sequence[torch.Tensor],
    classes: Sequence[np.ndarray],
    num_classes: int,
    seed: int,
    schedule: Schedule = SCHEDULE,
    progress: Progress | None = None,
) -> tuple[MultiStage, list[float]]:
    """Train on videos of features float [T, D] and classes int [T] -> the head, and the loss of each epoch."""
    head = fresh(lambda: MultiStage(features[0].shape[1], num_classes), seed)
    targets = [torch.from_numpy(np.asarray(each, np.int64)) for each in classes]

    def loss_of(items: Sequence[int]) -> torch.Tensor:
        x, is_real = pad_sequences([features[i] for i in items])
        wanted, _ = pad_sequences([targets[i] for i in items], value=IGNORED)
        return segmentation_loss(head(x, is_real), wanted)

    losses = fit(head, loss_of, len(features), schedule, seed, progress)
    return head, losses  # type: ignore[return-value]


def segmentation_loss(logits_SBKT: torch.Tensor, wanted_BT: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and smoothing of every stage, summed over the stages; moments of class IGNORED do not count."""
    both_real = (wanted_BT[:, 1:] != IGNORED)[:, None].float()
    loss = logits_SBKT.new_zeros(())
    for logits in logits_SBKT:
        log_p = functional.log_softmax(logits, dim=1)
        change = (log_p[..., 1:] - log_p[..., :-1].detach()).clamp(-TRUNCATION, TRUNCATION).square() * both_real
        smoothing = change.sum() / (both_real.sum() * logits.shape[1]).clamp(min=1)
        loss = loss + functional.nll_loss(log_p, wanted_BT, ignore_index=IGNORED) + SMOOTHING * smoothing
    return loss


@torch.inference_mode()
def segment(head: nn.Module, features: torch.Tensor) -> np.ndarray:
    """The class of each moment of a video: features float [T, D] -> int64 [T]."""
    is_real = torch.ones(1, len(features), dtype=torch.bool)
    return head(features[None], is_real)[-1, 0].argmax(dim=0).numpy()
