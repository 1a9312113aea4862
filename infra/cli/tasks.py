"""`--ray` and `--address`: where a command's tasks run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.over import Over


def check_address(ray: bool, address: str | None) -> None:
    """Raises ConfigError: an address is given, and `--ray` is not."""
    if address and not ray:
        raise ConfigError("--address is of a Ray cluster; give --ray too")


@contextmanager
def over_cluster(
    ray: bool, address: str | None, workers: int | None, out_url: str, places: Mapping[str, str] | None = None
) -> Iterator[Over | None]:
    """What does the work on a cluster; None for this machine's processes.

    Args:
        out_url: the folder that tasks write to; absolute.
        places: name of another place -> path of an existing file there, which tasks read.

    Raises:
        ConfigError: Ray is not installed, or a node does not see a path of this machine.
        StorageError: the folder cannot be written.
    """
    if not ray:
        yield None
        return
    from adaptfocus.infra.running.run import check_ray
    from adaptfocus.pipelines import store

    check_ray()
    from adaptfocus.infra.running.cluster import tasks_on

    store.check_writable(out_url)
    with tasks_on(address, workers, out_url, places) as over:
        yield over
