"""What the training loop needs of the place it runs in, and the simplest such place: this process.

Input: a plan. Does: hands out this rank's part of each global batch, adds up over ranks. Output: batches, sums.
The local engine is also what runs where Ray is not installed: a bare GPU box, a debugger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from adaptfocus.pipelines.clip_stream import ClipShape, ahead, stream
from adaptfocus.pipelines.errors import AdaptFocusError, ReplacedError, StorageError
from adaptfocus.pipelines.plan_store import Stretch, follow
from adaptfocus.pipelines.records import ClipBatch
from adaptfocus.trainers.checkpoint import TakenOverError

T = TypeVar("T")


class StoppedError(AdaptFocusError):
    """The run cannot go on as it is: told to every rank, which all stop; starting them again would not help."""


class DrainedError(AdaptFocusError):
    """The worker group was asked to stop, has committed all that it trained, and may be started again elsewhere."""


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

    def batches(self, stretch: Stretch, shape: ClipShape) -> Iterator[ClipBatch]:
        """This rank's part of every global batch of the stretch, in order.

        One stream over all epochs: what opens an epoch is read while the one before still trains.
        """
        ...


def as_stopped(error: AdaptFocusError) -> AdaptFocusError:
    """What every rank is told of rank 0's error: a store may come back, so its errors stay rank 0's own.

    An object that was replaced does not come back.
    """
    if isinstance(error, StoppedError):
        return error
    may_pass = isinstance(error, StorageError | TakenOverError) and not isinstance(error, ReplacedError)
    return error if may_pass else StoppedError(str(error))


class LocalEngine:
    """One rank, in this process."""

    rank = 0
    workers = 1

    def __init__(self, bags_per_batch: int, device: torch.device | None = None) -> None:
        self.bags_per_batch = bags_per_batch
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.notice = threading.Event()  # set by whoever wants this process to commit and end

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def aside(self) -> LocalEngine:
        return self

    def asked_to_stop(self) -> bool:
        return self.notice.is_set()

    def agreed(self, wish: int) -> int:
        return wish

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def on_rank_zero(self, make: Callable[[], T]) -> T:
        try:
            return make()
        except AdaptFocusError as error:
            raise as_stopped(error) from error

    def batches(self, stretch: Stretch, shape: ClipShape) -> Iterator[ClipBatch]:
        return ahead(stream(follow(stretch), shape, self.bags_per_batch))
