"""The process behind `infra.demo.local_s3`: moto's S3 with the two things mended that a run leans on.

Input: a port and the parent's process id. Does: serves S3 from memory on the loopback interface, keeps racing
exclusive creations exclusive, and cuts ranges without copying whole objects. Output: the line ``port N`` when ready.

It accepts any secret; that a store refuses a wrong one is tested on Ceph.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

HOST = "127.0.0.1"
PARENT_CHECK_SECONDS = 0.5

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
# (bucket, key, first byte, last byte) -> (those bytes, size of the object, ETag); None leaves the answer to moto.
ReadRange = Callable[[str, str, int, int], "tuple[bytes, int, str] | None"]


def with_exclusive_writes(app: WsgiApp) -> WsgiApp:
    """`app`, with writes that carry If-None-Match or If-Match passed through one lock.

    moto looks whether the key is there and then writes it, in threads and with nothing between: with Python's
    switch interval at 10 us, 1 race of 16 writers in 120 had two winners. Amazon's and Ceph's puts are atomic.
    """
    lock = threading.Lock()

    def locked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        with lock if conditional and environ["REQUEST_METHOD"] in ("PUT", "POST") else contextlib.nullcontext():
            return app(environ, start_response)

    return locked


def with_cheap_ranges(app: WsgiApp, read_range: ReadRange) -> WsgiApp:
    """`app`, with plain ``GET`` + ``Range: bytes=A-B`` answered from `read_range`, if an ``If-Match`` is met.

    moto copies the whole object for every range: 23 ranges/s out of a 64 MiB shard, whatever their size.
    """

    def ranged(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", environ.get("HTTP_RANGE", ""))
        bucket, _, key = environ.get("PATH_INFO", "").lstrip("/").partition("/")
        conditions = {name for name in environ if name.startswith("HTTP_IF_")}
        plain = not environ.get("QUERY_STRING") and conditions <= {"HTTP_IF_MATCH"}
        if wanted and key and plain and environ["REQUEST_METHOD"] == "GET":
            start, last = int(wanted[1]), int(wanted[2])
            found = read_range(bucket, key.encode("latin-1").decode(), start, last)
            if found is not None and environ.get("HTTP_IF_MATCH", found[2]) == found[2]:
                data, size, tag = found
                start_response("206 Partial Content", _range_headers(data, start, size, tag))
                return [data]
        return app(environ, start_response)

    return ranged


def _range_headers(data: bytes, start_bytes: int, size_bytes: int, tag: str) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "binary/octet-stream"),
        ("Content-Length", str(len(data))),
        ("Content-Range", f"bytes {start_bytes}-{start_bytes + len(data) - 1}/{size_bytes}"),
        ("Accept-Ranges", "bytes"),
        ("ETag", tag),
        ("Last-Modified", formatdate(usegmt=True)),
    ]


def range_from_moto(bucket: str, key: str, start: int, last: int) -> tuple[bytes, int, str] | None:
    """A range out of moto's own buffer; None for whatever is not the plain case (no such key, past the end)."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    try:
        found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key)
        if found is None or not start <= last or start >= found.size:
            return None
        with found.lock:
            found._value_buffer.seek(start)
            return found._value_buffer.read(last + 1 - start), found.size, found.etag
    except Exception:  # no such bucket, or the object was replaced and closed while we looked: moto has the words
        return None


def serve(port: int, bucket: str, parent_pid: int | None) -> None:
    """Serve until interrupted, or until `parent_pid` is no longer this process's parent.

    The parent's id changes when it dies, however it dies. A signal at its death (prctl) would also come when merely
    the *thread* that started us ends, and a pipe's end is kept open by every process forked in between.
    """
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        disable_nagle_algorithm = True  # headers and body go out in two writes

        def log_request(self, *args: Any, **kwargs: Any) -> None:
            """No line a request: a demo makes thousands."""

    app = with_exclusive_writes(DomainDispatcherApplication(create_backend_app))
    app = with_cheap_ranges(app, range_from_moto)
    server = make_server(HOST, port, app, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    create = urllib.request.Request(f"http://{HOST}:{server.server_port}/{bucket}", method="PUT")
    opener.open(create, timeout=30).close()
    print(f"port {server.server_port}", flush=True)
    while parent_pid is None or os.getppid() == parent_pid:
        time.sleep(PARENT_CHECK_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m adaptfocus.infra.demo.s3_server", description="S3 on loopback, in memory."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", default="adaptfocus", help="created at the start")
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process does")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        serve(options.port, options.bucket, options.parent_pid)


if __name__ == "__main__":
    main()
