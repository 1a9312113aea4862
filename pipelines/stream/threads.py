"""A thread that works ahead, and how it ends."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from adaptfocus.pipelines.stream.clips import T

LEAVE_SECONDS = 5.0  # how long to wait for items in the making once the consumer has stopped


def ahead(items: Iterator[T], depth: int = 1) -> Iterator[T]:
    """The same items, made by a thread up to `depth` items ahead. An error is raised at the item that caused it."""
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    is_left = threading.Event()

    def make() -> None:
        try:
            for item in items:
                put_unless(made, (item, None), is_left)
                if is_left.is_set():
                    return
            put_unless(made, (None, StopIteration()), is_left)
        except BaseException as error:  # raised in the consumer
            put_unless(made, (None, error), is_left)

    maker = threading.Thread(target=make, name="clips-ahead", daemon=True)
    maker.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        is_left.set()
        end_threads([maker])


def end_threads(threads: Sequence[threading.Thread]) -> None:
    """Wait at most LEAVE_SECONDS in all for threads that have been told to stop.

    A thread that is inside native code when the interpreter exits may abort the process. A thread that waits for a
    plan that never comes is abandoned: it holds nothing.
    """
    until = time.monotonic() + LEAVE_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def put_unless(made: queue.Queue, item: Any, is_left: threading.Event) -> bool:
    """Put the item, unless the consumer has stopped; whether it was put."""
    while not is_left.is_set():
        with contextlib.suppress(queue.Full):
            made.put(item, timeout=0.1)
            return True
    return False
