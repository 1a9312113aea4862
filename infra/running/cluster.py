"""A Ray cluster to run on: an existing one, or one on this machine that ends with this process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from adaptfocus.infra.running.placement import amounts, needed_resources
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.on_ray.over import OnRay
from adaptfocus.trainers.settings.parts import PlacementConfig

# Ray Train polls its workers every 2 s by default, which adds up to seconds at each start.
_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A notice that a node is taken away often leaves 30 s; Ray checks for one every 5 s by default.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    # A group that was planned for a node that has just left is planned again after this time, 60 s by default.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Forked helpers of Ray inherit the driver's threads; OpenMP must not multiply them.
    "OMP_NUM_THREADS": "1",
}
OBJECT_STORE_BYTES = 512 * 2**20
SEEN_SECONDS = 60.0  # a node may have to start a process to answer in


def quiet_driver() -> None:
    """Silence Ray Data, which reports each execution and warns of unknown sizes. What matters raises an error."""

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"ray\.")


@contextlib.contextmanager
def connect(address: str | None, cpus: int) -> Iterator[None]:
    """Connect to `address`, or start a cluster of `cpus` logical CPUs on this machine; disconnect at the end.

    Logical CPUs only count how many processes may run; training and decoding share this machine's cores.
    """
    if ray.is_initialized():
        yield  # the caller that connected disconnects
        return
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    options: dict = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
    }
    if address is None:
        # Nobody announces that this machine goes away, and each of Ray's helpers costs some seconds of a core to start.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # Ray limits parallel starts to the machine's cores and warns beyond that; most processes here only wait.
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(cpus))
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    # "local": without an address, Ray would join any cluster that somebody has started on this machine.
    ray.init(address=address or "local", **options)
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler ends in a C++ stack and exit code 134.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    quiet_driver()
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def tasks_on(
    address: str | None, tasks_at_once: int | None, out_url: str, places: Mapping[str, str] | None = None
) -> Iterator[OnRay]:
    """What does a function over many items as tasks of a cluster; one a CPU at once, if `tasks_at_once` is None.

    Args:
        out_url: a folder that exists, and where the tasks write.
        places: name of another place -> the path of an existing file in it, which the tasks read.

    Raises:
        ConfigError: one of them is a path of this machine, and a node has nothing there.
    """
    with connect(address, cpus=tasks_at_once or os.cpu_count() or 1):
        check_seen({"--out": out_url} | dict(places or {}))
        yield OnRay(tasks_at_once or int(ray.cluster_resources().get("CPU", 1)))


def offered_resources() -> str:
    """What the cluster has, and how much of it is free, in words."""
    return f"the cluster has {amounts(ray.cluster_resources())}, and {amounts(ray.available_resources())} of it free"


def check_offered(place: PlacementConfig) -> None:
    """Check that a cluster that does not grow can ever hold the run's workers.

    Raises:
        ConfigError: it cannot.
    """
    there = ray.cluster_resources()
    for name, each in place.of_each_worker().items():
        wanted = each * (place.min_workers or place.workers)
        if wanted > there.get(name, 0.0):
            raise ConfigError(
                f"the workers need {needed_resources(place)}, which is {wanted:g} {name}, and the cluster on "
                f"this machine has {there.get(name, 0.0):g}; ask for less under `placement`, or give --address of a "
                "cluster that has it"
            )


def check_seen(places: Mapping[str, str], own_host: str | None = None) -> None:
    """Check that the nodes see the local paths that this machine sees. They reach places in a store themselves.

    Nodes that join later are not checked.

    Args:
        places: name of the place -> the path of an existing file in it.
        own_host: the host whose nodes need no check; this one by default.

    Raises:
        ConfigError: a node does not see a path; the message names both.
    """
    paths = {what: store.filesystem(url)[1] for what, url in places.items() if store.is_local(url)}
    own_host = own_host or socket.gethostname()
    hosts = {
        node["NodeID"]: node["NodeManagerHostname"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeManagerHostname"] != own_host and {"CPU", "GPU"} & node["Resources"].keys()
    }
    if not paths or not hosts:
        return

    def missing(paths: dict[str, str]) -> list[str]:  # sent by value: a node may not have this project yet
        import os

        return [what for what, path in paths.items() if not os.path.exists(path)]  # noqa: PTH110

    def asked(node: str) -> ray.ObjectRef:
        where: Any = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(num_cpus=0, scheduling_strategy=where)(missing).remote(paths)

    refs = {node: asked(node) for node in hosts}
    for node, ref in refs.items():
        try:
            lost = ray.get(ref, timeout=SEEN_SECONDS)
        except RayError:  # the node is gone, or slow to start: training will report it
            continue
        if lost:
            raise ConfigError(
                f"{lost[0]} is {places[lost[0]]}, a path of this machine, and the node {hosts[node]} has nothing "
                "there; put it where every node sees the same files: s3://..., or a file system that all of them mount"
            )
