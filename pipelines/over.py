"""One function over many items, wherever it runs: here, or as tasks of Ray (`trainers.on_ray.over`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Over(Protocol):
    """Calls `function` with each item, perhaps in other processes, and yields the results in the order of the items.

    Items, results and the function can be pickled. An item may be done more than once: the function must not mind.
    """

    def __call__(self, items: Sequence[T], function: Callable[[T], R]) -> Iterator[R]: ...


def in_this_process(items: Sequence[T], function: Callable[[T], R]) -> Iterator[R]:
    """One item after the other, each when its result is asked for."""
    return map(function, items)
