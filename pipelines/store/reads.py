"""The settings of reads, the version of an object, and the counts of what reads met. A commit adds up the counts."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

import pydantic

from adaptfocus.pipelines.settings import Settings


class ReadConfig(Settings):
    """How long to wait for the store. Nothing here changes what is read.

    `hedge_seconds`: without a first byte after this time, a second request is sent, and the first answer counts. If it
    is None, no second request is sent. Second requests use the process's budget of retries (store/limits.py).
    """

    first_byte_seconds: float = pydantic.Field(default=10.0, gt=0)
    stall_seconds: float = pydantic.Field(default=10.0, gt=0)  # limit for each MiB of a body
    hedge_seconds: float | None = pydantic.Field(default=None, gt=0)


class Version(NamedTuple):
    """An object's version when it was indexed: its size, and the tag from `store.objects.size_and_tag`."""

    size_bytes: int
    tag: str


class ReadCounts:
    """Counts of some reads. Additions also go to the parent, and in the end to the counts of the process."""

    def __init__(self, parent: ReadCounts | None = None) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self.requests = 0  # sent, including retries
        self.size_bytes = 0  # wanted bytes that arrived
        self.dropped_bytes = 0  # unwanted bytes of whole objects that came instead of a range
        self.waiting_seconds = 0.0  # before retries
        self.hedges = 0
        # By errors.RETRY_REASONS. A whole body from which the range was cut counts too: there was no retry, but the
        # body cost more than one.
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


PROCESS = ReadCounts()  # counts of all reads of S3 objects in this process
