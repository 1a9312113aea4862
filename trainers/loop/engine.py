"""The local engine: the training loop in this process.

An engine hands out this rank's part of each global batch, and adds up over ranks. The local engine has one rank. It
also runs if Ray is not installed: on a bare GPU machine, or in a debugger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from adaptfocus.pipelines.errors import AdaptFocusError, ReplacedError, StorageError
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.plan.published import Stretch, follow
from adaptfocus.pipelines.stream.clips import ClipShape, stream
from adaptfocus.pipelines.stream.threads import ahead
from adaptfocus.trainers.batches import ClipBatch, LabelShape, decode_and_join
from adaptfocus.trainers.errors import StoppedError, TakenOverError
from adaptfocus.trainers.loop.meter import Export

T = TypeVar("T")


def as_stopped(error: AdaptFocusError) -> AdaptFocusError:
    """The error that every rank raises after rank 0's error: a StoppedError, unless a restart may help.

    A store may recover, so its errors stay as they are. An object that was replaced does not come back.
    """
    if isinstance(error, StoppedError):
        return error
    may_pass = isinstance(error, StorageError | TakenOverError) and not isinstance(error, ReplacedError)
    return error if may_pass else StoppedError(str(error))


class LocalEngine:
    """One rank, in this process."""

    rank = 0
    workers = 1
    export: Export | None = None  # nobody collects

    def __init__(self, bags_per_batch: int, device: torch.device | None = None) -> None:
        self.bags_per_batch = bags_per_batch
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.over: Over = in_this_process
        self.notice = threading.Event()  # set to ask this process to commit and end

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

    def to_rank_zero(self, value: Any) -> list[Any]:
        return [value]

    def on_rank_zero(self, make: Callable[[], T]) -> T:
        try:
            return make()
        except AdaptFocusError as error:
            raise as_stopped(error) from error

    def batches(self, stretch: Stretch, shape: ClipShape, labels: LabelShape) -> Iterator[ClipBatch]:
        decode = partial(stream, shape=shape, bags_per_batch=self.bags_per_batch)
        return ahead(decode_and_join(follow(stretch), decode, labels))
