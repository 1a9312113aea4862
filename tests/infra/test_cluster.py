"""A cluster of one's own is one's own."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")


@pytest.mark.slow
def test_a_cluster_that_was_started_here_before_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address Ray would join the cluster of this variable, or whatever was last started on the machine."""
    import ray

    from infra.cluster import connected

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with connected(None, cpus=3):
        assert ray.cluster_resources()["CPU"] == 3
