"""How many workers a run has, and what counts as a failure; these tests also pin the hooks of Ray that this needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")
from ray.train import FailureConfig, ScalingConfig
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ResizeDecision
from ray.train.v2.api.exceptions import WorkerGroupError

from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.trainers.errors import DrainedError
from adaptfocus.trainers.on_ray import elastic as ray_elastic
from adaptfocus.trainers.on_ray.elastic import DrainsAreNoFailures, WholeBatches, largest_divisor
from adaptfocus.trainers.on_ray.train import _trainer
from tests.worlds import SmallWorld

BAGS = 16


def policy(least: int = 1, most: int = 16, **per_worker: float) -> WholeBatches:
    scaling = ScalingConfig(
        num_workers=(least, most), use_gpu="GPU" in per_worker, resources_per_worker=per_worker or {"CPU": 1}
    )
    return WholeBatches(scaling, BAGS)


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, 0), (1, 1), (3, 2), (4, 4), (7, 4), (8, 8), (15, 8), (16, 16), (99, 16)]
)
def test_a_group_is_as_large_as_a_global_batch_can_be_split(limit: int, expected: int) -> None:
    assert largest_divisor(BAGS, limit) == expected


def test_three_nodes_of_one_gpu_give_two_workers_for_sixteen_bags() -> None:
    nodes = {f"node-{n}": {"CPU": 8.0, "GPU": 1.0} for n in range(3)}
    assert policy(CPU=1, GPU=1)._count_possible_workers(nodes) == 2
    assert policy(CPU=1, GPU=1)._count_possible_workers(nodes | {"node-3": {"CPU": 8.0, "GPU": 1.0}}) == 4
    assert policy(most=2, CPU=1)._count_possible_workers(nodes) == 2, "no more than are asked for"
    assert policy(CPU=1, train=1)._count_possible_workers(nodes) == 0, "none of them has that resource"


def test_what_a_killed_command_had_reserved_does_not_keep_its_successor_waiting() -> None:
    """Ray keeps the reservation of a killed run for three minutes, but free resources still count."""
    free = {"a": {"CPU": 2.0, "train": 1.0}, "b": {"CPU": 0.0, "train": 1.0}, "gone": {"CPU": 2.0, "train": 1.0}}
    nodes = ray_elastic.larger({"b": {"CPU": 1.0}}, free, {"a", "b"})
    assert nodes == {"a": {"CPU": 2.0, "train": 1.0}, "b": {"CPU": 1.0, "train": 1.0}}
    assert policy(CPU=1, train=1)._count_possible_workers(nodes) == 2


def test_a_group_is_asked_to_commit_before_it_is_made_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ElasticScalingPolicy, "make_decision_for_running_worker_group", lambda *_, **__: ResizeDecision(4, {"CPU": 1})
    )
    asked: list[str] = []
    workers = [SimpleNamespace(execute_async=lambda f: asked.append(f.__name__)) for _ in range(2)]
    state, chosen = SimpleNamespace(workers=workers), policy()

    def decide() -> object:
        return chosen.make_decision_for_running_worker_group(state, None)  # type: ignore[arg-type]

    assert isinstance(decide(), NoopDecision)
    assert isinstance(decide(), NoopDecision)
    assert asked == ["_give_notice"] * 2, "once each"
    monkeypatch.setattr(ray_elastic, "PATIENCE_SECONDS", -1.0)
    assert isinstance(decide(), ResizeDecision), "a group that does not end is not waited for for ever"


def test_a_group_that_ended_because_it_was_asked_to_is_no_failure() -> None:
    """Without this, a spot cluster would use up placement.max_restarts in an afternoon."""
    failures = DrainsAreNoFailures(FailureConfig(max_failures=1))
    drained = WorkerGroupError("", {0: DrainedError("asked"), 1: RuntimeError("Connection reset by peer")})
    broken = WorkerGroupError("", {0: RuntimeError("a bug")})
    assert [failures.make_decision(drained) for _ in range(5)] == [FailureDecision.RETRY] * 5
    assert failures.make_decision(broken) == FailureDecision.RETRY
    assert failures.make_decision(drained) == FailureDecision.RETRY
    assert failures.make_decision(broken) == FailureDecision.RAISE


def test_the_settings_reach_ray(small_world: SmallWorld, tmp_path: Path) -> None:
    def trainer(*overrides: str):
        config = small_world.run_config(tmp_path, "run", "placement.engine=ray", *overrides)
        return _trainer(config, ClipShape(3, 8, 20, DecodeConfig()), "failure.json", str(tmp_path))

    fixed = trainer("placement.workers=2")
    assert fixed.scaling_config.num_workers == 2
    elastic = trainer(
        "placement.workers=4", "placement.min_workers=2", "placement.worker_resources={train: 1}",
        "placement.resize_seconds=7", "placement.collective_timeout_seconds=50", "placement.max_restarts=9",
    )  # fmt: skip
    scaling, failure = elastic.scaling_config, elastic.run_config.failure_config
    assert (scaling.num_workers, scaling.elastic_resize_monitor_interval_s) == ((2, 4), 7)
    assert scaling.resources_per_worker == {"CPU": 1, "train": 1}
    assert (failure.max_failures, failure.max_preemption_failures) == (9, -1)
    assert elastic.backend_config.timeout_s == 50
    assert elastic.bags_per_batch == 4
