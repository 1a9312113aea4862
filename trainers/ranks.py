"""What the loop needs of the ranks that train together, and of the engine that starts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from adaptfocus.pipelines.plan.published import Stretch
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.trainers.batches import ClipBatch, LabelShape

T = TypeVar("T")


class Ranks(Protocol):
    """How one thread of each rank agrees with the others."""

    def gather(self, value: Any) -> list[Any]:
        """One small value of each rank, in the order of ranks, on every rank. Also a barrier."""
        ...

    def on_rank_zero(self, make: Callable[[], T]) -> T:
        """Run `make` on rank 0 alone and give its result to every rank.

        Raises:
            StoppedError: on every rank, if `make` raised an AdaptFocusError that trying again does not mend.
            TakenOverError: on every rank, if another process has claimed the run.
        """
        ...


class AddsUp(Protocol):
    """What the objective needs of the ranks."""

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on every rank."""
        ...


class Engine(Ranks, AddsUp, Protocol):
    """One rank's view of a worker group."""

    rank: int
    workers: int
    device: torch.device

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as this group trains it: gradients are averaged over ranks."""
        ...

    def aside(self) -> Ranks:
        """The same ranks for a second thread of each, which waits for those threads alone. Every rank asks at once."""
        ...

    def asked_to_stop(self) -> bool:
        """Whether this rank has been told that the group is to commit and end: its node is taken away, or is wanted."""
        ...

    def agreed(self, wish: int) -> int:
        """The largest of the numbers that the ranks gave in the call before (0 in the first); of one rank, its own.

        So nobody waits: the answer has come while a step was trained.
        """
        ...

    def batches(self, stretch: Stretch, shape: ClipShape, labels: LabelShape) -> Iterator[ClipBatch]:
        """This rank's part of every global batch of the stretch, in order.

        One stream over all epochs: what opens an epoch is read while the one before still trains.
        """
        ...
