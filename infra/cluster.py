"""A Ray cluster to run on: an existing one, or one of this machine's own that ends with this process.

Input: an address, or nothing. Does: connects, quietly. Output: a connected driver.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

import ray

# Ray Train looks after its workers every 2 s by default; its waits add up to seconds at each start.
_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Forked helpers of Ray inherit the driver's threads; OpenMP must not multiply them.
    "OMP_NUM_THREADS": "1",
}
OBJECT_STORE_BYTES = 512 * 2**20


def quiet_driver() -> None:
    """Ray Data reports each execution and warns of sizes it does not know; what matters raises."""

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"ray\.")


@contextlib.contextmanager
def connected(address: str | None, cpus: int) -> Iterator[None]:
    """Connect to `address`, or start a cluster of `cpus` logical CPUs on this machine; disconnect at the end.

    Logical CPUs only count how many processes may run; training and decoding share this machine's cores.
    """
    if ray.is_initialized():
        yield  # whoever connected disconnects
        return
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    options: dict = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
    }
    if address is None:
        # Nobody takes this machine away with a notice; each of Ray's helpers costs some seconds of a core to start.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # Ray takes what it may start at once from the machine's cores, and warns of more; most processes here wait.
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(cpus))
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    # "local", not None: with that, Ray would join whatever cluster was started on this machine last.
    ray.init(address=address or "local", **options)
    quiet_driver()
    try:
        yield
    finally:
        ray.shutdown()
