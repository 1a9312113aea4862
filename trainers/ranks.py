"""The interface of the ranks that train together, and of the engine that starts them, as the loop needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.published import Stretch
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.trainers.batches import ClipBatch, LabelShape

T = TypeVar("T")


class Ranks(Protocol):
    """Lets one thread of each rank agree with the same thread of the others."""

    def gather(self, value: Any) -> list[Any]:
        """One small value from each rank, in the order of ranks, on every rank. It is also a barrier."""
        ...

    def to_rank_zero(self, value: Any) -> list[Any] | None:
        """A value of any size from each rank, in the order of ranks, on rank 0; None on the others."""
        ...

    def on_rank_zero(self, make: Callable[[], T]) -> T:
        """Run `make` only on rank 0 and give its result to every rank.

        Raises:
            StoppedError: on every rank, if `make` raised an AdaptFocusError that a retry does not fix.
            TakenOverError: on every rank, if another process has claimed the run.
        """
        ...


class AddsUp(Protocol):
    """The part of the ranks that the objective needs."""

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on every rank."""
        ...


class Engine(Ranks, AddsUp, Protocol):
    """One rank's view of a worker group."""

    rank: int
    workers: int
    device: torch.device
    export: Callable[[str, float, Mapping[str, str]], None] | None  # takes counters and gauges (loop/meter.py)
    over: Over  # does work between two epochs; only rank 0 uses it

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model in the form that this group trains: gradients are averaged over ranks."""
        ...

    def aside(self) -> Ranks:
        """The same ranks for a second thread of each, which waits only for those threads. Every rank must call it."""
        ...

    def asked_to_stop(self) -> bool:
        """Whether this rank has been told that the group must commit and end: its node goes away, or is needed."""
        ...

    def agreed(self, wish: int) -> int:
        """The largest number that the ranks gave in the previous call (0 in the first); a single rank gets its own.

        So no rank waits: the answer arrived while a step was trained.
        """
        ...

    def batches(self, stretch: Stretch, shape: ClipShape, labels: LabelShape) -> Iterator[ClipBatch]:
        """This rank's part of every global batch of the stretch, in order.

        One stream serves all epochs: the first batches of an epoch are read while the previous epoch still trains.
        """
        ...
