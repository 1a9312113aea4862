"""Predictions of an evaluation, made on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ray.data import ActorPoolStrategy

from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.pipelines.stream.on_ray import plan_dataset
from adaptfocus.trainers.evaluation.scoring import Prediction, Predictor
from adaptfocus.trainers.on_ray.datasets import decoding_of, map_with_actors, quiet_data, unless_replaced
from adaptfocus.trainers.runs.log import Commit
from adaptfocus.trainers.settings.run import TrainConfig


def predict_on_cluster(
    facts: PlanFacts, shape: ClipShape, config: TrainConfig, num_classes: int, commits: Sequence[Commit]
) -> Iterator[Prediction]:
    """Predictions through a Ray Dataset: the decoding stage of training, then the model. In no particular order."""
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
    for row in unless_replaced(dataset.iter_rows()):
        yield int(row["slot"]), bool(row["ok"]), np.asarray(row["probability"])


class _PredictBlocks:
    """One prediction actor: DecodedBatch columns -> probabilities [checkpoints, views, classes] of each bag."""

    def __init__(self, config: dict[str, Any], num_classes: int, commits: Sequence[Commit]) -> None:
        self.predictor = Predictor(TrainConfig.model_validate(config), num_classes, commits)

    def __call__(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        slots, ok, probability = zip(*self.predictor(DecodedBatch(**columns)), strict=True)
        return {"slot": np.array(slots), "ok": np.array(ok), "probability": np.stack(probability)}
