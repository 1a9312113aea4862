"""A step on a batch whose activations do not fit into memory: part after part, with the gradient of the whole batch.

The loss is a sum over entries, so the gradients of parts add up, except that the sum is divided by totals over all
parts and ranks. The numbers of positives, clips and bags are known beforehand. The mass of the weights is not: it needs
every clip's p before the first part's backward pass. If it is used (`focus.normalise_mass`, after the warm-up), a pass
without gradients finds it. This pass adds a third to the work of a step (docs/decisions/0015).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines.schemas import NO_LABEL
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.transfer import on_device, part_of
from adaptfocus.trainers.loop.sharding import add_up_last
from adaptfocus.trainers.method import objective
from adaptfocus.trainers.method.loss import masses
from adaptfocus.trainers.ranks import Engine
from adaptfocus.trainers.settings.run import TrainConfig

Score = Callable[[nn.Module, ClipBatch], torch.Tensor]


class _Sum:
    """Stands in for an engine: adds up over the parts of one rank."""

    def __init__(self) -> None:
        self.total: Any = 0

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        self.total = self.total + values
        return values


class _Known:
    """Stands in for an engine: returns the known total over all parts and ranks."""

    def __init__(self, total: torch.Tensor) -> None:
        self.total = total

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        return self.total


def backward_in_parts(
    config: TrainConfig,
    engine: Engine,
    score: Score,
    trained: nn.Module,
    batch: ClipBatch,
    epoch: int,
    progress: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The objective and its backward pass in `step.accumulate` parts.

    Returns p [B, N, L], logits [B N, K] and this rank's loss, all detached.

    Args:
        score: (module, batch) -> logits float32 [B N, K].
    """
    parts = [part_of(batch, bags) for bags in split(batch.num_bags, config.step.accumulate)]
    known = _Known(engine.add_up(_masses(config, engine, score, trained, parts, batch, epoch, progress)))
    probabilities, all_logits, losses = [], [], []
    for part in parts:
        with add_up_last(trained, last=part is parts[-1]):
            logits = score(trained, part)
            p, loss = objective.objective(config, known, logits, part, epoch, progress)
            (loss * engine.workers).backward()
        probabilities.append(p)
        all_logits.append(logits.detach())
        losses.append(loss.detach())
    return torch.cat(probabilities), torch.cat(all_logits), torch.stack(losses).sum()


def split(bags: int, parts: int) -> list[slice]:
    """`parts` slices of consecutive bags whose sizes differ by at most one; fewer slices if there are fewer bags."""
    parts = min(parts, bags)
    ends = [bags * part // parts for part in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]


@torch.no_grad()
def _masses(
    config: TrainConfig, engine: Engine, score: Score, trained: nn.Module, parts: list[ClipBatch], batch: ClipBatch,
    epoch: int, progress: float,
) -> torch.Tensor:  # fmt: skip
    """`method.loss.masses` of this rank's bags. The model runs only if the masses depend on its scores."""
    found, focus = _Sum(), config.focus
    weighs = focus.normalise_mass and (focus.action_focusing or focus.clip_focusing)
    if focus.active(epoch) and (weighs or focus.negatives_at(epoch)):
        for part in parts:
            objective.objective(config, found, score(trained, part), part, epoch, progress)
        return found.total
    ids, ok = (on_device(batch, name, engine.device) for name in ("label_ids", "ok"))
    chosen = on_device(batch, "clip_positive", engine.device) & (ids != NO_LABEL).unsqueeze(1)
    return masses(torch.ones((), device=engine.device), chosen, ok)  # the mass is not used, or all weights are 1
