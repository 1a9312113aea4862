"""How every head of a probe is trained: AdamW with a one-cycle schedule, on items in an order that the seed decides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from adaptfocus.pipelines.errors import ConfigError, InputError

Progress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True)
class Schedule:
    """The schedule of a task. It must be the same for all features, or a comparison of features compares schedules.

    Raises:
        ConfigError: nothing would be trained.
    """

    epochs: int
    batch_items: int
    learning_rate: float
    weight_decay: float = 1e-2
    clip_gradient_norm: float = 5.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_items < 1 or self.learning_rate <= 0:
            raise ConfigError(
                f"epochs {self.epochs}, batch_items {self.batch_items}, learning_rate {self.learning_rate}: "
                "all must be above 0"
            )


def fresh(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A head whose weights follow from the seed; the caller's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def fit(
    head: nn.Module,
    loss_of: Callable[[Sequence[int]], torch.Tensor],
    num_items: int,
    schedule: Schedule,
    seed: int,
    progress: Progress | None = None,
) -> list[float]:
    """Train a head on items 0 to num_items - 1, each once an epoch, in an order that follows from (seed, epoch).

    Args:
        head: trained in place; left in evaluation mode.
        loss_of: the mean loss of a batch of items, in the head's training mode.
        num_items: how many there are.
        schedule: how long and how fast.
        seed: of the order and of dropout.
        progress: called after every step.

    Returns:
        The mean loss of each epoch.

    Raises:
        InputError: no items, or a loss that is not finite.
    """
    if num_items < 1:
        raise InputError("there is nothing to train a head on: no training item has features")
    steps_an_epoch = -(-num_items // schedule.batch_items)
    total = steps_an_epoch * schedule.epochs
    optimizer = torch.optim.AdamW(head.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=total + 1)
    head.train()
    losses = []
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        for epoch in range(schedule.epochs):
            order = np.random.default_rng([seed, epoch]).permutation(num_items)
            sums = 0.0
            for step, items in enumerate(np.array_split(order, steps_an_epoch)):
                loss = loss_of(items.tolist())
                if not torch.isfinite(loss):
                    raise InputError(
                        f"the loss is {float(loss.detach())} in epoch {epoch + 1}: the features have values that are "
                        "too large; extract them again"
                    )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(head.parameters(), schedule.clip_gradient_norm)
                optimizer.step()
                rate.step()
                sums += float(loss.detach()) * len(items)
                if progress is not None:
                    progress(epoch * steps_an_epoch + step + 1, total)
            losses.append(sums / num_items)
    head.eval()
    return losses


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread inside.

    Small products gain nothing from threads, which wait for each other where cores are busy. With one thread, sums do
    not depend on the number of cores either.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pad_sequences(sequences: Sequence[torch.Tensor], value: float = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences [T_i, ...] -> [B, max T, ...], filled up with `value`, and which places are real: bool [B, max T]."""
    lengths = torch.tensor([len(each) for each in sequences])
    longest = int(lengths.max())
    filled = [pad(each, [0, 0] * (each.ndim - 1) + [0, longest - len(each)], value=value) for each in sequences]
    return torch.stack(filled), torch.arange(longest) < lengths[:, None]


def resample_features(features: torch.Tensor, length: int) -> torch.Tensor:
    """[T, D] -> [length, D]: means over equal stretches; where T is below `length`, neighbours are repeated."""
    return nn.functional.adaptive_avg_pool1d(features.T[None], length)[0].T
