"""The local S3 server: ready when it says so, gone with its owner, as exclusive as the real ones."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from adaptfocus.infra.demo.local_s3 import LocalS3, LocalS3Error
from adaptfocus.pipelines import store
from tests.conftest import use_environment
from tests.s3_server import range_from_moto, with_cheap_ranges, with_exclusive_writes


def alive(pid: int) -> bool:
    """Whether the process runs; an ended one that nobody has waited for yet (a zombie) does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_a_bucket_is_ready_at_once_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalS3(bucket="another-bucket") as s3:
        use_environment(monkeypatch, s3.environment)
        store.write_bytes(s3.url("a", "b"), b"x")
        assert s3.url("a", "b") == "s3://another-bucket/a/b"
        assert store.read_bytes(s3.url("a", "b")) == b"x"
        pid = s3.pid
    assert pid is not None
    assert not alive(pid)
    assert s3.pid is None


def test_a_proxy_of_the_user_does_not_get_in_between(monkeypatch: pytest.MonkeyPatch, local_s3: LocalS3) -> None:
    """Many work behind HTTP_PROXY; the demo must reach its own server all the same."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.delenv("no_proxy", raising=False)
    environment = local_s3.environment
    use_environment(monkeypatch, environment)
    assert environment["NO_PROXY"].split(",")[0] == "example.com"
    store.write_bytes(local_s3.url("behind-a-proxy"), b"x")


def test_the_server_dies_with_its_owner_even_if_that_is_killed(tmp_path: Path) -> None:
    """A demo that is killed (it kills itself on purpose) must not leave servers behind."""
    code = (
        "import time; from adaptfocus.infra.demo.local_s3 import LocalS3\n"
        "s3 = LocalS3(); s3.start(); print(s3.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server_pid = int(owner.stdout.readline())
        assert alive(server_pid)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(server_pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(server_pid)


def test_the_server_outlives_the_thread_that_started_it() -> None:
    s3 = LocalS3()
    starter = threading.Thread(target=s3.start)
    starter.start()
    starter.join()
    time.sleep(1.0)  # two of the server's looks at its parent
    try:
        assert s3.pid is not None
        assert alive(s3.pid)
    finally:
        s3.stop()


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalS3Error, match=rf"did not start on 127\.0\.0\.1, port {port}.*choose another"):
            LocalS3(tmp_path, port=port).start()
    assert (tmp_path / "local_s3.log").exists()


def test_ranges_are_cut_as_s3_cuts_them(local_s3: LocalS3, s3_url: str) -> None:
    """The shortcut past moto must answer like moto: status, header, the last partial range, 416 past the end."""
    url = store.join(s3_url, "a b+ü.bin")
    store.write_bytes(url, bytes(range(200)))
    assert store.read_ranges([url], [7], [3]) == [b"\x07\x08\x09"]

    def get(byte_range: str) -> tuple[int, str, bytes]:
        path = urllib.request.quote(url.removeprefix("s3://"))
        request = urllib.request.Request(f"{local_s3.endpoint_url}/{path}", headers={"Range": byte_range})
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/s3/aws4_request")
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers["Content-Range"], answer.read()

    assert get("bytes=198-500") == (206, "bytes 198-199/200", b"\xc6\xc7")
    assert get("bytes=-2") == (206, "bytes 198-199/200", b"\xc6\xc7")
    assert get("bytes=0-0") == (206, "bytes 0-0/200", b"\0")
    with pytest.raises(urllib.error.HTTPError, match="416"):
        get("bytes=200-201")


def test_a_range_is_cut_without_copying_the_object() -> None:
    """moto itself copies the whole object for every range: 23/s out of a 64 MiB shard, and 319/s without the copy.

    The shortcut relies on internals of moto. If an upgrade of moto changed them, benchmarks would only get slow.
    """
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket("bbb", "us-east-1")
    backend.put_object("bbb", "k", bytes(range(100)))
    try:
        data, size, tag = range_from_moto("bbb", "k", 10, 12) or (b"", 0, "")
        assert (data, size) == (b"\x0a\x0b\x0c", 100)
        assert tag.startswith('"')
        assert range_from_moto("bbb", "k", 98, 500) == (b"\x62\x63", 100, tag)
        for bucket, key, start, last in [
            ("bbb", "k", 100, 101),
            ("bbb", "k", 5, 4),
            ("bbb", "other", 0, 1),
            ("c", "k", 0, 1),
        ]:
            assert range_from_moto(bucket, key, start, last) is None, "moto has the words for it"
    finally:
        backend.reset()


def test_only_plain_ranges_go_past_moto() -> None:
    asked: list[tuple[str, str, int, int]] = []

    def read_range(bucket: str, key: str, start: int, last: int) -> tuple[bytes, int, str]:
        asked.append((bucket, key, start, last))
        return b"xy", 9, '"tag"'

    app = with_cheap_ranges(lambda environ, start_response: [b"moto"], read_range)
    plain = {"REQUEST_METHOD": "GET", "PATH_INFO": "/b/a/k", "QUERY_STRING": "", "HTTP_RANGE": "bytes=3-4"}
    answers: list[tuple[str, dict[str, str]]] = []
    assert app(plain, lambda status, headers: answers.append((status, dict(headers)))) == [b"xy"]
    assert asked == [("b", "a/k", 3, 4)]
    assert answers[0][0] == "206 Partial Content"
    assert answers[0][1]["Content-Range"] == "bytes 3-4/9"
    for change in (
        {"REQUEST_METHOD": "HEAD"},
        {"QUERY_STRING": "versionId=1"},
        {"HTTP_IF_MATCH": '"other"'},
        {"HTTP_IF_NONE_MATCH": '"tag"'},
        {"HTTP_RANGE": "bytes=-4"},
        {"HTTP_RANGE": "bytes=0-1,3-4"},
        {"PATH_INFO": "/b"},
    ):
        assert app({**plain, **change}, lambda *_: None) == [b"moto"], change
    assert app({**plain, "HTTP_IF_MATCH": '"tag"'}, lambda *_: None) == [b"xy"]


def test_racing_conditional_puts_pass_one_at_a_time() -> None:
    """A store that checks, waits 1 ms and writes, as moto does with a shorter gap: only one of 16 racers may win."""
    held: list[bytes] = []

    def look_then_write(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        free = not held
        time.sleep(0.001)
        if free:
            held.append(b"mine")
        start_response("200 OK" if free else "412 Precondition Failed", [])
        return []

    def winners(app: Callable[..., Iterable[bytes]]) -> int:
        held.clear()
        statuses: list[str] = []
        gate = threading.Barrier(16)

        def put() -> None:
            gate.wait()
            app(
                {"REQUEST_METHOD": "PUT", "HTTP_IF_NONE_MATCH": "*"},
                lambda status, headers: statuses.append(status),
            )

        threads = [threading.Thread(target=put) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return statuses.count("200 OK")

    assert winners(look_then_write) > 1, "the gap is there"
    assert winners(with_exclusive_writes(look_then_write)) == 1
