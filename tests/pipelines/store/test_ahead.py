"""Reading ahead: every bag's bytes, in order, early enough, never more at a time than allowed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.store import ahead, objects
from adaptfocus.pipelines.store.ahead import cost_of, read_ahead
from adaptfocus.pipelines.store.ranges import Requests


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("shard") / "a.tar"
    path.write_bytes(np.random.default_rng(0).bytes(1 << 20))
    return str(path)


def bag(shard: str, *ranges: tuple[int, int]) -> dict:
    return {"shard_url": shard, "spans": [{"offset_bytes": offset, "size_bytes": size} for offset, size in ranges]}


class Store:
    """`store.objects.read_requests`, slower, and with a count of what is under way."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.lock = seconds, threading.Lock()
        self.read_requests = objects.read_requests
        self.bytes_now = self.most_bytes = self.calls = 0

    def __call__(self, requests: Requests, *how: object) -> list[bytes]:
        size_bytes = sum(requests.sizes_bytes)
        with self.lock:
            self.calls += 1
            self.bytes_now += size_bytes
            self.most_bytes = max(self.most_bytes, self.bytes_now)
        time.sleep(self.seconds)
        parts = self.read_requests(requests)
        with self.lock:
            self.bytes_now -= size_bytes
        return parts


@given(st.lists(st.lists(st.tuples(st.integers(0, 900_000), st.integers(1, 50_000)), max_size=4), max_size=12),
       st.integers(1, 400_000), st.integers(1, 5), st.data())  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_bag_gets_its_bytes_in_order_whatever_the_limits(
    shard: str, wanted: list, max_bytes: int, max_requests: int, data: st.DataObject
) -> None:
    content = Path(shard).read_bytes()
    bags = [bag(shard, *ranges) for ranges in wanted]
    with_pauses = [item for each in bags for item in ([None, each] if data.draw(st.booleans()) else [each])]
    found = list(read_ahead(with_pauses, max_bytes, max_requests))
    assert [f.bag for f in found] == bags
    for each in found:
        spans = each.bag["spans"]
        assert each.data == [content[s["offset_bytes"] : s["offset_bytes"] + s["size_bytes"]] for s in spans]
        assert (each.reading.size_bytes, each.reading.requests) == cost_of(each.bag)


def test_bytes_in_flight_stay_below_the_limit_and_requests_overlap(shard: str) -> None:
    store = Store(seconds=0.03)
    bags = [bag(shard, (100_000 * number, 40_000)) for number in range(10)]
    with mock.patch.object(ahead.objects, "read_requests", store):
        began = time.monotonic()
        assert len(list(read_ahead(bags, max_bytes_in_flight=130_000))) == 10
    assert store.most_bytes == 120_000, "three bags at a time, not four, not one"
    assert time.monotonic() - began < 10 * 0.03


def test_a_bag_larger_than_the_limit_is_read_alone(shard: str) -> None:
    bags = [bag(shard, (0, 10)), bag(shard, (0, 500_000)), bag(shard, (0, 10))]
    assert [len(f.data[0]) for f in read_ahead(bags, max_bytes_in_flight=1000)] == [10, 500_000, 10]


def test_while_the_next_plan_is_unknown_nothing_is_held_back(shard: str) -> None:
    """The last batch of an epoch must come out although the source cannot say yet what follows it."""
    asked: list[str] = []

    def source():
        yield bag(shard, (0, 10))
        yield bag(shard, (10, 10))
        while len(asked) < 3:
            asked.append("again")
            yield None
        yield bag(shard, (20, 10))

    stream = read_ahead(source())
    assert [next(stream).bag["spans"][0]["offset_bytes"] for _ in range(2)] == [0, 10]
    assert len(asked) <= 2
    assert next(stream).bag["spans"][0]["offset_bytes"] == 20


def test_the_next_bags_are_asked_for_before_the_first_is_used(shard: str) -> None:
    store = Store()
    with mock.patch.object(ahead.objects, "read_requests", store):
        stream = read_ahead([bag(shard, (10 * number, 10)) for number in range(8)])
        next(stream)
        deadline = time.monotonic() + 5
        while store.calls < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.calls == 8
        stream.close()


def test_a_store_that_fails_is_an_error_at_its_bag(shard: str) -> None:
    stream = read_ahead([bag(shard, (0, 10)), bag(shard + ".gone", (0, 10))])
    assert next(stream).data
    with pytest.raises(StorageError, match="gone"):
        next(stream)
