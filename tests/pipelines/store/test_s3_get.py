"""Range reads of S3 under faults: each fault alone, with moto and Ceph. The bytes are right, or there is an error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.pipelines import store as storage
from adaptfocus.pipelines.errors import ReplacedError, StorageError
from adaptfocus.pipelines.store import reasons, retry, s3_get
from adaptfocus.pipelines.store.ranges import Range
from adaptfocus.pipelines.store.reads import ReadConfig, ReadCounts, Version
from benchmarks.faults.s3_faults import Faults, FaultyStore
from tests.ceph import CephGateway
from tests.conftest import own_place, use_environment

DATA = np.random.default_rng(0).bytes(3 << 20)
PLACES = [(0, 1000), (1_000_000, 300_000), (len(DATA) - 5, 5), (77_777, 1)]


@pytest.fixture(scope="module")
def before_moto(local_s3: LocalS3) -> Iterator[FaultyStore]:
    with FaultyStore(local_s3) as store:
        yield store


@pytest.fixture(scope="module")
def before_ceph(ceph_s3: CephGateway) -> Iterator[FaultyStore]:
    with FaultyStore(ceph_s3) as store:
        yield store


@pytest.fixture(params=["before_moto", pytest.param("before_ceph", marks=pytest.mark.ceph)])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    found: FaultyStore = request.getfixturevalue(request.param)
    found.reset()
    use_environment(monkeypatch, found.environment)
    monkeypatch.setattr(retry, "RETRY_FIRST_WAIT_SECONDS", 0.02)
    yield found
    found.reset()


@pytest.fixture
def shard(store: FaultyStore, request: pytest.FixtureRequest) -> str:
    """An object of 3 MiB of noise -> its URL."""
    url = storage.join(own_place(request, store.store), "a.tar")  # type: ignore[arg-type]
    storage.write_bytes(url, DATA)
    return url


def read(url: str, counts: ReadCounts | None = None, version: Version | None = None, **config: float) -> None:
    """Read PLACES, and see that they are right."""
    urls, (offsets, sizes) = [url] * len(PLACES), zip(*PLACES, strict=True)
    found = storage.read_ranges(urls, offsets, sizes, version, ReadConfig(**config), counts)
    assert found == [DATA[offset : offset + size] for offset, size in PLACES]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("throttle", "throttled"), ("reset", "reset"), ("truncate", "truncated"), ("wrong_range", "wrong_range")],
)
def test_what_passes_is_tried_again_and_counted(store: FaultyStore, shard: str, fault: str, reason: str) -> None:
    counts = ReadCounts()
    store.reset(faults=Faults(**{fault: 1.0}, most=3))
    read(shard, counts)
    assert store.played() == {fault: 3}
    # aiohttp asks once more by itself where a connection that was kept alive is reset before the first byte.
    tried_below_us = 3 - counts.retries.total()
    assert tried_below_us == 0 or (fault == "reset" and tried_below_us > 0)
    assert set(counts.retries) <= {reason}
    assert counts.requests == len(PLACES) + counts.retries.total()
    assert counts.size_bytes == sum(size for _, size in PLACES)


def test_a_late_first_byte_is_not_waited_for(store: FaultyStore, shard: str) -> None:
    counts = ReadCounts()
    store.reset(faults=Faults(slow=1.0, slow_seconds=30, most=2))
    began = time.monotonic()
    read(shard, counts, first_byte_seconds=0.5)
    assert time.monotonic() - began < 15
    assert counts.retries == {"timeout": 2}


def test_a_hedge_answers_for_a_late_first_byte(store: FaultyStore, shard: str) -> None:
    counts = ReadCounts()
    store.reset(faults=Faults(slow=1.0, slow_seconds=30, most=1))
    began = time.monotonic()
    read(shard, counts, first_byte_seconds=20, hedge_seconds=0.2)
    assert time.monotonic() - began < 15
    assert counts.hedges >= 1
    assert not counts.retries


def test_a_range_is_cut_out_of_a_whole_object(store: FaultyStore, shard: str) -> None:
    counts = ReadCounts()
    store.reset(faults=Faults(whole=1.0))
    read(shard, counts)
    assert counts.retries == {"whole_body": len(PLACES)}
    assert counts.dropped_bytes == sum(offset for offset, _ in PLACES)
    assert counts.requests == len(PLACES)


def test_a_whole_object_that_is_too_large_is_an_error(
    store: FaultyStore, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_get, "MAX_WHOLE_BODY_BYTES", 1 << 20)
    store.reset(faults=Faults(whole=1.0))
    with pytest.raises(StorageError, match=r"answered a range with the whole object, of which .* 206 and their bytes"):
        storage.read_ranges([shard], [2_000_000], [10])
    assert storage.read_ranges([shard], [2000], [10]) == [DATA[2000:2010]]
    store.reset(faults=Faults(whole=1.0, most=2))
    assert storage.read_ranges([shard], [2_000_000], [10]) == [DATA[2_000_000:2_000_010]], "two of four tries were so"


def test_a_server_that_always_answers_other_ranges_is_named(store: FaultyStore, shard: str) -> None:
    store.reset(faults=Faults(wrong_range=1.0))
    with pytest.raises(StorageError, match=r"a\.tar: the store answered 'bytes 5-14' with 'bytes 6-14/.* use a store"):
        storage.read_ranges([shard], [5], [10])


def test_a_store_that_throttles_for_ever_is_named(
    store: FaultyStore, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "RETRY_ATTEMPTS", 3)
    store.reset(faults=Faults(throttle=1.0))
    with pytest.raises(StorageError, match=r"too many requests, 3 times in a row \(SlowDown: Please reduce"):
        storage.read_ranges([shard], [0], [10])
    with pytest.raises(StorageError, match="too many requests"):
        storage.write_bytes(shard + ".other", b"x")


def test_a_replaced_object_is_named_at_once(store: FaultyStore, shard: str) -> None:
    """As long as before: only its tag tells. Then longer, where the tag is not known. Then gone."""
    version = Version(*storage.size_and_tag(shard))
    read(shard, version=version)
    storage.write_bytes(shard, DATA[::-1])
    store.reset()
    with pytest.raises(ReplacedError, match=r"a\.tar has been replaced or removed since it was indexed .* new run"):
        storage.read_ranges([shard], [5], [10], version)
    gets = [each for each in store.traffic() if each.method == "GET"]
    assert [each.requests for each in gets] == [1], "no further try can help"
    storage.write_bytes(shard, DATA + b"more")
    with pytest.raises(ReplacedError, match=rf"it had {len(DATA)} bytes.* it has {len(DATA) + 4} bytes"):
        storage.read_ranges([shard], [5], [10], version._replace(tag=""))
    storage.delete(shard)
    with pytest.raises(ReplacedError, match=r"it had .* the store says NoSuchKey"):
        storage.read_ranges([shard], [5], [10], version)


def test_a_replaced_object_is_found_in_a_whole_answer(store: FaultyStore, shard: str) -> None:
    """The server that ignores ranges ignores If-Match too (rclone's): the tag of the answer tells."""
    version = Version(*storage.size_and_tag(shard))
    store.reset(faults=Faults(whole=1.0))
    read(shard, version=version)
    storage.write_bytes(shard, DATA[::-1])
    with pytest.raises(ReplacedError, match=r"a\.tar has been replaced"):
        storage.read_ranges([shard], [5], [10], version)


def test_bad_days_do_not_reach_writers_either(store: FaultyStore, shard: str) -> None:
    """A claim (the entry that takes a run) whose answer was lost is still ours, and reads return what was written."""
    store.reset(faults=Faults(throttle=0.2, reset=0.2, truncate=0.1, seed=7))
    base = shard.removesuffix("a.tar")
    for number in range(12):
        assert storage.create_exclusive(f"{base}claim-{number}", b"mine")
        storage.write_bytes(f"{base}whole-{number}", DATA[:1000])
    for number in range(12):
        assert storage.read_bytes(f"{base}whole-{number}") == DATA[:1000]
    assert len(storage.list_files(base)) == 25
    assert sum(store.played().values()) > 10


def test_a_large_object_is_read_in_pieces_of_one_version(
    store: FaultyStore, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_get, "PIECE_BYTES", 500_000)
    store.reset(faults=Faults(throttle=0.2, truncate=0.1, seed=1))
    assert storage.read_bytes(shard) == DATA
    storage.write_bytes(shard, b"")
    store.reset()
    assert storage.read_bytes(shard) == b""


def test_the_process_asks_less_of_a_store_that_refuses_and_more_when_it_no_longer_does(
    store: FaultyStore, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = s3_get.LIMITS.__class__()
    monkeypatch.setattr(s3_get, "LIMITS", limits)
    store.reset(faults=Faults(throttle=0.5, seed=2, most=40))
    ranges = [Range(shard, 1000 * number, 1000) for number in range(200)]

    def get(wanted: Range) -> bytes:
        return s3_get.get_ranges(storage.filesystem(shard)[0], [wanted], None, ReadConfig(), ReadCounts())[0]

    lowest = []
    with ThreadPoolExecutor(16) as pool:
        for found, wanted in zip(pool.map(get, ranges), ranges, strict=True):
            assert found == DATA[wanted.offset_bytes : wanted.offset_bytes + 1000]
            lowest.append(limits.window.limit)
    assert min(lowest) < 16
    assert limits.window.limit > min(lowest)
    assert limits.window.under_way == 0


CREDENTIALS = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"


def use_shared_file(monkeypatch: pytest.MonkeyPatch, store: FaultyStore, path: Path, key: str, secret: str) -> None:
    path.write_text(CREDENTIALS.format(key, secret))
    use_environment(monkeypatch, store.environment | {"AWS_SHARED_CREDENTIALS_FILE": str(path)})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


@pytest.mark.ceph
def test_rotated_credentials_are_taken_up_by_a_running_process(
    before_ceph: FaultyStore,
    ceph_s3: CephGateway,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A strict store: the first key is removed while reads continue, and the shared file has the second key."""
    before_ceph.reset()
    ceph_s3.add_key("AKFIRST", "SKFIRST")
    ceph_s3.add_key("AKSECOND", "SKSECOND")
    file = tmp_path / "credentials"
    use_shared_file(monkeypatch, before_ceph, file, "AKFIRST", "SKFIRST")
    url = storage.join(own_place(request, ceph_s3), "a.tar")
    storage.write_bytes(url, DATA)
    read(url)
    file.write_text(CREDENTIALS.format("AKSECOND", "SKSECOND"))
    read(url)
    ceph_s3.remove_key("AKFIRST")
    counts = ReadCounts()
    read(url, counts)
    assert counts.retries["expired"] >= 1
    storage.write_bytes(url + ".after", b"x")


def test_expired_credentials_are_asked_for_again_until_they_are_named(
    store: FaultyStore, shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExpiredToken until the file is rotated, for a read and for a write; then for good."""
    right = (store.environment["AWS_ACCESS_KEY_ID"], store.environment["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.setattr(retry, "EXPIRED_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(s3_get, "RENEW_SECONDS", 0.1)
    file = tmp_path / "credentials"
    for action in (lambda: read(shard), lambda: storage.write_bytes(shard + ".x", b"x")):
        use_shared_file(monkeypatch, store, file, "AKOLD", "SKOLD")
        store.reset(faults=Faults(expired_key="AKOLD"))
        with pytest.raises(StorageError, match=r"the credentials have expired .* shared credentials file") as caught:
            action()
        assert "AKOLD" not in str(caught.value)
        file.write_text(CREDENTIALS.format(*right))
        action()
