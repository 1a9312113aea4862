"""What tasks cost: an `Over` that measures each of them in the process that does it, and may kill some."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from adaptfocus.pipelines.over import Over
from adaptfocus.trainers.epochs import merging
from benchmarks.reading.process_cost import peak_resident_mb


class Cost(NamedTuple):
    """Of one task, in the process that did it."""

    function: str
    cpu_seconds: float
    diagnosis_seconds: float  # of CPU, of those
    peak_mb: float  # of the process until its end


@dataclass
class Measured:
    """An `Over` that keeps the cost of each task of another one."""

    over: Over
    kills: Path | None = None  # a folder: the second task of each function kills its process, once
    costs: list[Cost] = field(default_factory=list)

    def __call__(self, items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
        for result, cost in self.over([*enumerate(items)], _Task(function, self.kills)):
            self.costs.append(cost)
            yield result


@dataclass(frozen=True)
class _Task:
    function: Callable[[Any], Any]
    kills: Path | None

    def __call__(self, numbered: tuple[int, Any]) -> tuple[Any, Cost]:
        number, item = numbered
        if self.kills and number == 1:
            _die_once(self.kills / _name(self.function))
        diagnosed: list[float] = []
        summing = merging.sum_up
        merging.sum_up = _timed(summing, diagnosed)
        began = time.process_time()
        try:
            result = self.function(item)
        finally:
            merging.sum_up = summing
        spent = time.process_time() - began
        return result, Cost(_name(self.function), spent, sum(diagnosed), peak_resident_mb())


def _name(function: Callable) -> str:
    return getattr(function, "func", function).__name__


def _timed(function: Callable, spent: list[float]) -> Callable:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append(time.process_time() - began)

    return timed


def _die_once(mark: Path) -> None:
    """End this process as the kernel does when memory runs out; the task that comes after it stays."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
