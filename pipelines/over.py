"""One function over many items, wherever it runs: here, in processes of this machine, or as tasks of Ray
(`trainers.on_ray.over`)."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Any, Protocol, TypeVar

from adaptfocus.pipelines.errors import AdaptFocusError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4  # items a process that are begun, or done, before the result of an earlier one is taken


class Over(Protocol):
    """Calls `function` with each item, perhaps in other processes, and yields the results in the order of the items.

    Items, results and the function can be pickled. An item may be done more than once: the function must not mind.
    """

    def __call__(self, items: Sequence[T], function: Callable[[T], R]) -> Iterator[R]: ...


def in_this_process(items: Sequence[T], function: Callable[[T], R]) -> Iterator[R]:
    """One item after the other, each when its result is asked for."""
    return map(function, items)


def in_processes(workers: int | None) -> Over:
    """An `Over` that uses `workers` processes of this machine; one for each core if None.

    With one, or for one item, it uses this process. The first error of a function is raised as it is, and items that
    have not begun are dropped.
    """
    return _InProcesses(workers or os.cpu_count() or 1)


@dataclass(frozen=True)
class _InProcesses:
    workers: int

    def __call__(self, items: Sequence[T], function: Callable[[T], R]) -> Iterator[R]:
        """
        Raises:
            AdaptFocusError: the function raised it, or a process died.
        """
        workers = min(self.workers, len(items))
        if workers <= 1:
            yield from map(function, items)
            return
        # Spawned: s3fs does not survive a fork.
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
        begun: deque[Future[Any]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(function, item))
                if len(begun) == AHEAD * workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        except BrokenProcessPool:
            raise AdaptFocusError(
                f"one of {workers} processes died (out of memory, or ended from outside); use fewer workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """End this process when its parent is gone. It would wait for its next item forever."""
    parent = parent_process()
    if parent:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
