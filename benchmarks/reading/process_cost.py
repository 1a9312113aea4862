"""CPU time and memory of this process and all its descendants during a `with` block, including those that have ended.

Every descendant is sampled five times a second. A process that ends between two samples counts as in the last one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
import psutil

LOOK_SECONDS = 0.2
_Process = tuple[int, float]  # pid and time of creation, because pids are used again


class ProcessCost:
    """A context manager; `cpu_seconds` and `memory_mb` are ready at its end.

    Args:
        without: pids to leave out with their descendants (servers that stand for other machines).
    """

    def __init__(self, without: Iterable[int] = ()) -> None:
        self.cpu_seconds = 0.0
        self.memory_mb: list[float] = []  # private to the processes, at each sample
        self._without = frozenset(without)
        self._spent: dict[_Process, float] = {}
        self._ended = threading.Event()
        self._own_seconds = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessCost:
        self._look()
        self._before = dict(self._spent)
        self.memory_mb.clear()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        spent = sum(spent - self._before.get(each, 0.0) for each, spent in self._spent.items())
        self.cpu_seconds = spent - self._own_seconds

    def median_mb(self) -> float:
        """Memory private to the processes, the median over the samples."""
        return float(np.median(self.memory_mb))

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()
        self._own_seconds = time.thread_time()  # sampling does not count

    def _look(self) -> None:
        total = 0.0
        for process in family(psutil.Process(), self._without):
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                    self._spent[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue  # it has just ended
            total += memory.rss - memory.shared
        self.memory_mb.append(total / 1e6)


def family(root: psutil.Process, without: frozenset[int] = frozenset()) -> list[psutil.Process]:
    """A process and its descendants, except those in `without` and their descendants."""
    found, waiting = [], [root]
    children: dict[int, list[psutil.Process]] = {}
    for process in root.children(recursive=True):
        try:
            children.setdefault(process.ppid(), []).append(process)
        except psutil.Error:
            continue
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += [child for child in children.get(process.pid, []) if child.pid not in without]
    return found


def peak_resident_mb(pid: int | str = "self") -> float:
    """The peak memory of a process (VmHWM, because getrusage includes that of the parent)."""
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Put all threads of this process, and all that they start meanwhile, on one core: the last it may use."""
    allowed = os.sched_getaffinity(0)
    _pin({max(allowed)})
    try:
        yield
    finally:
        _pin(allowed)


def _pin(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)
