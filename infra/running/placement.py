"""What a run asks of a cluster that this machine starts by itself, looked at before anything is started.

Input: settings under `placement`. Does: counts GPUs; looks for resources and labels that only a real cluster has.
Output: nothing, or an error: on such a cluster, what is not there would be waited for without an end.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.settings.parts import PlacementConfig
from adaptfocus.trainers.settings.run import TrainConfig

_OF_ANY_MACHINE = ("CPU", "GPU", "memory")


def needed_resources(place: PlacementConfig) -> str:
    """What a run's workers take: `2 x {CPU: 1, GPU: 1}`."""
    least = place.min_workers or place.workers
    number = f"{place.workers}" if least == place.workers else f"{least} to {place.workers}"
    return f"{number} x {amounts(place.of_each_worker())}"


def amounts(resources: Mapping[str, float]) -> str:
    """`{CPU: 8, GPU: 1}`, without what Ray counts for itself: addresses, places of groups, memory."""
    own = [name for name in sorted(resources) if ":" not in name and "_group_" not in name and "memory" not in name]
    return "{" + ", ".join(f"{name}: {resources[name]:g}" for name in own) + "}"


def check_this_machine(place: PlacementConfig) -> None:
    """Whether this machine can hold the run's workers.

    Raises:
        ConfigError: it cannot; says what is missing.
    """
    workers = place.min_workers or place.workers
    wanted, there = workers * place.of_each_worker().get("GPU", 0.0), torch.cuda.device_count()
    if wanted > there:
        raise ConfigError(
            f"the workers need {needed_resources(place)}, and this machine has {there} GPUs that CUDA can use; leave "
            "placement.gpus_per_worker out to train on its CPUs, ask for fewer workers, or give --address of a cluster "
            "that has them"
        )
    strange = [name for name in place.worker_resources if name not in _OF_ANY_MACHINE]
    if strange:
        raise ConfigError(
            f"placement.worker_resources asks for '{strange[0]}', which no node of a cluster on this machine offers; "
            "leave it out, or give --address of a cluster whose nodes have it"
        )
    if place.decode_labels:
        raise ConfigError(
            f"placement.decode_labels={place.decode_labels} is on no node of a cluster on this machine; leave it out, "
            "or give --address of a cluster whose nodes have it"
        )


def cpus_of(config: TrainConfig) -> int:
    """Logical CPUs of a local cluster: a worker and a decoder each take one, or what `worker_resources` says.

    Four more: two stages that only regroup rows reserve one each, and without that Ray Data gives the decoders none.
    """
    place = config.placement
    return round(place.workers * max(1.0, place.of_each_worker()["CPU"])) + place.decode_workers + 4
