"""A command starts its own cluster, and joins another only where it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Of this module's own, while the environment names another, which does not answer."""
    from adaptfocus.infra.running.cluster import connect

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:9")
        with connect(None, cpus=3):
            yield


def test_a_cluster_that_was_started_here_before_is_left_alone() -> None:
    """Without an address Ray would join the cluster of this variable, or whatever was last started on the machine."""
    assert ray.cluster_resources()["CPU"] == 3


def test_what_cannot_be_there_is_said_at_once(tmp_path: Path) -> None:
    """Here: a path that a node does not see, and more resources than a cluster of fixed size has."""
    from adaptfocus.infra.running.cluster import check_offered, check_seen
    from adaptfocus.pipelines.errors import ConfigError
    from adaptfocus.trainers.settings.parts import PlacementConfig

    index = tmp_path / "index.json"
    index.touch()
    gone = {"index": str(index), "runs": str(tmp_path / "gone")}
    check_seen(gone)  # this machine's own nodes see what it sees
    check_seen({"index": str(index)}, own_host="elsewhere")
    with pytest.raises(ConfigError, match=r"runs is .*/gone, a path of this machine, and the node .* has nothing"):
        check_seen(gone, own_host="elsewhere")
    check_offered(PlacementConfig(workers=2))
    with pytest.raises(ConfigError, match=r"which is 8 CPU, and the cluster on this machine has 3"):
        check_offered(PlacementConfig(workers=2, worker_resources={"CPU": 4}))
