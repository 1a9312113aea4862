"""Ranges of the store, fetched ahead of the decoder.

A bag is the clips of one video; a span is a run of its packets that is fetched as one range. The spans of the next bags
are requested while the first ones are being decoded, within a limit of bytes. Spans of a bag that are near each other
are one request. The results come in the order of the bags: the bag, the bytes of its spans, and the cost of reading.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from adaptfocus.pipelines.errors import RETRY_REASONS
from adaptfocus.pipelines.store import objects
from adaptfocus.pipelines.store.range_file import version_of
from adaptfocus.pipelines.store.ranges import Range, Requests, requests_for
from adaptfocus.pipelines.store.reads import PROCESS, ReadConfig, ReadCounts

# At 50 ms a request and 60 ms of decoding a clip, two parallel requests keep one decoder busy; 16 are enough for one
# that takes 3 ms a clip.
MAX_REQUESTS = 16
# For one reader: about twenty bags of four clips of 360p, or one bag of 4K.
MAX_BYTES_IN_FLIGHT = 64 * 2**20


_END: dict = {}  # a marker, not a bag


class Reading(NamedTuple):
    """The cost of one bag's bytes."""

    size_bytes: int  # fetched, including gaps between joined spans
    requests: int
    wait_seconds: float  # time that the caller waited
    retries: np.ndarray  # [RETRY_REASONS] int64


class Fetched(NamedTuple):
    """A bag whose bytes have arrived."""

    bag: dict
    data: list[bytes]  # of each span
    reading: Reading


class _Asked(NamedTuple):
    bag: dict
    future: Future[list[bytes]] | None
    size_bytes: int
    count: int  # of requests
    counts: ReadCounts


def read_ahead(
    bags: Iterable[dict | None],
    max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
    max_requests: int = MAX_REQUESTS,
    config: ReadConfig | None = None,
) -> Iterator[Fetched]:
    """Fetch the spans of each bag. A bag that would exceed a limit waits for room, unless it is the first.

    None among the bags means that the next bag is not known yet: requested bags are then returned before the iterator
    is asked again. Bytes count from their request until the caller asks for the following bag, because it may drop them
    then.

    Args:
        config: how long to wait for the store.

    Raises:
        ReplacedError: a bag's shard is not the one that was indexed.
        StorageError: the store cannot be read, in the order of the bags.
    """
    asked: deque[_Asked] = deque()
    source = iter(bags)
    following: dict | None = None
    is_end = False
    requests: Requests | None = None
    in_flight = waiting = 0
    pool = ThreadPoolExecutor(max_requests, thread_name_prefix="clip-reader")
    try:
        while True:
            while not is_end:
                if following is None:
                    following = next(source, _END)
                    requests = _requests_of(following) if following else None
                if following is None or requests is None:
                    is_end = following is _END
                    break
                size_bytes, count = _cost_of(requests)
                over = in_flight + size_bytes > max_bytes_in_flight or waiting + count > max_requests
                if asked and over:
                    break
                counts = ReadCounts(PROCESS)
                future = None
                if requests.places:
                    future = pool.submit(objects.read_requests, requests, version_of(following), config, counts)
                asked.append(_Asked(following, future, size_bytes, count, counts))
                in_flight, waiting = in_flight + size_bytes, waiting + count
                following = None
            if asked:
                bag, future, size_bytes, count, counts = asked.popleft()
                began = time.monotonic()
                data = future.result() if future else []
                waited_seconds = time.monotonic() - began
                retries = np.array([counts.retries[reason] for reason in RETRY_REASONS], np.int64)
                yield Fetched(bag, data, Reading(size_bytes, count, waited_seconds, retries))
                in_flight, waiting = in_flight - size_bytes, waiting - count
            elif is_end:
                return
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def cost_of(bag: dict) -> tuple[int, int]:
    """(bytes, requests) that the spans of a bag need."""
    return _cost_of(_requests_of(bag))


def _cost_of(requests: Requests) -> tuple[int, int]:
    return sum(each.size_bytes for each in requests.fetch), len(requests.fetch)


def _requests_of(bag: dict) -> Requests:
    return requests_for([Range(bag["shard_url"], span["offset_bytes"], span["size_bytes"]) for span in bag["spans"]])
