"""Storage on this machine's disk, on moto and on a strict Ceph gateway: what runs rely on, and what errors say."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.store import reasons, retry
from adaptfocus.pipelines.store.range_file import RangeFile
from tests.ceph import ACCESS_KEY, SECRET_KEY, CephGateway
from tests.conftest import use_environment


def test_write_then_read_back_and_replace(store_url: str) -> None:
    url = store.join(store_url, "deep", "er", "a.bin")
    assert not store.exists(url)
    store.write_bytes(url, b"first")
    store.write_bytes(url, b"second")
    assert store.exists(url)
    assert store.read_bytes(url) == b"second"


def test_ranges_come_in_the_order_asked_for(store_url: str) -> None:
    urls = [store.join(store_url, name) for name in ("a", "b")]
    store.write_bytes(urls[0], bytes(range(100)))
    store.write_bytes(urls[1], bytes(range(100, 200)))
    parts = store.read_ranges([urls[1], urls[0], urls[0], urls[1]], [90, 0, 50, 7], [10, 3, 0, 1])
    assert parts == [bytes(range(190, 200)), b"\0\1\2", b"", bytes([107])]


@pytest.mark.parametrize("offset_bytes", [5, 20], ids=["crosses the end", "starts past it"])
def test_a_range_past_the_end_is_no_network_error(store_url: str, offset_bytes: int) -> None:
    """A shard that was replaced by a shorter one must not send the user looking for a broken network."""
    url = store.join(store_url, "short.tar")
    store.write_bytes(url, b"0123456789")
    with pytest.raises(StorageError, match=r"short\.tar ends before the requested range .* index it again"):
        store.read_ranges([url], [offset_bytes], [10])


def test_nothing_there(store_url: str) -> None:
    store.write_bytes(store.join(store_url, "x"), b"")
    for read in (store.read_bytes, store.size_and_tag, lambda url: store.read_ranges([url], [0], [1])):
        with pytest.raises(StorageError, match=r"there is nothing at .*absent; check the URL"):
            read(store.join(store_url, "absent"))
    store.delete(store.join(store_url, "absent"))


def test_exclusive_creation_has_one_winner_among_threads(store_url: str) -> None:
    """16 writers of the *same* bytes: a second winner would be a second lineage of checkpoints."""
    for race in range(8):
        url = store.join(store_url, f"{race}.json")
        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(lambda _, url=url: store.create_exclusive(url, b"{}"), range(16)))
        assert won.count(True) == 1, f"race {race}: {won}"


def test_exclusive_creation_has_one_winner_among_processes(store_url: str, tmp_path: Path) -> None:
    """Four processes with clients of their own, started together over 10 keys: each key has one owner."""
    code = (
        "import sys, time; from pathlib import Path; from adaptfocus.pipelines import store as storage\n"
        "url, me, gate = sys.argv[1:]\n"
        "storage.exists(url)\n"
        "Path(gate, me).touch()\n"
        "while len(list(Path(gate).iterdir())) < 4: time.sleep(0.01)\n"
        "print([key for key in range(10) if storage.create_exclusive(f'{url}/{key}', b'same')])\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, store_url, str(me), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for me in range(4)
    ]
    owned = [key for racer in racers for key in json.loads(racer.communicate(timeout=120)[0])]
    assert sorted(owned) == list(range(10))


def test_exclusive_creation_leaves_the_first_bytes(store_url: str) -> None:
    url = store.join(store_url, "claim")
    assert store.create_exclusive(url, b"first")
    assert not store.create_exclusive(url, b"second")
    assert store.read_bytes(url) == b"first"


def test_a_put_repeated_after_a_lost_answer_still_wins(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has the object, but the answer was lost on the way back, so the next try finds its own object."""
    fs, _ = store.filesystem(s3_url)
    put = type(fs).pipe_file
    lost = []

    def lose_first_answer(self: object, *args: object, **kwargs: object) -> object:
        result = put(fs, *args, **kwargs)
        if not lost:
            lost.append(True)
            raise ConnectionResetError("the answer was lost")
        return result

    monkeypatch.setattr(type(fs), "pipe_file", lose_first_answer)
    assert store.create_exclusive(store.join(s3_url, "claim"), b"{}")
    assert not store.create_exclusive(store.join(s3_url, "claim"), b"{}")


