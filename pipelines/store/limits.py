"""The load that a process puts on its store: how many requests run at a time, and how soon and how often they are
retried.

Each refusal narrows a window and each success widens it. The number of retries is kept in proportion to successes.
Nothing here sleeps or asks a store. All readers of a process share one window and one budget, because a store refuses
processes, not readers.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

# More than any reader requests at a time; 64 requests of 300 kB at 50 ms would be 380 MB/s.
MOST_REQUESTS = 64
# Share of the window that a refusal leaves. With 5 % random refusals it settles at eight requests: 400/s at 20 ms.
KEPT_AT_REFUSAL = 0.7
# Retries in a burst that need no success before them: a store that drops all connections at once gets them all again.
BURST_TRIES = 100.0
# Retries gained by each success, so that in the long run at most a third of all requests are retries.
TRIES_PER_SUCCESS = 0.5
# Retries per second by one process of a store that is down, once the burst is used up.
TRIES_PER_SECOND = 1.0


def full_jitter(failures: int, first_seconds: float, most_seconds: float, draw: float) -> float:
    """The wait after the n-th failure in a row: a share `draw`, in [0, 1), of an exponential with a limit.

    "Full jitter" of the AWS architecture blog, "Exponential backoff and jitter" (2015): clients that were refused
    together do not return together.
    """
    return draw * min(most_seconds, first_seconds * 2.0 ** min(failures - 1, 60))


class Window:
    """How many requests may run at a time: additive increase, multiplicative decrease.

    After Chiu and Jain, "Analysis of the increase and decrease algorithms" (1989), and TCP: one cut for all
    requests that ran at the first refusal, because their refusals have the same cause.
    """

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        self.most = most
        self.limit = float(most)
        self.under_way = 0
        self._cuts = 0

    def begin(self) -> int | None:
        """Begin a request if there is room -> the argument of `end`; None: wait until a request has ended."""
        if self.under_way >= int(self.limit):
            return None
        self.under_way += 1
        return self._cuts

    def end(self, began: int, is_refused: bool, is_success: bool) -> None:
        """End a request: with a refusal, a success, or a result that says nothing about the store's load."""
        self.under_way -= 1
        if is_refused and began == self._cuts:
            self.limit = max(1.0, self.limit * KEPT_AT_REFUSAL)
            self._cuts += 1
        elif is_success:
            self.limit = min(float(self.most), self.limit + 1.0 / self.limit)


class TryBudget:
    """Retries as tokens: some at the start, more with each success, and a few with time.

    Without a token, a request waits instead of failing, because a slow training run is better than none. After time t
    and s successes, at most BURST_TRIES + TRIES_PER_SUCCESS s + TRIES_PER_SECOND t retries have been made.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens = BURST_TRIES
        self._at = clock()
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        with self._lock:
            self._tokens = min(BURST_TRIES, self._tokens + TRIES_PER_SUCCESS)

    def take(self) -> float:
        """Take a token for a retry -> the seconds until it is available."""
        with self._lock:
            now = self._clock()
            self._tokens = min(BURST_TRIES, self._tokens + (now - self._at) * TRIES_PER_SECOND)
            self._at = now
            self._tokens -= 1
            return max(0.0, -self._tokens / TRIES_PER_SECOND)

    def has_spare(self) -> bool:
        """Whether a second request may be sent while the first may still be answered."""
        return self._tokens > BURST_TRIES / 2


class Limits:
    """The window and the budget of a process."""

    def __init__(self) -> None:
        self.window = Window()
        self.budget = TryBudget()

    def wait_seconds(self, failures: int, first_seconds: float, most_seconds: float) -> float:
        """Take a token -> the seconds to wait before the retry after the n-th failure."""
        return max(self.budget.take(), full_jitter(failures, first_seconds, most_seconds, random.random()))


LIMITS = Limits()


def _begin_anew() -> None:
    """In a fork: the requests under way are the parent's, and a thread of its may have held the lock."""
    LIMITS.window, LIMITS.budget = Window(), TryBudget()


os.register_at_fork(after_in_child=_begin_anew)
