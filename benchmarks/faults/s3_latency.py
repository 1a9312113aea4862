"""A store that is far away: a proxy in front of an S3 server that holds each request for some milliseconds.

It passes HTTP/1.1 on and keeps connections alive. It counts requests and body bytes by method and path.

It runs in a separate process. Passing on a range of 300 kB takes 0.3 ms and 0.5 ms of CPU; 64 MB take 50 ms of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

_CONTROL = "/-/"  # no bucket has this name
_PIECE_BYTES = 1 << 18
_NO_BODY = (204, 304)


@dataclass(frozen=True)
class Traffic:
    """The number of requests of one method for one path, and the bytes of the bodies of their answers."""

    method: str
    path: str
    requests: int
    size_bytes: int


class Store(Protocol):
    """An S3 server on this machine: LocalS3, or Ceph's gateway."""

    @property
    def port(self) -> int: ...

    @property
    def environment(self) -> dict[str, str]: ...

    def url(self, *parts: str) -> str: ...


F = TypeVar("F", bound="FarStore")


class FarStore:
    """The proxy in front of a store, as a context manager. `environment` points every S3 client to it."""

    module = "benchmarks.faults.s3_latency"  # the module that runs as its process

    def __init__(self, store: Store) -> None:
        self.store = store
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self: F) -> F:
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, **self.store.environment, "PYTHONPATH": paths}
        command = [sys.executable, "-m", self.module, "--upstream-port", str(self.store.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().split()[1])
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Like that of LocalS3, with this proxy as the endpoint."""
        local = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        urls = {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_ENDPOINT_URL_S3": self.endpoint_url}
        return local | self.store.environment | urls

    def reset(self, latency_ms: float) -> None:
        """Reset the counts; from now on hold every request for `latency_ms`."""
        self._control(f"reset?latency_ms={latency_ms}")

    def traffic(self) -> list[Traffic]:
        """The traffic since the last reset."""
        return [Traffic(*row) for row in json.loads(self._control("traffic"))]

    def _control(self, path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.endpoint_url}{_CONTROL}{path}", timeout=30) as answer:
            return answer.read()


class Proxy:
    """Counts and latency, shared by all connections."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.latency_seconds = 0.0
        self.counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client. It stays open even where the store closes its own."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, headers = _parsed(head)
                if target.startswith(_CONTROL):
                    writer.write(_plain(self.controlled(target)))
                    continue
                await self.delay()
                if headers.get("expect"):  # the client waits for permission to send its body; no need to ask the store
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                size = await self.exchange(reader, writer, _without(head, b"expect"), method, headers)
                counted = self.counts[method, unquote(urlsplit(target).path)]
                counted[0], counted[1] = counted[0] + 1, counted[1] + size
                if headers.get("connection") == "close":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the other side has closed, which it may do between requests
        finally:
            writer.close()

    async def delay(self) -> None:
        await asyncio.sleep(self.latency_seconds)

    async def exchange(self, reader, writer, head: bytes, method: str, headers: dict[str, str]) -> int:
        """Pass one request and its answer on; return the bytes of the answer's body.

        Each request has a new connection, because the local S3 server closes it after its answer.
        """
        source, target = await asyncio.open_connection("127.0.0.1", self.upstream_port, limit=1 << 20)
        try:
            target.write(head)
            await pass_body(reader, target, headers)
            answer = await source.readuntil(b"\r\n\r\n")
            has_body = method != "HEAD" and int(answer.split(b" ", 2)[1]) not in _NO_BODY
            return await self.hand_back(source, writer, _without(answer, b"connection"), has_body)
        finally:
            target.close()

    async def hand_back(self, source, writer, answer: bytes, has_body: bool) -> int:
        """Pass an answer on; return the bytes of its body."""
        writer.write(answer)
        size = await pass_body(source, writer, headers_of(answer)) if has_body else 0
        await writer.drain()
        return size

    def controlled(self, target: str) -> bytes:
        parts = urlsplit(target)
        if parts.path.endswith("reset"):
            self.latency_seconds = float(parse_qs(parts.query)["latency_ms"][0]) / 1000
            self.counts.clear()
        return json.dumps([[method, path, *n] for (method, path), n in sorted(self.counts.items())]).encode()


async def pass_body(source: asyncio.StreamReader, target: Any, headers: dict[str, str]) -> int:
    """Pass a body on with its framing; return its bytes without the framing."""
    if headers.get("transfer-encoding") == "chunked":
        total = 0
        while True:
            line = await source.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            target.write(line + await source.readexactly(size + 2))
            await target.drain()
            total += size
            if size == 0:
                return total
    left = length = int(headers.get("content-length", 0))
    while left:
        piece = await source.read(min(left, _PIECE_BYTES))
        if not piece:
            raise ConnectionError("the body ended early")
        target.write(piece)
        await target.drain()
        left -= len(piece)
    return length


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    return method, target, headers_of(head)


def headers_of(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip().lower(): value.strip().lower() for name, value in pairs}


def _without(head: bytes, name: bytes) -> bytes:
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(name + b":"))


def _plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def serve(proxy: Proxy) -> None:
    """Serve until the process that started this one has ended."""
    parent = os.getppid()
    server = await asyncio.start_server(proxy.client, "127.0.0.1", 0, limit=1 << 20, backlog=512)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    while os.getppid() == parent:  # it ends with its parent, however that ends
        await asyncio.sleep(0.5)


def upstream_port(module: str) -> int:
    """The port of the store, from the command line of the proxy's process."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--upstream-port", type=int, required=True)
    return parser.parse_args().upstream_port


if __name__ == "__main__":
    asyncio.run(serve(Proxy(upstream_port(FarStore.module))))