def test_a_listing_sees_what_another_process_has_just_written(store_url: str) -> None:
    names = ("b", "a")
    assert store.list_files(store_url) == []
    for name in names:
        code = "import sys; from adaptfocus.pipelines import store; store.write_bytes(sys.argv[1], b'x')"
        subprocess.run([sys.executable, "-c", code, store.join(store_url, name)], check=True)
        assert store.join(store_url, name) in store.list_files(store_url)
    store.write_bytes(store.join(store_url, "folder", "c"), b"x")
    assert store.list_files(store_url) == [store.join(store_url, name) for name in ("a", "b")]
    assert store.list_files(store.join(store_url, "a")) == []
    assert store.list_folders(store_url) == [store.join(store_url, "folder")]
    assert store.list_folders(store.join(store_url, "folder")) == []
    assert store.glob(store.join(store_url, "*", "c")) == [store.join(store_url, "folder", "c")]
    for url in store.list_files(store_url):
        store.delete(url)
    assert store.list_files(store_url) == []


def test_a_listing_has_no_limit_of_one_page(s3_url: str) -> None:
    """S3 answers 1,000 keys at a time; a long run writes more checkpoints than that."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.write_bytes(store.join(s3_url, f"{i:04d}"), b""), range(1010)))
    assert len(store.list_files(s3_url)) == 1010


def test_the_tag_follows_the_content(store_url: str) -> None:
    url = store.join(store_url, "a")
    store.write_bytes(url, b"1234")
    size, tag = store.size_and_tag(url)
    time.sleep(0.01)
    store.write_bytes(url, b"4321")
    assert size == 4
    assert store.size_and_tag(url)[1] != tag


def test_no_part_is_left_behind_or_listed(tmp_path: Path) -> None:
    (tmp_path / "a.json.0123.part").write_bytes(b"torn")
    store.write_bytes(str(tmp_path / "b"), b"x")
    store.create_exclusive(str(tmp_path / "b"), b"y")
    assert store.list_files(str(tmp_path)) == [str(tmp_path / "b")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json.0123.part", "b"]


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.ceph)])
def bucket_url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue({"moto": "s3_url", "ceph": "ceph_url"}[request.param])


def test_a_missing_bucket_is_named(bucket_url: str) -> None:
    url = "s3://no-such-place/run/x"
    calls = [
        lambda: store.read_bytes(url),
        lambda: store.write_bytes(url, b"x"),
        lambda: store.create_exclusive(url, b"x"),
        lambda: store.read_ranges([url], [0], [1]),
        lambda: store.list_files(url),
        lambda: store.glob("s3://no-such-place/*.tar"),
        lambda: store.check_writable("s3://no-such-place/run"),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=r"there is no bucket 'no-such-place'.*create it, or correct the URL"):
            call()


@pytest.mark.ceph
def test_a_missing_key_in_a_bucket_called_bucket_is_no_missing_bucket(
    ceph_s3: CephGateway, ceph_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.filesystem(ceph_url)[0].mkdir("a-bucket-of-mine")
    with pytest.raises(StorageError, match="there is nothing at s3://a-bucket-of-mine/x"):
        store.read_bytes("s3://a-bucket-of-mine/x")


@pytest.mark.ceph
@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_SECRET_ACCESS_KEY", "wrong-secret-4711"), ("AWS_ACCESS_KEY_ID", "wrong-key-4711")],
    ids=["secret", "key id"],
)
def test_a_refused_key_is_said_at_once_and_not_shown(
    ceph_s3: CephGateway, ceph_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    store.write_bytes(store.join(ceph_url, "x"), b"x")
    use_environment(monkeypatch, {**ceph_s3.environment, variable: value})
    url = store.join(ceph_url, "x")
    calls = [
        lambda: store.read_bytes(url),
        lambda: store.write_bytes(url, b"x"),
        lambda: store.create_exclusive(url, b"x"),
        lambda: store.read_ranges([url], [0], [1]),
        lambda: store.list_files(ceph_url),
        lambda: store.glob(store.join(ceph_url, "*")),
        lambda: store.exists(url),
        lambda: store.delete(url),
    ]
    for call in calls:
        start = time.monotonic()
        with pytest.raises(StorageError, match=r"was refused by the store \(.+\); check the credentials") as caught:
            call()
        # An unknown key is looked up once more in the provider chain, which takes a second or two.
        assert time.monotonic() - start < 8.0, "a wrong secret does not get right by trying again"
        shown = str(caught.value)
        assert not any(secret in shown for secret in (SECRET_KEY, ACCESS_KEY, value)), shown
        assert "None" not in shown


def test_no_credentials_at_all(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    use_environment(monkeypatch, {})
    with pytest.raises(StorageError, match=r"was refused.*Unable to locate credentials.*AWS_ACCESS_KEY_ID"):
        store.write_bytes(store.join(s3_url, "x"), b"x")


def test_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "RETRY_ATTEMPTS", 3)
    use_environment(monkeypatch, {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
    })  # fmt: skip
    with pytest.raises(StorageError, match=r"s3://b/x could not be reached .*check the endpoint \(AWS_ENDPOINT_URL\)"):
        store.read_bytes("s3://b/x")


@pytest.mark.parametrize(
    "url", ["s3://AKIA1:se+cr@bucket/x", "s3://AKIA1:se/cr@bucket/x", "https://AKIA1:se@host:9000/x?y=cr"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StorageError, match="contains credentials; put them into the environment") as caught:
        store.read_bytes(url)
    assert not any(part in str(caught.value) for part in ("AKIA1", "se/cr", "se+cr", "host"))


@pytest.mark.parametrize("url", ["http://host:9000/a@b", "s3://bucket/a:b@c", "/tmp/a:b@c", "https://host/a?X-Amz=1"])
def test_innocent_urls_pass(url: str) -> None:
    assert store.check_url(url) == url


def test_a_presigned_signature_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "RETRY_ATTEMPTS", 3)
    url = "http://127.0.0.1:9/bucket/x?X-Amz-Credential=AKID&X-Amz-Signature=5ec4e7"
    with pytest.raises(StorageError) as caught:
        store.read_bytes(url)
    assert "AKID" not in str(caught.value)
    assert "5ec4e7" not in str(caught.value)


def test_an_unwritable_place_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="there is a file where a folder is needed"):
        store.check_writable(str(tmp_path / "file" / "run"))


def test_range_file_reads_like_the_bytes_it_covers(store_url: str) -> None:
    data = bytes(i % 251 for i in range(10_000))
    url = store.join(store_url, "a.tar")
    store.write_bytes(url, data)
    member = RangeFile(url, 1000, 5000, block_bytes=512)
    inside = data[1000:6000]
    assert member.read(10) == inside[:10]
    assert member.seek(-10, os.SEEK_END) == 4990
    assert member.read(100) == inside[-10:]
    assert member.read() == b""
    member.seek(510)
    assert member.read(4) == inside[510:514]
    assert member.requests == 3, "blocks 0, 9 and 1, once each"


def test_a_store_that_throttles_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five answers "503 SlowDown" and then the bytes: the read succeeds, the run does not notice."""
    monkeypatch.setattr(retry, "RETRY_FIRST_WAIT_SECONDS", 0.01)
    with _throttling_server(refusals=5) as (url, requests):
        assert store.read_ranges([url], [2], [3]) == [b"234"]
    assert len(requests) == 6


