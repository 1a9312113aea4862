"""The training loop as a TorchTrainer, on a driver that is connected to a cluster.

One `TorchTrainer.fit()` runs all epochs. Ray restarts the worker group after failures, and the loop resumes from the
run's own log of commits (docs/decisions/0002 says why it does not use Ray's checkpoints). Errors that a user can fix
are raised as they are.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from typing import Any

import ray
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from adaptfocus.pipelines import store
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.trainers.errors import DrainedError, StoppedError, TakenOverError
from adaptfocus.trainers.loop.commits import describe_stop
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.on_ray.datasets import ClipData, ReplacedShardError, decoding_of, rows_of_group
from adaptfocus.trainers.on_ray.elastic import WholeBatchTrainer
from adaptfocus.trainers.on_ray.engine import RayEngine
from adaptfocus.trainers.on_ray.stop import stop_was_asked
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import clip_shape
from adaptfocus.trainers.runs.preparation import is_finished
from adaptfocus.trainers.settings.run import TrainConfig


def fit(config: TrainConfig, stop_key: str | None = None, folder: str | None = None) -> None:
    """Train a run on the cluster this driver is connected to.

    Args:
        folder: the folder for Ray's own files while it trains; the temporary folder by default.
        stop_key: `on_ray.stop.ask_to_stop` with this key makes the group commit after its step, and end for good.

    Raises:
        DrainedError: the group was asked to stop, and all that it has trained is committed.
        StoppedError: the run cannot continue as it is; the message says why.
        ray.train.TrainingFailedError: the worker group failed more often than `placement.max_restarts` allows.
    """
    shape = clip_shape(config)
    failure_url = store.join(config.url, f"failure-{uuid.uuid4().hex[:8]}.json")
    with tempfile.TemporaryDirectory(prefix="adaptfocus-ray-", dir=folder) as own:
        try:
            _trainer(config, shape, failure_url, own, stop_key).fit()
        except ray.train.TrainingFailedError:
            if not store.exists(failure_url):
                raise
    if store.exists(failure_url):
        message = json.loads(store.read_bytes(failure_url))["message"]
        store.delete(failure_url)
        raise StoppedError(message)
    if is_finished(config):
        return
    if stop_key and stop_was_asked(stop_key):
        raise DrainedError(_said_of_stop(config))
    raise StoppedError(f"{config.url} has been taken over by another process, and continues there; this one stops")


def _said_of_stop(config: TrainConfig) -> str:
    _, last = Run(config.url).newest()
    return describe_stop(config, last.epoch, last.cursor, last.num_bags) if last else f"{config.url} was asked to stop"


def _trainer(
    config: TrainConfig, shape: ClipShape, failure_url: str, folder: str, stop_key: str | None = None
) -> TorchTrainer:
    """The run in the form that Ray Train needs. `folder` holds Ray's own files."""
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
            # Ray's own storage holds nothing that a run needs. A new name keeps Ray from resuming by itself.
            name=f"{config.name}-{uuid.uuid4().hex[:8]}",
            storage_path=folder,
            # The loss of a node after notice does not count as a failure.
            failure_config=FailureConfig(max_failures=place.max_restarts, max_preemption_failures=-1),
        ),
        datasets={"clips": rows_of_group(config)},
        dataset_config=ClipData(config.plan.bags_per_batch, shape, decoding_of(config)),
    )
    trainer.bags_per_batch = config.plan.bags_per_batch
    return trainer


def _train_on_worker(loop_config: dict[str, Any]) -> None:
    """The function that runs on each rank.

    An error for the user is written to the store and ends the run, because Ray would retry it. A group that has lost
    the run raises nothing: if a younger group of the same command holds it, all is well.
    """
    config, failure_url = TrainConfig.model_validate(loop_config["config"]), loop_config["failure_url"]
    stop_key = loop_config["stop_key"]
    if store.exists(failure_url) or (stop_key and stop_was_asked(stop_key)):
        return  # a rank of an earlier group wrote it, or this group was asked to stop
    engine = RayEngine(config, stop_key)
    try:
        train(config, engine)
    except DrainedError:
        if not (stop_key and stop_was_asked(stop_key)):
            raise  # only a notice: the group is started again elsewhere
    except StoppedError as error:
        is_own = isinstance(error, ReplacedShardError)
        if engine.rank == 0 or is_own:
            store.write_bytes(failure_url, json.dumps({"message": str(error)}).encode())
        if is_own and engine.workers > 1:
            raise  # otherwise the other ranks wait for this one. The group is started once more, and finds the message
    except TakenOverError:
        return
