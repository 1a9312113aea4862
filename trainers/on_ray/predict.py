"""Predictions of an evaluation, made and written on a cluster. None of them passes the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy
from ray.exceptions import RayError

from adaptfocus.pipelines.errors import own_error_in
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.pipelines.stream.on_ray import plan_dataset
from adaptfocus.trainers.evaluation.predictions import Block, PartWriter, Written
from adaptfocus.trainers.evaluation.scoring import Predictor
from adaptfocus.trainers.on_ray.datasets import decoding_of, map_with_actors, quiet_data, unless_replaced
from adaptfocus.trainers.runs.log import Commit
from adaptfocus.trainers.settings.run import TrainConfig

WRITERS = 2  # tasks at once: a part takes a tenth of a second, and is predicted in many


def predict_on_cluster(
    facts: PlanFacts,
    shape: ClipShape,
    config: TrainConfig,
    num_classes: int,
    commits: Sequence[Commit],
    write: PartWriter,
) -> Iterator[Written]:
    """Predictions through a Ray Dataset: the decoding stage of training, then the model, then what writes parts."""
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
    yield from write_on_cluster(dataset, write)


def write_on_cluster(found: Dataset, write: PartWriter) -> Iterator[Written]:
    """Write the predictions (`slot`, `ok`, `probability`) of all videos, which come in the order of slots.

    Raises:
        InputError: as `PartWriter`; raised by a task.
    """
    parts = found.repartition(target_num_rows_per_block=write.videos_per_part).map_batches(
        partial(_write_block, write=write),
        batch_size=write.videos_per_part,
        num_cpus=0,  # it waits for the store
        compute=TaskPoolStrategy(size=WRITERS),
    )
    parts.context.execution_options.preserve_order = True  # a part has consecutive videos
    try:
        for row in unless_replaced(parts.iter_rows()):
            yield Written(int(row["videos"]), int(row["undecodable"]))
    except RayError as error:
        own = own_error_in(error)
        if own is None:
            raise
        raise own from error


def _write_block(rows: Any, write: PartWriter) -> dict[str, np.ndarray]:
    written = write(Block(rows["slot"], rows["ok"], np.stack([*rows["probability"]])))
    return {name: np.array([number]) for name, number in written._asdict().items()}


class _PredictBlocks:
    """One prediction actor: DecodedBatch columns -> probabilities [checkpoints, views, classes] of each bag."""

    def __init__(self, config: dict[str, Any], num_classes: int, commits: Sequence[Commit]) -> None:
        self.predictor = Predictor(TrainConfig.model_validate(config), num_classes, commits)

    def __call__(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        slots, ok, probability = zip(*self.predictor(DecodedBatch(**columns)), strict=True)
        return {"slot": np.array(slots), "ok": np.array(ok), "probability": np.stack(probability)}