@contextlib.contextmanager
def _throttling_server(refusals: int) -> Iterator[tuple[str, list[str]]]:
    """A real HTTP server that answers 503 `refusals` times, then ranges of b"0123456789"."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.headers.get("Range", ""))
            body = b"SlowDown" if len(requests) <= refusals else b"234"
            self.send_response(503 if len(requests) <= refusals else 206)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Range", "bytes 2-4/10")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a.tar", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_files_are_listed_with_sizes_and_ages_and_removed(tmp_path: Path, s3_url: str, where: str) -> None:
    url = str(tmp_path) if where == "disk" else f"{s3_url}/listed"
    before = time.time()
    for name, size in (("b/c/d.bin", 3), ("b/e.bin", 5), ("f.bin", 7)):
        store.write_bytes(f"{url}/{name}", bytes(size))
    found = store.listed_below(f"{url}/")
    assert [(each.url, each.size_bytes) for each in found] == [
        (f"{url}/b/c/d.bin", 3), (f"{url}/b/e.bin", 5), (f"{url}/f.bin", 7)
    ]  # fmt: skip
    assert all(before - 2 <= each.modified <= time.time() + 2 for each in found)
    seen = []
    store.delete_files([f"{url}/b/c/d.bin", f"{url}/f.bin", f"{url}/gone.bin"], lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [each.url for each in store.listed_below(url)] == [f"{url}/b/e.bin"]
    assert store.listed_below(f"{url}/nothing") == []
    if where == "disk":
        assert not (tmp_path / "b" / "c").exists(), "nor is an empty folder left"
