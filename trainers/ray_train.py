"""The loop as a TorchTrainer. Ray is imported by the files of trainers/ called `ray_*` only.

Input: a TrainConfig, on a driver that is connected to a cluster.
Does: one `TorchTrainer.fit()` over all epochs; Ray restarts the worker group after failures, and the loop goes on
from the run's own log of commits (docs/decisions/0002 says why not from Ray's checkpoints).
Output: the run folder; errors a user can mend come out as themselves.
"""

from __future__ import annotations

import json
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import ray
import ray.train.torch
import torch
import torch.distributed as dist
from ray.data import ActorPoolStrategy, Dataset, ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.execution.context import get_train_context
from torch import nn

from adaptfocus.pipelines import storage
from adaptfocus.pipelines.clip_plan import Planner
from adaptfocus.pipelines.clip_stream import ClipShape
from adaptfocus.pipelines.errors import AdaptFocusError, ReplacedError, StorageError, own_error_in
from adaptfocus.pipelines.plan_store import PlanFacts, Stretch
from adaptfocus.pipelines.ray_data import (
    Decoding,
    bags_per_block,
    claim_stream,
    decoded,
    mark,
    newest_stream,
    plan_dataset,
    plan_rows,
)
from adaptfocus.pipelines.records import ClipBatch
from adaptfocus.trainers.checkpoint import Commit, Run, TakenOverError
from adaptfocus.trainers.commits import said_of_stop
from adaptfocus.trainers.config import TrainConfig
from adaptfocus.trainers.engine import DrainedError, StoppedError, as_stopped
from adaptfocus.trainers.evaluate import Prediction, Predictor
from adaptfocus.trainers.loop import clip_shape, train
from adaptfocus.trainers.prepare import finished
from adaptfocus.trainers.ray_elastic import NOTICE, WholeBatchTrainer
from adaptfocus.trainers.ray_stop import notice_when_asked, stop_was_asked
from adaptfocus.trainers.sharding import shared
from adaptfocus.trainers.time_order import training_index

T = TypeVar("T")


class RayRanks:
    """How one thread of each rank agrees with those of the others, over a process group; None: torch's own."""

    def __init__(self, rank: int, workers: int, group: dist.ProcessGroup | None = None) -> None:
        self.rank, self.workers, self.group = rank, workers, group

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.workers
        dist.all_gather_object(values, value, group=self.group)
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


class RayEngine(RayRanks):
    """One rank of a Ray Train worker group."""

    group: dist.ProcessGroup | None = None
    sharding = "ddp"

    def __init__(self, config: TrainConfig, stop_key: str | None = None) -> None:
        context = ray.train.get_context()
        super().__init__(context.get_world_rank(), context.get_world_size())
        self.device, self.sharding = ray.train.torch.get_device(), config.step.sharding
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # streams and events are those of the current device
        self.bags_per_rank = config.plan.bags_per_batch // self.workers
        shard = ray.train.get_dataset_shard("clips")
        assert shard is not None
        self.shard = shard
        self.stream_url = newest_stream(config.url) if self.rank == 0 else ""
        self.wishes = self._gloo_group() if self.workers > 1 else None
        self.answer: tuple[dist.Work, torch.Tensor] | None = None
        if stop_key and self.rank == 0:  # what one rank wishes, all of them do
            notice_when_asked(stop_key)

    def wrap(self, model: nn.Module) -> nn.Module:
        return shared(model, self.sharding, self.device, self.workers)

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        total = values.detach().to(self.device, copy=True)  # NCCL adds up on the device alone
        dist.all_reduce(total)
        return total.to(values.device)

    def aside(self) -> RayRanks:
        return RayRanks(self.rank, self.workers, self._gloo_group())

    def asked_to_stop(self) -> bool:
        # Ray's public get_preemption_info() is a barrier over all ranks, too dear for each step; `agreed` is ours.
        return NOTICE.is_set() or get_train_context().preemption_context.preemption_info is not None

    def agreed(self, wish: int) -> int:
        if self.wishes is None:
            return wish
        before, box = self.answer, torch.tensor([wish])
        work = dist.all_reduce(box, dist.ReduceOp.MAX, group=self.wishes, async_op=True)
        assert work is not None
        self.answer = work, box
        if before is None:
            return 0
        before[0].wait()
        return int(before[1])

    @staticmethod
    def _gloo_group() -> dist.ProcessGroup:
        """All ranks once more, over the network and not the GPUs. A commit may be waited for as long as it takes."""
        group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        assert isinstance(group, dist.ProcessGroup)
        return group

    def batches(self, stretch: Stretch, shape: ClipShape) -> Iterator[ClipBatch]:
        if self.rank == 0:
            mark(self.stream_url, stretch)
        # Ray makes one batch ahead in a thread. With prefetch_batches above 0 it also holds batches back until that
        # many more are there, which at the end of an epoch are not: their plan waits for these.
        columns = self.shard.iter_batches(
            batch_size=self.bags_per_rank, batch_format="numpy", prefetch_batches=0, drop_last=False
        )
        return (ClipBatch(**cast("dict[str, np.ndarray]", batch)) for batch in _unless_replaced(columns))


