"""The number of workers of a run on Ray, and the ends of a worker group that are not failures.

A group gets the largest number of workers that fits the nodes and divides a global batch. Before a group is made
larger, it is asked to commit and end. A group that ended that way is started again without counting a failure. These
scaling and failure policies replace Ray's own in `trainers/on_ray/train.py`.

Ray has no public way to choose a policy. The hooks used here (`_initialize_and_run_controller` of the trainer,
`_count_possible_workers` and `_get_reserved_resources` of Ray's elastic policy) are those of Ray 2.60. pyproject.toml
pins Ray to that version (docs/decisions/0014).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    FixedScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerGroupState
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from adaptfocus.trainers.errors import DrainedError

# In a worker's process: set when its group must commit and end. A process serves only one group.
NOTICE = threading.Event()

# The longest wait for a group that has been asked to commit and end.
PATIENCE_SECONDS = 120.0
# The wait between two looks for nodes while there are too few.
POLL_SECONDS = 0.5


class WholeBatchTrainer(TorchTrainer):
    """A TorchTrainer whose number of workers always divides a global batch."""

    bags_per_batch = 1

    def _initialize_and_run_controller(self, **controller: Any) -> Any:
        scaling = self.scaling_config
        elastic = isinstance(scaling, ScalingConfig) and scaling.elasticity_enabled
        policy = WholeBatches(scaling, self.bags_per_batch) if elastic else FixedScalingPolicy(scaling)
        failure = self.run_config.failure_config or FailureConfig()
        return super()._initialize_and_run_controller(
            **controller | {"scaling_policy": policy, "failure_policy": DrainsAreNoFailures(failure)}
        )


class DrainsAreNoFailures(DefaultFailurePolicy):
    """Ray's own policy, except that a group that committed and ended on request is simply started again."""

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        if isinstance(training_failed_error, WorkerGroupError) and any(
            isinstance(error, DrainedError) for error in training_failed_error.worker_failures.values()
        ):
            return FailureDecision.RETRY
        return super().make_decision(training_failed_error)


class WholeBatches(ElasticScalingPolicy):
    """The largest number of workers that the nodes hold and that divides a global batch."""

    def __init__(self, scaling_config: ScalingConfig, bags_per_batch: int) -> None:
        super().__init__(scaling_config)
        self._bags_per_batch = bags_per_batch
        self._asked_seconds: float | None = None  # when the running group was asked to end; monotonic

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        self._asked_seconds = None
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            time.sleep(POLL_SECONDS)  # Ray's controller asks again at once, and would use a whole core
        return decision

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        """Ray's decision. The group is first asked to commit and end; it is resized by force only if it does not."""
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        if not isinstance(decision, ResizeDecision):
            return decision
        if self._asked_seconds is None:
            self._asked_seconds = time.monotonic()
            for worker in worker_group_state.workers:
                worker.execute_async(_give_notice)
        return decision if time.monotonic() - self._asked_seconds > PATIENCE_SECONDS else NoopDecision()

    def _count_possible_workers(self, reserved_resources: Mapping[str, Mapping[str, float]]) -> int:
        fits = super()._count_possible_workers(dict(reserved_resources))  # type: ignore[arg-type]
        return largest_divisor(self._bags_per_batch, fits)

    def _get_reserved_resources(self) -> dict[str, dict[str, float]] | None:
        """The resources of the nodes for this run's workers, without nodes that are dead or about to be taken away.

        Ray's own answer may be 20 s old: a group would be planned for a node that is gone, and waited for in vain. Ray
        also keeps the reservation of a killed command for 180 s. So the resources that are free right now count too.
        """
        reserved = super()._get_reserved_resources()
        if reserved is None:
            return None
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - draining_nodes()
        free = ray._private.state.available_resources_per_node()  # type: ignore[attr-defined]
        return larger(reserved, free, alive)


def _give_notice() -> None:
    """Run in a worker's process."""
    NOTICE.set()


def largest_divisor(bags_per_batch: int, limit: int) -> int:
    """The largest number of workers up to `limit` among which a global batch can be split; 0 if there is none."""
    return max((n for n in range(1, min(limit, bags_per_batch) + 1) if bags_per_batch % n == 0), default=0)


def larger(
    reserved: Mapping[str, Mapping[str, float]], free: Mapping[str, Mapping[str, float]], nodes: set[str]
) -> dict[str, dict[str, float]]:
    """For each node and resource, the larger of two amounts: reserved for this run, or used by nobody."""
    return {
        node: {
            name: max(reserved.get(node, {}).get(name, 0.0), free.get(node, {}).get(name, 0.0))
            for name in {*reserved.get(node, {}), *free.get(node, {})}
        }
        for node in nodes
    }


def draining_nodes() -> set[str]:
    """The nodes that Ray has been told will be taken away."""
    return set(ray._private.state.state.get_draining_nodes() or {})  # type: ignore[attr-defined]
