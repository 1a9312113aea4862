"""How hard a process leans on its store: how many requests at a time, and how soon and how often it tries again.

Input: what became of requests, and a clock.
Does: narrows a window at each refusal and widens it at each success; keeps the number of second tries in proportion.
Output: whether a request may begin, and the seconds to wait before another try. Nothing here sleeps or asks a store.

All readers of a process share one window and one budget: what a store refuses, it refuses to the process.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

# More than any reader asks for at a time; 64 requests of 300 kB at 50 ms would be 380 MB/s.
MOST_REQUESTS = 64
# What a refusal leaves of the window. At random refusals of 5 % it settles at eight requests: 400 a second at 20 ms.
KEPT_AT_REFUSAL = 0.7
# Tries in a burst that need no success before them: a store that lets all connections go at once meets them all again.
BURST_TRIES = 100.0
# Of every success, so that at most a third of all requests are second tries for long.
TRIES_PER_SUCCESS = 0.5
# How often a store that is down is asked by one process, once the burst is spent.
TRIES_PER_SECOND = 1.0


def full_jitter(failures: int, first_seconds: float, most_seconds: float, draw: float) -> float:
    """The wait after the n-th failure in a row: a share `draw`, in [0, 1), of an exponential that stops at a limit.

    "Full jitter" of the AWS architecture blog, "Exponential backoff and jitter" (2015): clients that were refused
    together do not come back together.
    """
    return draw * min(most_seconds, first_seconds * 2.0 ** min(failures - 1, 60))


class Window:
    """How many requests may be under way: additive increase, multiplicative decrease.

    After Chiu and Jain, "Analysis of the increase and decrease algorithms" (1989), and TCP: one cut for all that was
    under way at the first refusal, since those requests say the same thing.
    """

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        self.most = most
        self.limit = float(most)
        self.under_way = 0
        self._cuts = 0

    def begin(self) -> int | None:
        """Begin a request if there is room -> what `end` wants to know; None: wait until one has ended."""
        if self.under_way >= int(self.limit):
            return None
        self.under_way += 1
        return self._cuts

    def end(self, began: int, is_refused: bool, is_success: bool) -> None:
        """A request has ended: with a refusal, a success, or something that says nothing about the store's load."""
        self.under_way -= 1
        if is_refused and began == self._cuts:
            self.limit = max(1.0, self.limit * KEPT_AT_REFUSAL)
            self._cuts += 1
        elif is_success:
            self.limit = min(float(self.most), self.limit + 1.0 / self.limit)


class TryBudget:
    """Second tries as tokens: some at hand, more with each success, and a few with time.

    Whoever finds none waits instead of failing: a training run would rather be slow. After time t and s successes at
    most BURST_TRIES + TRIES_PER_SUCCESS s + TRIES_PER_SECOND t second tries have been made.
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
        """Take a token for a second try -> the seconds until it is there."""
        with self._lock:
            now = self._clock()
            self._tokens = min(BURST_TRIES, self._tokens + (now - self._at) * TRIES_PER_SECOND)
            self._at = now
            self._tokens -= 1
            return max(0.0, -self._tokens / TRIES_PER_SECOND)

    def has_spare(self) -> bool:
        """Whether a second request may be sent although the first may still be answered."""
        return self._tokens > BURST_TRIES / 2


class Limits:
    """A process's window and budget."""

    def __init__(self) -> None:
        self.window = Window()
        self.budget = TryBudget()

    def wait_seconds(self, failures: int, first_seconds: float, most_seconds: float) -> float:
        """How long to wait before the try after the n-th failure; takes its token."""
        return max(self.budget.take(), full_jitter(failures, first_seconds, most_seconds, random.random()))


LIMITS = Limits()
