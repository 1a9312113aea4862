"""The objective of a step as tensors on any device: weights, and a loss that autograd differentiates.

Read this to see what a step minimises. It combines `trainers.method.focus` and `trainers.method.loss`, and never waits
for a GPU. On a CPU `trainers.method.closed_form` computes the same, faster.
"""

from __future__ import annotations

import torch

from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.schemas import NO_LABEL
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.transfer import OF_OBJECTIVE, on_device
from adaptfocus.trainers.method.focus import focus_weights
from adaptfocus.trainers.method.loss import masses, noisy_or, weak_negatives, weigh_focused_negatives, weighted_bce
from adaptfocus.trainers.ranks import AddsUp
from adaptfocus.trainers.settings.run import TrainConfig


def objective(
    config: TrainConfig, engine: AddsUp, logits: torch.Tensor, batch: ClipBatch, epoch: int, progress: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float32 [B N, K] -> p [B, N, L] of the bags' own labels, detached, and this rank's share of the loss.

    p is 0 where there is no label.
    """
    logits = logits.unflatten(0, batch.clip_id.shape)
    data = {name: on_device(batch, name, logits.device) for name in OF_OBJECTIVE}
    ids = data["label_ids"].unsqueeze(1).expand(-1, logits.shape[1], -1)  # [B, N, L]
    places = ids.clamp(min=0)  # the entry that NO_LABEL points at is never used
    real = ids != NO_LABEL
    p = torch.sigmoid(logits.detach()).gather(-1, places) * real
    focused = None
    if config.focus.active(epoch):
        bins = Bins(data["saliency_score"], data["saliency_tau"], data["saliency_epoch"])
        focused = focus_weights(p, data["tau"], data["duration_seconds"], bins, epoch, config.focus, config.saliency)
    w = focused.positive if focused else torch.ones_like(p)
    chosen = data["clip_positive"] & real
    positive, weight = _over_classes(ids, chosen, w, logits.shape[-1])
    share = config.focus.negatives_at(epoch)
    pull = torch.sigmoid(logits.detach()).pow_(config.focus.negative_power) * ~positive if share else None
    total = engine.add_up(masses(w, chosen, data["ok"], pull))
    negative = None if pull is None else weigh_focused_negatives(pull, share, total)
    loss = weighted_bce(logits, positive, weight, data["ok"], total, config.focus.normalise_mass, negative)
    if focused and (beta := config.focus.background_at(epoch, progress)):
        own = logits.gather(-1, places)
        loss = loss + beta * weak_negatives(own, focused.background * real, data["ok"], total, logits.shape[-1])
    if mu := config.focus.noisy_or_weight:
        loss = loss + mu * noisy_or(logits, positive.any(dim=1), data["ok"], total)
    return p, loss


def _over_classes(
    ids: torch.Tensor, chosen: torch.Tensor, weight: torch.Tensor, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of label places [B, N, L] as (positive bool, weight float) over classes [B, N, K].

    A place that is not chosen goes to an extra class after the last, which is cut off.
    """
    places = torch.where(chosen, ids, num_classes)
    shape = (*ids.shape[:-1], num_classes + 1)
    positive = torch.zeros(shape, dtype=torch.bool, device=ids.device).scatter_(-1, places, True)
    spread = torch.ones(shape, device=ids.device).scatter_(-1, places, weight)
    return positive[..., :-1], spread[..., :-1]
