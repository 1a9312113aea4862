"""Ray Data for training, evaluation and extraction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
import ray.train.torch
from ray.data import Dataset, ExecutionOptions
from ray.train import DataConfig

from adaptfocus.pipelines.errors import ReplacedError, own_error_in
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.pipelines.stream.on_ray import Decoding, bags_per_block, claim_stream, decode_rows, plan_rows
from adaptfocus.trainers.errors import StoppedError
from adaptfocus.trainers.settings.run import TrainConfig

T = TypeVar("T")


class ReplacedShardError(StoppedError):
    """A rank has found a shard that differs from the indexed one. The other ranks do not know it yet."""


def unless_replaced(batches: Iterable[T]) -> Iterator[T]:
    try:
        yield from batches
    except Exception as error:  # Ray's error, around that of the decoding task
        own = own_error_in(error)
        if isinstance(own, ReplacedError):
            raise ReplacedShardError(str(own)) from error
        raise


class ClipData(DataConfig):
    """Plan rows -> the clips of each rank. This happens here, because a group's size is known only once it exists."""

    def __init__(self, bags_per_batch: int, shape: ClipShape, decoding: Decoding) -> None:
        super().__init__(execution_options={"clips": ExecutionOptions(preserve_order=True)})
        self.bags_per_batch, self.shape, self.decoding = bags_per_batch, shape, decoding

    def configure(self, datasets: dict[str, Dataset], world_size: int, *args: Any, **kwargs: Any) -> list[dict]:
        block = bags_per_block(self.bags_per_batch // world_size, self.shape)
        clips = {name: decode_rows(rows, self.shape, block, self.decoding) for name, rows in datasets.items()}
        return super().configure(clips, world_size, *args, **kwargs)


def rows_of_group(config: TrainConfig) -> Callable[[], Dataset]:
    """A function that makes a new dataset of plan rows for each worker group; the controller calls it at the start."""

    def make() -> Dataset:
        quiet_data()
        return plan_rows(claim_stream(config.url), decoding_of(config), config.index_urls)

    return make


def decoding_of(config: TrainConfig, cpus_per_core: float = 1.0) -> Decoding:
    place = config.placement
    return Decoding(place.decode_workers, cpus_per_core, tuple(sorted(place.decode_labels.items())))


def map_with_actors(dataset: Dataset, actor: type, **options: Any) -> Dataset:
    """`map_batches` with an actor class. On one machine an actor that dies is not started again.

    No node is lost there: the actor ran out of memory or crashed, and would do so again. With restarts, Ray also prints
    a harmless error about each pool's arguments to the terminal.
    """
    if sum(node["Alive"] for node in ray.nodes()) == 1:
        options |= {"max_restarts": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray 2.64 is to have a replacement; 2.60 has none
        return dataset.map_batches(actor, **options)


def quiet_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Otherwise Ray raises an error of its own, and the task's error is lost between processes.
    context.raise_original_map_exception = True
