"""The engine of Ray Train: ranks, and the stream of batches that each of them reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import ray
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train.v2._internal.execution.context import get_train_context
from torch import nn

from adaptfocus.pipelines.errors import AdaptFocusError, StorageError
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.published import Stretch, follow
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.pipelines.stream.on_ray import mark, newest_stream
from adaptfocus.pipelines.stream.threads import ahead
from adaptfocus.trainers.batches import ClipBatch, LabelShape, join_batches, step_rows
from adaptfocus.trainers.loop.engine import as_stopped
from adaptfocus.trainers.loop.meter import Export
from adaptfocus.trainers.loop.sharding import wrap_model
from adaptfocus.trainers.on_ray.datasets import unless_replaced
from adaptfocus.trainers.on_ray.elastic import NOTICE
from adaptfocus.trainers.on_ray.gauges import exporter
from adaptfocus.trainers.on_ray.over import tasks_where_decoded
from adaptfocus.trainers.on_ray.stop import notice_when_asked
from adaptfocus.trainers.settings.run import TrainConfig

T = TypeVar("T")


# How long ranks wait for each other between two steps: while rank 0 plans an epoch or writes a checkpoint. It is no
# limit on a lost rank: Ray ends the group as soon as a process or a node is gone.
MAX_WAIT = timedelta(days=1)


class RayRanks:
    """Lets one thread of each rank agree with the others over a process group of its own.

    The group is of CPUs, and waits up to MAX_WAIT. The default group, which steps use, ends after
    `placement.collective_timeout_seconds`, and a plan of some 400,000 videos takes longer than that.
    """

    def __init__(self, rank: int, workers: int) -> None:
        self.rank, self.workers = rank, workers
        self.group = _group_of_cpus() if workers > 1 else None

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.workers
        dist.all_gather_object(values, value, group=self.group)
        return values

    def to_rank_zero(self, value: Any) -> list[Any] | None:
        values: list[Any] | None = [None] * self.workers if self.rank == 0 else None
        dist.gather_object(value, values, group=self.group)
        return values

    def on_rank_zero(self, make: Callable[[], T]) -> T:
        box: list[Any] = [None, None]
        if self.rank == 0:
            try:
                box[0] = make()
            except AdaptFocusError as error:
                box[1] = as_stopped(error)
                if isinstance(box[1], StorageError):
                    raise  # Ray ends the group, whose other ranks wait below, and starts it again
        dist.broadcast_object_list(box, group=self.group)
        if box[1] is not None:
            raise box[1]
        return box[0]


def _group_of_cpus() -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=MAX_WAIT)
    assert isinstance(group, dist.ProcessGroup)  # no rank is left out
    return group


class RayEngine(RayRanks):
    """One rank of a Ray Train worker group."""

    sharding = "ddp"
    export: Export | None = None

    def __init__(self, config: TrainConfig, stop_key: str | None = None) -> None:
        context = ray.train.get_context()
        super().__init__(context.get_world_rank(), context.get_world_size())
        self.device, self.sharding = ray.train.torch.get_device(), config.step.sharding
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # streams and events belong to the current device
        self.export = exporter(config.name, self.rank)
        self.over: Over = tasks_where_decoded(config)
        self.bags_per_rank = config.plan.bags_per_batch // self.workers
        shard = ray.train.get_dataset_shard("clips")
        assert shard is not None
        self.shard = shard
        self.stream_url = newest_stream(config.url) if self.rank == 0 else ""
        self.answer: tuple[dist.Work, torch.Tensor] | None = None
        if stop_key and self.rank == 0:  # all ranks do what one of them asks for
            notice_when_asked(stop_key)

    def wrap(self, model: nn.Module) -> nn.Module:
        return wrap_model(model, self.sharding, self.device, self.workers)

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        total = values.detach().to(self.device, copy=True)  # NCCL adds up only on the device
        dist.all_reduce(total)
        return total.to(values.device)

    def aside(self) -> RayRanks:
        return RayRanks(self.rank, self.workers)

    def asked_to_stop(self) -> bool:
        # Ray's public get_preemption_info() is a barrier over all ranks, too slow for each step. `agreed` replaces it.
        return NOTICE.is_set() or get_train_context().preemption_context.preemption_info is not None

    def agreed(self, wish: int) -> int:
        if self.group is None:
            return wish
        before, box = self.answer, torch.tensor([wish])
        work = dist.all_reduce(box, dist.ReduceOp.MAX, group=self.group, async_op=True)
        assert work is not None
        self.answer = work, box
        if before is None:
            return 0
        before[0].wait()
        return int(before[1])

    def batches(self, stretch: Stretch, shape: ClipShape, labels: LabelShape) -> Iterator[ClipBatch]:
        if self.rank == 0:
            mark(self.stream_url, stretch)
        # Ray makes one batch ahead in a thread. With prefetch_batches above 0, it also holds batches back until that
        # many more exist. At the end of an epoch they do not exist: their plan waits for the batches held back.
        columns = self.shard.iter_batches(
            batch_size=self.bags_per_rank, batch_format="numpy", prefetch_batches=0, drop_last=False
        )
        decoded = (DecodedBatch(**cast("dict[str, np.ndarray]", batch)) for batch in unless_replaced(columns))
        # In a thread, because each step reads a chunk of the plan from the store if a global batch is 64 bags or more.
        return join_batches(decoded, ahead(step_rows(follow(stretch))), labels)
