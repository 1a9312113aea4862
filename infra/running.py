"""Runs from the command line's point of view: on this process or on a cluster.

Input: a TrainConfig. Does: checks, connects, trains or evaluates, shows progress. Output: the run folder; scores.
"""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import threading
import time
from collections.abc import Iterator

from infra.progress import console, following
from pipelines import storage
from pipelines.errors import AdaptFocusError, ConfigError, own_error_in
from pipelines.shard_index import load_index
from trainers.checkpoint import Run
from trainers.config import TrainConfig
from trainers.engine import DrainedError, LocalEngine
from trainers.evaluate import Scores, check_scorable, evaluate, load_config, predict_here
from trainers.full_labels import said_of, without_times
from trainers.loop import train
from trainers.prepare import finished, prepare


def run_training(config: TrainConfig, address: str | None) -> None:
    """Begin a run, or go on with it from its last checkpoint.

    Raises:
        AdaptFocusError: something the user can mend, or the worker group failed too often.
    """
    if config.placement.engine == "ray":
        check_ray()  # before the run's folder is made
    index, commit = prepare(config)
    if finished(config):
        console.print(f"{config.url} is finished: {config.epochs} epochs are trained", soft_wrap=True)
        return
    if commit:
        console.print(
            f"resuming {config.url} from epoch {commit.epoch}, bag {commit.cursor} of {commit.num_bags}", soft_wrap=True
        )
    if (left_out := without_times(config, index.table)).rows:
        console.print(said_of(left_out, index.table.num_rows), highlight=False, soft_wrap=True)
    unlabelled = sum(1 for labels in index.table.column("labels").to_pylist() if not labels)
    if unlabelled:
        console.print(f"{unlabelled} of {index.table.num_rows} videos have no label: all classes are negatives there")
    began = time.monotonic()
    with following(config.url, config.name):
        if config.placement.engine == "local":
            engine = LocalEngine(config.plan.bags_per_batch)
            with _ending_politely(engine):
                train(config, engine)
        else:
            _train_on_cluster(config, address)
    console.print(f"trained {config.url} in {time.monotonic() - began:.0f} s", soft_wrap=True)


@contextlib.contextmanager
def _ending_politely(engine: LocalEngine) -> Iterator[None]:
    """SIGTERM, which whoever takes a machine away sends first, makes the loop commit after the step it is in."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGTERM, lambda *_: engine.notice.set())
    try:
        yield
    except DrainedError as stopped:
        console.print(str(stopped), markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(128 + signal.SIGTERM) from stopped
    finally:
        signal.signal(signal.SIGTERM, before)


def run_evaluation(
    run_url: str,
    index_url: str,
    views: int,
    name: str,
    engine: str,
    address: str | None,
    epoch: int | None = None,
    crops: int = 1,
    size_pixels: int | None = None,
) -> Scores:
    """Score a run's newest checkpoint, or the one at the end of an epoch."""
    config = load_config(run_url)
    if engine == "local":
        return evaluate(Run(run_url), config, index_url, views, name, predict_here, epoch, crops, size_pixels)
    check_ray()
    labels = [load_index(url, columns=["labels"]) for url in (config.index, index_url)]
    check_scorable(config, labels[0].classes, labels[1], index_url)  # before a cluster is started
    from infra.cluster import connected
    from trainers.ray_train import predict_on_cluster

    with connected(address, cpus=cpus_of(config)):
        return evaluate(Run(run_url), config, index_url, views, name, predict_on_cluster, epoch, crops, size_pixels)


def cpus_of(config: TrainConfig) -> int:
    """Logical CPUs of a local cluster: a worker and a decoder each take one.

    Four more: two stages that only regroup rows reserve one each, and without that Ray Data gives the decoders none.
    """
    return config.placement.workers + config.placement.decode_workers + 4


def check_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "running on a cluster needs Ray, which is not installed; pip install 'adaptfocus[ray]', or stay in this "
            "process (train: placement.engine=local; evaluate and extract: --engine local)"
        )


def _train_on_cluster(config: TrainConfig, address: str | None) -> None:
    from ray.train import TrainingFailedError

    from infra.cluster import connected
    from trainers.ray_train import fit

    if storage.is_local(config.runs) and address not in (None, "local"):
        console.print(f"[yellow]{config.runs} is a path of this machine: every node must see the same files there")
    with connected(address, cpus=cpus_of(config)):
        try:
            fit(config)
        except TrainingFailedError as error:
            raise AdaptFocusError(_reason_of_failure(error)) from error


def _reason_of_failure(error: BaseException) -> str:
    """The user's own error inside Ray's, or the last line of the first worker's."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        if own := own_error_in(failure):
            return str(own)
    text = [line for line in str(next(iter(failures.values()), error)).splitlines() if line.strip()]
    last = text[-1].strip() if text else type(error).__name__
    return f"the workers failed more often than placement.max_restarts allows; the last error: {last}"
