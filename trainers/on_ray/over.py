"""One function over many items as tasks of Ray Data: where an epoch is planned and merged, and an index is dealt.

It works on a driver and inside a worker of Ray Train. There its tasks share CPUs with the decoding tasks of the same
run, which end after each block and stop when nobody takes their clips.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray.data import TaskPoolStrategy

from adaptfocus.pipelines.errors import own_error_in
from adaptfocus.trainers.on_ray.datasets import quiet_data
from adaptfocus.trainers.settings.run import TrainConfig

T = TypeVar("T")
R = TypeVar("R")


# Items that are done where the caller is: a corpus of one window, and the bags before it. Tasks for them would cost
# 3 s of CPU for their imports, at each boundary of an epoch. Once tasks have run, their processes are there, and keep
# the 0.3 GB of a large corpus's window out of the caller.
FEW = 2


@dataclass(frozen=True)
class OnRay:
    """An `Over`. A task is a process, and does one item at a time. Until tasks have run, the caller itself does FEW.

    Ray runs a task again if its process or its node dies. An error that the function raises ends the whole.
    """

    tasks_at_once: int
    cpus_per_task: float = 1.0  # that Ray counts
    label_selector: tuple[tuple[str, str], ...] = ()  # of the nodes that may do it, as (label, value)
    ran: threading.Event = field(default_factory=threading.Event, compare=False)  # tasks, on this object's behalf

    def __call__(self, items: Sequence[T], function: Callable[[T], R]) -> Iterator[R]:
        """
        Raises:
            AdaptFocusError: the function raised it.
            ray.exceptions.RayError: any other error of the function, or of Ray.
        """
        if not items or (len(items) <= FEW and not self.ran.is_set()):
            yield from map(function, items)
            return
        self.ran.set()
        quiet_data()
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it reports each execution, also inside a worker
        labels: Any = {"label_selector": dict(self.label_selector)} if self.label_selector else {}
        rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            partial(_done, function=function),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=self.cpus_per_task,
            compute=TaskPoolStrategy(size=min(self.tasks_at_once, len(items))),
            **labels,
        )
        try:
            yield from _in_order(results)
        except Exception as error:  # Ray's error, around that of a task
            own = own_error_in(error)
            if own is None:
                raise
            raise own from error


def tasks_where_decoded(config: TrainConfig) -> OnRay:
    """As many tasks at once as a run decodes with, on the nodes where it decodes."""
    place = config.placement
    return OnRay(place.decode_workers, label_selector=tuple(sorted(place.decode_labels.items())))


def tasks_beside_decoding(config: TrainConfig) -> OnRay:
    """`tasks_where_decoded` that wait for no CPU and leave nothing to the caller: they read and write the store."""
    over = replace(tasks_where_decoded(config), cpus_per_task=0.0)
    over.ran.set()
    return over


def _done(rows: pa.Table, function: Callable[[Any], Any]) -> pa.Table:
    results = [pickle.dumps(function(pickle.loads(item))) for item in rows["item"].to_pylist()]
    return pa.table({"number": rows["number"], "result": pa.array(results, pa.large_binary())})


def _in_order(results: ray.data.Dataset) -> Iterator[Any]:
    """Tasks end in any order. A result waits here for those of earlier items."""
    waiting: dict[int, Any] = {}
    following = 0
    for row in results.iter_rows():
        waiting[row["number"]] = pickle.loads(row["result"])
        while following in waiting:
            yield waiting.pop(following)
            following += 1
