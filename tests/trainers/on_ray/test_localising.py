"""Localisation on a cluster gives what it gives in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.infra.running.localisation import run_localisation
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.preparation import prepare
from tests.trainers.loop.test_training import broken_copy
from tests.worlds import SmallWorld

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_intervals_from_the_cluster_equal_those_of_this_process(small_world: SmallWorld, tmp_path: Path) -> None:
    """One of the videos does not decode."""
    world = broken_copy(small_world, tmp_path / "broken", 1)
    config = small_world.run_config(tmp_path, "r", "epochs=1")
    prepare(config)
    train(config, LocalEngine(4))
    done = {}
    for engine in ("local", "ray"):
        out = tmp_path / engine
        found = run_localisation(
            config.url, [world.train_index], str(out), stride_seconds=2.0, calibrate=small_world.test_index,
            engine=engine, overrides=["placement.decode_workers=1"],
        )  # fmt: skip
        results = json.loads((out / "activitynet.json").read_text())["results"]
        done[engine] = (found.done.videos, found.done.refused, found.done.intervals, found.scores, results)
    (here, there) = done.values()
    assert here[:3] == there[:3]
    assert (here[0], sum(here[1].values())) == (17, 1)
    assert here[4].keys() == there[4].keys()
    for video, own in here[4].items():
        assert [each["label"] for each in own] == [each["label"] for each in there[4][video]]
        assert [each["score"] for each in own] == pytest.approx([each["score"] for each in there[4][video]], abs=1e-4)
