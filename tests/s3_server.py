"""moto's S3 with two fixes that tests and benchmarks need, instead of the demo's server.

Racing exclusive creations are exclusive. Ranges are cut without copying whole objects, which uses internals of moto. It
accepts any secret; tests on Ceph check that a store refuses a wrong one.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.infra.demo.s3_server import HOST, main, make_bucket, outlive

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
# (bucket, key, first byte, last byte) -> (those bytes, size of the object, ETag); None leaves the answer to moto.
ReadRange = Callable[[str, str, int, int], "tuple[bytes, int, str] | None"]


def with_exclusive_writes(app: WsgiApp) -> WsgiApp:
    """`app`, with writes that carry If-None-Match or If-Match passed through one lock.

    moto checks for the key and then writes it, in threads and without a lock. With Python's switch interval at 10 us,
    1 race of 16 writers in 120 had two winners. Amazon's and Ceph's puts are atomic.
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
    """A range out of moto's own buffer; None for all but the plain case (no such key, past the end)."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    try:
        found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key)
        if found is None or not start <= last or start >= found.size:
            return None
        with found.lock:
            found._value_buffer.seek(start)
            return found._value_buffer.read(last + 1 - start), found.size, found.etag
    except Exception:  # no such bucket, or the object was replaced meanwhile: moto answers
        return None


def serve(port: int, bucket: str, parent_pid: int | None) -> None:
    """Serve like adaptfocus.infra.demo.s3_server, with the fixes."""
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        disable_nagle_algorithm = True  # headers and body go out in two writes

        def log_request(self, *args: Any, **kwargs: Any) -> None:
            """Print no line for a request, because a benchmark makes thousands."""

    app = with_exclusive_writes(DomainDispatcherApplication(create_backend_app))
    app = with_cheap_ranges(app, range_from_moto)
    server = make_server(HOST, port, app, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    make_bucket(server.server_port, bucket)
    print(f"port {server.server_port}", flush=True)
    outlive(parent_pid)


class ExclusiveS3(LocalS3):
    """`LocalS3` with this server."""

    program = "tests.s3_server"


if __name__ == "__main__":
    main(serve)
