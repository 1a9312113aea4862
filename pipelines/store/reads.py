"""What a read wants of the store, and what it met there.

Input: nothing. Does: names them once. Output: ReadConfig, Version, and ReadCounts, whose sums a commit takes up.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

import pydantic

from adaptfocus.pipelines.settings import Settings


class ReadConfig(Settings):
    """How long the store is waited for. Nothing here changes what is read.

    `hedge_seconds`: after it without a first byte, a second request is sent, and the first of both to answer counts;
    none without it. Second requests come out of the process's budget of tries (store_limits).
    """

    first_byte_seconds: float = pydantic.Field(default=10.0, gt=0)
    stall_seconds: float = pydantic.Field(default=10.0, gt=0)  # that a MiB of a body may take
    hedge_seconds: float | None = pydantic.Field(default=None, gt=0)


class Version(NamedTuple):
    """What an object was when it was indexed: its size, and the tag that `store.objects.size_and_tag` gave."""

    size_bytes: int
    tag: str


class ReadCounts:
    """What some reads met. What is added to one is added to its parent too: the process's, in the end."""

    def __init__(self, parent: ReadCounts | None = None) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self.requests = 0  # sent, second tries among them
        self.size_bytes = 0  # that came and were wanted
        self.dropped_bytes = 0  # of whole objects that came in place of a range
        self.waiting_seconds = 0.0  # before second tries
        self.hedges = 0
        # By errors.RETRY_REASONS. A whole body that the range was cut out of counts too, although nothing was
        # asked for again: it cost more than a second try.
        self.retries: Counter[str] = Counter()

    def add(self, retry: str = "", **more: float) -> None:
        """Add to the counts by name; `retry` is the reason of one retry."""
        with self._lock:
            for name, value in more.items():
                setattr(self, name, getattr(self, name) + value)
            if retry:
                self.retries[retry] += 1
        if self._parent:
            self._parent.add(retry, **more)


PROCESS = ReadCounts()  # of all reads of S3 objects in this process
