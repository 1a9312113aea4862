"""A faulty store: the proxy of s3_latency, with a share of each fault that clients meet in practice.

A seed decides which requests get a fault; the others are passed on. The proxy counts how often each fault was played:

    503 SlowDown; connections reset, before or after the store has had the request; bodies that end early; first bytes
    that are late; the whole object, with 200, in place of a range; a Content-Range of another range; ExpiredToken for
    one access key
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
from collections import Counter
from dataclasses import asdict, dataclass
from urllib.parse import parse_qs, quote, urlsplit

from benchmarks.faults.s3_latency import FarStore, Proxy, headers_of, pass_body, serve, upstream_port


@dataclass(frozen=True)
class Faults:
    """Shares of requests, in [0, 1]; the last three and `truncate` are shares of only GETs (of ranges).

    At most `most` faults are played, and only on paths that hold `path`.
    """

    throttle: float = 0.0
    reset: float = 0.0
    slow: float = 0.0
    truncate: float = 0.0
    whole: float = 0.0
    wrong_range: float = 0.0
    slow_seconds: float = 5.0
    jitter_ms: float = 0.0  # a uniform draw up to this is added to the latency
    seed: int = 0
    most: int = 1 << 62
    path: str = ""
    expired_key: str = ""  # every request signed with it is answered with ExpiredToken

    def kinds(self, is_get: bool, is_range: bool) -> list[tuple[str, float]]:
        """The faults that a request can get, and how often."""
        kinds = [("throttle", self.throttle), ("reset", self.reset), ("slow", self.slow)]
        kinds += [("truncate", self.truncate)] if is_get else []
        return kinds + ([("whole", self.whole), ("wrong_range", self.wrong_range)] if is_range else [])


class FaultyStore(FarStore):
    """FarStore with faults."""

    module = "benchmarks.faults.s3_faults"

    def reset(self, latency_ms: float = 0.0, faults: Faults | None = None) -> None:
        """Reset the counts; from now on hold requests for `latency_ms` and play these faults."""
        self._control(f"reset?latency_ms={latency_ms}&faults={quote(json.dumps(asdict(faults or Faults())))}")

    def played(self) -> dict[str, int]:
        """How often each fault was played since the last reset."""
        return json.loads(self._control("played"))


class FaultyProxy(Proxy):
    """The proxy with faults; it runs in the proxy's process."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__(upstream_port)
        self.faults, self.random, self.played = Faults(), random.Random(0), Counter[str]()

    def controlled(self, target: str) -> bytes:
        parts = urlsplit(target)
        if parts.path.endswith("played"):
            return json.dumps(self.played).encode()
        if parts.path.endswith("reset"):
            self.faults = Faults(**json.loads(parse_qs(parts.query)["faults"][0]))
            self.random, self.played = random.Random(self.faults.seed), Counter()
        return super().controlled(target)

    async def delay(self) -> None:
        await asyncio.sleep(self.latency_seconds + self.random.uniform(0, self.faults.jitter_ms) / 1000)

    async def exchange(self, reader, writer, head: bytes, method: str, headers: dict[str, str]) -> int:
        target = head.split(b" ", 2)[1].decode("latin-1")
        key = self.faults.expired_key.lower()
        if key and f"credential={key}/" in headers.get("authorization", ""):
            return await self._refuse(reader, writer, headers, 403, "ExpiredToken", "The provided token has expired.")
        kind = self._drawn(method, target, headers)
        if kind == "throttle":
            return await self._refuse(reader, writer, headers, 503, "SlowDown", "Please reduce your request rate.")
        if kind == "reset":
            if self.random.random() < 0.5:  # the store has done it, but the client gets no answer
                await super().exchange(reader, _Nobody(), head, method, headers)
            _reset(writer)
        if kind == "slow":
            await asyncio.sleep(self.faults.slow_seconds)
        if kind == "whole":
            head = _unranged(target, self.upstream_port)
        played = {"truncate": _truncated, "wrong_range": _misplaced}.get(kind)
        if not played:
            return await super().exchange(reader, writer, head, method, headers)
        answer = _Kept()
        size = await super().exchange(reader, answer, head, method, headers)
        played(bytes(answer.data), writer)
        await writer.drain()
        return size

    def _drawn(self, method: str, target: str, headers: dict[str, str]) -> str:
        if self.faults.path not in target or self.played.total() >= self.faults.most:
            return ""
        draw = self.random.random()
        for kind, share in self.faults.kinds(method == "GET", method == "GET" and "range" in headers):
            if draw < share:
                self.played[kind] += 1
                return kind
            draw -= share
        return ""

    async def _refuse(self, reader, writer, headers: dict[str, str], status: int, code: str, message: str) -> int:
        await pass_body(reader, _Nobody(), headers)
        body = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>".encode()
        head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        return 0


class _Nobody:
    """A writer to nowhere."""

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass


class _Kept(_Nobody):
    """A writer to memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


def _reset(writer) -> None:
    """Close with RST, like a load balancer that has forgotten the connection."""
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionResetError("played")


def _truncated(answer: bytes, writer) -> None:
    """Send the right head and half of the body, then end the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])
    writer.close()


def _misplaced(answer: bytes, writer) -> None:
    """Change the Content-Range to a range that begins one byte later."""
    head, _, body = answer.partition(b"\r\n\r\n")
    said = headers_of(head).get("content-range", "")
    if said:
        first, rest = said.removeprefix("bytes ").split("-", 1)
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-range:")]
        head = b"\r\n".join([*lines, f"Content-Range: bytes {int(first) + 1}-{rest}".encode()])
    writer.write(head + b"\r\n\r\n" + body)


def _unranged(target: str, port: int) -> bytes:
    """The head of a GET of the whole object, signed with this process's keys, because the client signed its range."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("GET", f"http://127.0.0.1:{port}{target.split('?', 1)[0]}")
    keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    S3SigV4Auth(keys, "s3", os.environ.get("AWS_DEFAULT_REGION", "us-east-1")).add_auth(request)
    lines = [f"GET {target.split('?', 1)[0]} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "host"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


if __name__ == "__main__":
    asyncio.run(serve(FaultyProxy(upstream_port(FaultyStore.module))))