class _ReplacedShardError(StoppedError):
    """A rank has met a shard that is not the indexed one; the others do not know it yet."""


def _unless_replaced(batches: Iterable[T]) -> Iterator[T]:
    try:
        yield from batches
    except Exception as error:  # of Ray's, around that of the decoding task
        own = own_error_in(error)
        if isinstance(own, ReplacedError):
            raise _ReplacedShardError(str(own)) from error
        raise


def fit(config: TrainConfig, stop_key: str | None = None, folder: str | None = None) -> None:
    """Train a run on the cluster this driver is connected to.

    Args:
        folder: where what Ray keeps for itself lies while it trains; the temporary folder by default.
        stop_key: `ray_stop.ask_to_stop` with this key makes the group commit after its step, and end for good.

    Raises:
        DrainedError: it was asked to stop, and all that it has trained is committed.
        StoppedError: the run cannot go on as it is; the message says why.
        ray.train.TrainingFailedError: the worker group failed more often than `placement.max_restarts` allows.
    """
    index = training_index(config, columns=["labels"])
    shape = clip_shape(config, Planner.of(index.table, index.classes).max_labels)
    failure_url = storage.join(config.url, f"failure-{uuid.uuid4().hex[:8]}.json")
    with tempfile.TemporaryDirectory(prefix="adaptfocus-ray-", dir=folder) as own:
        try:
            _trainer(config, shape, failure_url, own, stop_key).fit()
        except ray.train.TrainingFailedError:
            if not storage.exists(failure_url):
                raise
    if storage.exists(failure_url):
        message = json.loads(storage.read_bytes(failure_url))["message"]
        storage.delete(failure_url)
        raise StoppedError(message)
    if finished(config):
        return
    if stop_key and stop_was_asked(stop_key):
        raise DrainedError(_said_of_stop(config))
    raise StoppedError(f"{config.url} has been taken over by another process, and goes on there; this one stops")


def _said_of_stop(config: TrainConfig) -> str:
    _, last = Run(config.url).newest()
    return said_of_stop(config, last.epoch, last.cursor, last.num_bags) if last else f"{config.url} was asked to stop"


def _trainer(
    config: TrainConfig, shape: ClipShape, failure_url: str, folder: str, stop_key: str | None = None
) -> TorchTrainer:
    """The run as Ray Train wants it; `folder` holds what Ray keeps for itself."""
    place = config.placement
    least = place.min_workers or place.workers
    trainer = WholeBatchTrainer(
        _train_on_worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "failure_url": failure_url,
            "stop_key": stop_key,
        },
        torch_config=TorchConfig(
            backend="nccl" if place.gpus_per_worker else "gloo", timeout_s=place.collective_timeout_seconds
        ),
        scaling_config=ScalingConfig(
            num_workers=(least, place.workers) if least < place.workers else place.workers,
            elastic_resize_monitor_interval_s=place.resize_seconds,
            use_gpu=place.gpus_per_worker > 0,
            resources_per_worker=place.of_each_worker(),
        ),
        run_config=RunConfig(
            # Ray's own storage holds nothing that a run needs; a fresh name keeps Ray from resuming by itself.
            name=f"{config.name}-{uuid.uuid4().hex[:8]}",
            storage_path=folder,
            # A node that is taken away with notice is nobody's failure.
            failure_config=FailureConfig(max_failures=place.max_restarts, max_preemption_failures=-1),
        ),
        datasets={"clips": _rows_of_group(config)},
        dataset_config=ClipData(config.plan.bags_per_batch, shape, decoding_of(config)),
    )
    trainer.bags_per_batch = config.plan.bags_per_batch
    return trainer


