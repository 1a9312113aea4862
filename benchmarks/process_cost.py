"""CPU time and memory of this process and of all that it started, the dead included.

Input: a span of time (a `with` block). Does: looks at every descendant five times a second; a process that ends
between two looks is counted as at the last one. Output: CPU seconds, and memory over time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import numpy as np
import psutil

LOOK_SECONDS = 0.2
_Process = tuple[int, float]  # pid and time of creation: pids are used again


class ProcessCost:
    """Use as a context manager; `cpu_seconds` and `memory` are ready at its end.

    Args:
        without: pids to leave out, with what they started (servers that stand for machines of others).
    """

    def __init__(self, without: Iterable[int] = ()) -> None:
        self.cpu_seconds = 0.0
        self.memory: list[tuple[float, float]] = []  # (seconds since the start, MB private to the processes)
        self._without = frozenset(without)
        self._spent: dict[_Process, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessCost:
        self._look()
        self._before = dict(self._spent)
        self._began = time.monotonic()
        self.memory.clear()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self.cpu_seconds = sum(spent - self._before.get(each, 0.0) for each, spent in self._spent.items())

    def growth_mb(self) -> float:
        """MB an hour, fitted to the second half of the looks."""
        half = np.array(self.memory[len(self.memory) // 2 :])
        return float(np.polyfit(half[:, 0], half[:, 1], 1)[0] * 3600)

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

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
        self.memory.append((time.monotonic() - getattr(self, "_began", time.monotonic()), total / 1e6))


def family(root: psutil.Process, without: frozenset[int] = frozenset()) -> list[psutil.Process]:
    """A process and all that it started, less those of `without` and what they started."""
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


def peak_resident_mb() -> float:
    """The most memory this process has had at once (VmHWM; what getrusage gives is that of its parent too)."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def until(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until `done`, at most `seconds`; whether it was."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(LOOK_SECONDS)
    return False
