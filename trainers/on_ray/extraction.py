"""Extraction on a cluster: the windows of `pipelines.stream.on_ray`, then actors with the backbone.

Tasks decode on the nodes where the run decodes. One actor a GPU turns windows into features; without GPUs there are
`placement.workers` actors. Actors write what they make, in no particular order, and the driver only counts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from adaptfocus.pipelines.errors import own_error_in
from adaptfocus.pipelines.stream.on_ray import window_dataset
from adaptfocus.pipelines.stream.windows import VideoRange
from adaptfocus.trainers.evaluation.extraction import Extraction, add_features
from adaptfocus.trainers.evaluation.feature_model import FeatureModel
from adaptfocus.trainers.evaluation.fragments import FeatureParts, Made
from adaptfocus.trainers.on_ray.datasets import decoding_of, map_with_actors, quiet_data


def make_on_cluster(job: Extraction, ranges: Sequence[VideoRange], write: FeatureParts) -> Iterator[Sequence[Made]]:
    """Features of all windows of some videos, written by the actors that make them."""
    if not ranges:
        return
    quiet_data()
    place = job.config.placement
    gpus_each = place.gpus_per_worker or 1
    actors = int(ray.cluster_resources().get("GPU", 0) // gpus_each)
    features = map_with_actors(
        window_dataset(ranges, job.shape, decoding_of(job.config, 0.5)),
        _FeatureBlocks,
        fn_constructor_args=(job, write),
        batch_size=job.shape.windows_per_batch,
        num_cpus=0.5,
        num_gpus=gpus_each if actors else None,
        compute=ActorPoolStrategy(size=actors or place.workers),
    )
    try:
        for columns in features.iter_batches(batch_size=None, batch_format="numpy"):
            yield made_of(columns)
    except Exception as error:  # Ray's error, around that of a task or an actor
        own = own_error_in(error)
        if own is None:
            raise
        raise own from error


def made_of(columns: Any) -> list[Made]:
    """What a block of `columns_of` says."""
    return [Made(*row) for row in zip(*(columns[name].tolist() for name in Made._fields), strict=True)]


def columns_of(made: Sequence[Made]) -> dict[str, np.ndarray]:
    """What has been written, as it passes through Ray Data: no feature is in it."""
    return {name: np.array([getattr(each, name) for each in made]) for name in Made._fields}


class _FeatureBlocks:
    """One actor: WindowBatch columns -> what was written of them."""

    def __init__(self, job: Extraction, write: FeatureParts) -> None:
        self.model, self.write = FeatureModel(job.config, job.num_classes, job.weights, job.kind), write

    def __call__(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return columns_of(self.write.write(add_features(columns, self.model)))