class ClipData(DataConfig):
    """Plan rows -> the clips of each rank. Here, because a group's size is known only once it is there."""

    def __init__(self, bags_per_batch: int, shape: ClipShape, decoding: Decoding) -> None:
        super().__init__(execution_options={"clips": ExecutionOptions(preserve_order=True)})
        self.bags_per_batch, self.shape, self.decoding = bags_per_batch, shape, decoding

    def configure(self, datasets: dict[str, Dataset], world_size: int, *args: Any, **kwargs: Any) -> list[dict]:
        block = bags_per_block(self.bags_per_batch // world_size, self.shape)
        clips = {name: decoded(rows, self.shape, block, self.decoding) for name, rows in datasets.items()}
        return super().configure(clips, world_size, *args, **kwargs)


def predict_on_cluster(
    facts: PlanFacts, shape: ClipShape, config: TrainConfig, num_classes: int, commits: Sequence[Commit]
) -> Iterator[Prediction]:
    """Prediction as a Ray Dataset: the decoding stage of training, then the model; in no particular order."""
    quiet_data()
    place = config.placement
    gpus = place.gpus_per_worker
    dataset = map_with_actors(
        plan_dataset(facts, shape, decoding_of(config, 0.5)),
        _PredictBlocks,
        fn_constructor_args=(config.model_dump(mode="json"), num_classes, list(commits)),
        batch_size=1,
        num_cpus=0.5,
        num_gpus=gpus or None,
        compute=ActorPoolStrategy(size=place.workers),
    )
    for row in _unless_replaced(dataset.iter_rows()):
        yield int(row["slot"]), bool(row["ok"]), np.asarray(row["probability"])


class _PredictBlocks:
    """One prediction actor: ClipBatch columns -> probabilities [checkpoints, views, classes] of each bag."""

    def __init__(self, config: dict[str, Any], num_classes: int, commits: Sequence[Commit]) -> None:
        self.predictor = Predictor(TrainConfig.model_validate(config), num_classes, commits)

    def __call__(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        slots, ok, probability = zip(*self.predictor(ClipBatch(**columns)), strict=True)
        return {"slot": np.array(slots), "ok": np.array(ok), "probability": np.stack(probability)}


def _rows_of_group(config: TrainConfig) -> Callable[[], Dataset]:
    """Plan rows, from a dataset made anew for each worker group: the controller calls this as a group starts."""

    def make() -> Dataset:
        quiet_data()
        return plan_rows(claim_stream(config.url), decoding_of(config))

    return make


def decoding_of(config: TrainConfig, cpus_per_core: float = 1.0) -> Decoding:
    place = config.placement
    return Decoding(place.decode_workers, cpus_per_core, tuple(sorted(place.decode_labels.items())))


def map_with_actors(dataset: Dataset, actor: type, **options: Any) -> Dataset:
    """`map_batches` with an actor class. On one machine an actor that dies is not started again.

    No node is lost there: it ran out of memory or crashed, and would again. And with restarts Ray prints an error about
    each pool's arguments to the terminal, which is none.
    """
    if sum(node["Alive"] for node in ray.nodes()) == 1:
        options |= {"max_restarts": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray 2.64 is to have another way to say it; 2.60 has none
        return dataset.map_batches(actor, **options)


def quiet_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Else Ray hands on an error of its own, and the task's is lost on the way between processes.
    context.raise_original_map_exception = True


def _train_on_worker(loop_config: dict[str, Any]) -> None:
    """What runs on each rank. An error for the user is left on the store and ends the run; Ray would retry it.

    A group that has lost the run says nothing: if a younger group of the same command has it, all is well.
    """
    config, failure_url = TrainConfig.model_validate(loop_config["config"]), loop_config["failure_url"]
    stop_key = loop_config["stop_key"]
    if storage.exists(failure_url) or (stop_key and stop_was_asked(stop_key)):
        return  # a rank of the group before this one has left it; or nobody wants this group any more
    engine = RayEngine(config, stop_key)
    try:
        train(config, engine)
    except DrainedError:
        if not (stop_key and stop_was_asked(stop_key)):
            raise  # a notice: the group is started again elsewhere
    except StoppedError as error:
        is_own = isinstance(error, _ReplacedShardError)
        if engine.rank == 0 or is_own:
            storage.write_bytes(failure_url, json.dumps({"message": str(error)}).encode())
        if is_own and engine.workers > 1:
            raise  # or the other ranks would wait for this one: the group is started once more, and finds the message
    except TakenOverError:
        return
