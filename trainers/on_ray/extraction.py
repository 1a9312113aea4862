"""Extraction on a cluster: the windows of `pipelines.stream.on_ray`, then actors with the backbone.

Tasks decode on the nodes where the run decodes. One actor a GPU turns windows into features; without GPUs there are
`placement.workers` actors. Features come in no particular order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import ray
from ray.data import ActorPoolStrategy

from adaptfocus.pipelines.errors import own_error_in
from adaptfocus.pipelines.stream.on_ray import window_dataset
from adaptfocus.pipelines.stream.windows import VideoRange
from adaptfocus.trainers.evaluation.extraction import Columns, Extraction, add_features
from adaptfocus.trainers.evaluation.feature_model import FeatureModel
from adaptfocus.trainers.on_ray.datasets import decoding_of, map_with_actors, quiet_data


def make_on_cluster(job: Extraction, ranges: Sequence[VideoRange]) -> Iterator[Columns]:
    """Features of all windows of some videos."""
    if not ranges:
        return
    quiet_data()
    place = job.config.placement
    gpus_each = place.gpus_per_worker or 1
    actors = int(ray.cluster_resources().get("GPU", 0) // gpus_each)
    features = map_with_actors(
        window_dataset(ranges, job.shape, decoding_of(job.config, 0.5)),
        _FeatureBlocks,
        fn_constructor_args=(job,),
        batch_size=job.shape.windows_per_batch,
        num_cpus=0.5,
        num_gpus=gpus_each if actors else None,
        compute=ActorPoolStrategy(size=actors or place.workers),
    )
    try:
        yield from features.iter_batches(batch_size=None, batch_format="numpy")  # type: ignore[misc]
    except Exception as error:  # Ray's error, around that of a task or an actor
        own = own_error_in(error)
        if own is None:
            raise
        raise own from error


class _FeatureBlocks:
    """One actor: WindowBatch columns -> the same columns with features instead of frames."""

    def __init__(self, job: Extraction) -> None:
        self.model = FeatureModel(job.config, job.num_classes, job.weights, job.kind)

    def __call__(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(add_features(columns, self.model))
