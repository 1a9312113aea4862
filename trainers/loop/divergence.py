"""A number that is not finite ends a run at that step, on every rank, before any result of the step is kept.

Losses are checked as they arrive from the device, without waiting for it. Every rank ends with the same message, about
the first step whose loss is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.errors import StoppedError
from adaptfocus.trainers.settings.run import TrainConfig


class DivergedError(StoppedError):
    """A loss, a score or a weight of a run is not finite. A retry would give the same result."""


class LossWatch:
    """The losses of some steps on their way from a device to this process.

    Losses from a GPU arrive one or two steps after they were computed. Each is still matched to its own step.
    """

    def __init__(self) -> None:
        self._values: list[torch.Tensor | float] = []
        self._leaving: list[Leaving] = []
        self._looked_at = 0
        self.first_not_finite: int | None = None  # the number of the step among these

    def look(self, losses: Sequence[torch.Tensor | float], wait: bool = False) -> int | None:
        """Start copies of new `losses`; check those that have arrived (with `wait`, all) -> `first_not_finite`."""
        for loss in losses[len(self._values) :]:
            leaving = Leaving()
            self._values.append(leaving.take(loss) if isinstance(loss, torch.Tensor) else loss)
            self._leaving.append(leaving)
        while self._looked_at < len(self._values) and self.first_not_finite is None:
            leaving = self._leaving[self._looked_at]
            if wait:
                leaving.wait()
            elif not leaving.arrived():
                break
            if not math.isfinite(self._values[self._looked_at]):
                self.first_not_finite = self._looked_at
            self._looked_at += 1
        return self.first_not_finite

    def newest(self) -> float | None:
        """The last loss that has arrived and was checked; None while there is none."""
        return float(self._values[self._looked_at - 1]) if self._looked_at else None

    def value(self, step: int) -> float:
        """A loss that has arrived."""
        return float(self._values[step])


def describe_divergence(config: TrainConfig, plan: PlanFacts, cursor: int, rate: float, what: str) -> str:
    """The message of a step that ended at bag `cursor`: batch, bags, learning rate, and what to change."""
    per_batch, optim = config.plan.bags_per_batch, config.optim
    fixes = [f"a lower optim.learning_rate (it is {optim.learning_rate:g})"]
    if optim.clip_gradient_norm is None:
        fixes.append("optim.clip_gradient_norm=1")
    if config.step.precision == "bf16":
        fixes.append("step.precision=float32")
    return (
        f"{config.url}: {what} in batch {cursor // per_batch} of {plan.num_bags // per_batch} of epoch "
        f"{plan.epoch + 1} (bags {cursor - per_batch} to {cursor - 1} of its plan, learning rate {rate:.3g}). Nothing "
        f"of it is kept; earlier checkpoints stay. Begin again under another name with {' or '.join(fixes)}"
    )
