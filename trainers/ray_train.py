"""The loop as a TorchTrainer. The only file of trainers/ that imports ray.

Input: a TrainConfig, on a driver that is connected to a cluster.
Does: one `TorchTrainer.fit()` over all epochs; Ray restarts the worker group after failures, and the loop goes on
from the run's own log of commits (docs/decisions/0002 says why not from Ray's checkpoints).
Output: the run folder; errors a user can mend come out as themselves.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import ray
import ray.train.torch
import torch
import torch.distributed as dist
from ray.data import ActorPoolStrategy, Dataset, ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipelines import storage
from pipelines.clip_plan import Planner
from pipelines.clip_stream import ClipShape
from pipelines.errors import AdaptFocusError, ReplacedError, StorageError, own_error_in
from pipelines.plan_store import PlanFacts, Stretch
from pipelines.ray_data import Decoding, bags_per_block, claim_stream, clip_dataset, mark, newest_stream, plan_dataset
from pipelines.records import ClipBatch
from pipelines.shard_index import load_index
from trainers.checkpoint import Commit, TakenOverError
from trainers.config import TrainConfig
from trainers.engine import StoppedError, as_stopped
from trainers.evaluate import Prediction, Predictor
from trainers.loop import clip_shape, train
from trainers.prepare import finished

T = TypeVar("T")


class RayEngine:
    """One rank of a Ray Train worker group."""

    def __init__(self, config: TrainConfig) -> None:
        context = ray.train.get_context()
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.bags_per_rank = config.plan.bags_per_batch // self.workers
        shard = ray.train.get_dataset_shard("clips")
        assert shard is not None
        self.shard = shard
        self.stream_url = newest_stream(config.url) if self.rank == 0 else ""

    def wrap(self, model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model) if self.workers > 1 else model

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        total = values.detach().to(self.device, copy=True)  # NCCL adds up on the device alone
        dist.all_reduce(total)
        return total.to(values.device)

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.workers
        dist.all_gather_object(values, value)
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
        dist.broadcast_object_list(box)
        if box[1] is not None:
            raise box[1]
        return box[0]

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


def fit(config: TrainConfig) -> None:
    """Train a run on the cluster this driver is connected to.

    Raises:
        StoppedError: the run cannot go on as it is; the message says why.
        ray.train.TrainingFailedError: the worker group failed more often than `placement.max_restarts` allows.
    """
    place = config.placement
    index = load_index(config.index, columns=["labels"])
    shape = clip_shape(config, Planner.of(index.table, index.classes).max_labels)
    block = bags_per_block(config.plan.bags_per_batch // place.workers, shape)
    failure_url = storage.join(config.url, f"failure-{uuid.uuid4().hex[:8]}.json")
    with tempfile.TemporaryDirectory(prefix="adaptfocus-ray-") as folder:
        try:
            _trainer(config, shape, block, failure_url, folder).fit()
        except ray.train.TrainingFailedError:
            if not storage.exists(failure_url):
                raise
    if storage.exists(failure_url):
        message = json.loads(storage.read_bytes(failure_url))["message"]
        storage.delete(failure_url)
        raise StoppedError(message)
    if not finished(config):
        raise StoppedError(f"{config.url} has been taken over by another process, and goes on there; this one stops")


def _trainer(config: TrainConfig, shape: ClipShape, block: int, failure_url: str, folder: str) -> TorchTrainer:
    """The run as Ray Train wants it; `folder` holds what Ray keeps for itself."""
    place = config.placement
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={"config": config.model_dump(mode="json"), "failure_url": failure_url},
        torch_config=TorchConfig(backend="nccl" if place.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=place.workers,
            use_gpu=place.gpus_per_worker > 0,
            resources_per_worker={"CPU": 1, **({"GPU": place.gpus_per_worker} if place.gpus_per_worker else {})},
        ),
        run_config=RunConfig(
            # Ray's own storage holds nothing that a run needs; a fresh name keeps Ray from resuming by itself.
            name=f"{config.name}-{uuid.uuid4().hex[:8]}",
            storage_path=folder,
            failure_config=FailureConfig(max_failures=place.max_restarts),
        ),
        datasets={"clips": _dataset_of_group(config, shape, block)},
        dataset_config=DataConfig(execution_options={"clips": ExecutionOptions(preserve_order=True)}),
    )


def predict_on_cluster(
    facts: PlanFacts, shape: ClipShape, config: TrainConfig, num_classes: int, commits: Sequence[Commit]
) -> Iterator[Prediction]:
    """Prediction as a Ray Dataset: the decoding stage of training, then the model; in no particular order."""
    _quiet_data()
    place = config.placement
    gpus = place.gpus_per_worker
    dataset = plan_dataset(facts, shape, _decoding(config, 0.5)).map_batches(
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


def _dataset_of_group(config: TrainConfig, shape: ClipShape, block: int) -> Callable[[], Dataset]:
    """A dataset made anew for each worker group: the controller calls this as a group starts."""

    def make() -> Dataset:
        _quiet_data()
        return clip_dataset(claim_stream(config.url), shape, block, _decoding(config))

    return make


def _decoding(config: TrainConfig, cpus_per_core: float = 1.0) -> Decoding:
    place = config.placement
    return Decoding(place.decode_workers, cpus_per_core, tuple(sorted(place.decode_labels.items())))


def _quiet_data() -> None:
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
    if storage.exists(failure_url):
        return  # a rank of the group before this one has left it
    engine = RayEngine(config)
    try:
        train(config, engine)
    except StoppedError as error:
        is_own = isinstance(error, _ReplacedShardError)
        if engine.rank == 0 or is_own:
            storage.write_bytes(failure_url, json.dumps({"message": str(error)}).encode())
        if is_own and engine.workers > 1:
            raise  # or the other ranks would wait for this one: the group is started once more, and finds the message
    except TakenOverError:
        return
