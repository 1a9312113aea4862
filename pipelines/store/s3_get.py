"""Ranges of objects on S3.

Requests go through s3fs's client, many at a time within the process's limits. Status, Content-Range, length, ETag and
size of every answer are checked. Errors that may pass are retried after a wait, with new credentials if those were the
reason. Wrong bytes are never accepted: an answer that does not prove its content is an error. Everything here runs on
fsspec's event loop, which is one thread of a process.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import tenacity
from fsspec.asyn import sync

from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.store import reasons, retry
from adaptfocus.pipelines.store.limits import LIMITS
from adaptfocus.pipelines.store.ranges import Range
from adaptfocus.pipelines.store.reads import ReadConfig, ReadCounts, Version
from adaptfocus.pipelines.store.reasons import ShortReadError, WholeBodyError, WrongRangeError, replaced_error
from adaptfocus.pipelines.store.s3_answers import (
    GONE_CODES,
    check_version,
    is_whole,
    place_in_body,
    request_of,
    version_text,
)

T = TypeVar("T")

# If a whole object comes instead of a range, it is read up to the range's end, but at most so far: 0.6 s at 100 MB/s.
MAX_WHOLE_BODY_BYTES = 64 * 2**20
PIECE_BYTES = 16 * 2**20  # size of a piece of a whole object: one connection gives 50 to 100 MB/s
READ_BYTES = 256 * 1024  # bytes per read of a body that is not kept completely
RENEW_SECONDS = 1.0  # least time between two requests of a process for credentials


def get_ranges(
    fs: Any, ranges: Sequence[Range], version: Version | None, config: ReadConfig, counts: ReadCounts
) -> list[bytes]:
    """The bytes of some ranges, all requested at once within the process's limits.

    Raises:
        ReplacedError: the object is no longer `version`.
        StorageError: it cannot be read, or the store does not support ranges.
    """
    bodies: Any = sync(fs.loop, _ranges, fs, ranges, version, config, counts)
    return bodies


def get_whole(fs: Any, url: str, config: ReadConfig, counts: ReadCounts) -> bytes:
    """A whole object; a large one is read in parallel pieces.

    Raises:
        StorageError: it cannot be read, or was replaced while it was read.
    """
    body: Any = sync(fs.loop, _whole, fs, url, config, counts)
    return body


async def _ranges(
    fs: Any, ranges: Sequence[Range], version: Version | None, config: ReadConfig, counts: ReadCounts
) -> list[bytes]:
    def one(wanted: Range) -> Awaitable[bytes]:
        return _tried(fs, wanted.url, counts, lambda: _range(fs, wanted, version, config, counts))

    tasks = [asyncio.ensure_future(one(each)) for each in ranges]
    try:
        return await asyncio.gather(*tasks)
    finally:  # the first error cancels the rest
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _whole(fs: Any, url: str, config: ReadConfig, counts: ReadCounts) -> bytes:
    first = await _tried(fs, url, counts, lambda: _beginning(fs, url, config, counts))
    if isinstance(first, bytes):
        return first
    starts = range(0, first.size_bytes, PIECE_BYTES)
    pieces = [Range(url, at, min(PIECE_BYTES, first.size_bytes - at)) for at in starts]
    return b"".join(await _ranges(fs, pieces, first, config, counts))


async def _tried(fs: Any, url: str, counts: ReadCounts, once: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request until it succeeds or finally fails."""
    from s3fs.errors import translate_boto_error

    reason: str | None = None

    async def attempt() -> T:
        if reason == "expired":
            await renew(fs)
        try:
            async with _admitted():
                return await once()
        except Exception as raw:
            raise translate_boto_error(raw)  # noqa: B904 -- as s3fs does it for all but these requests

    def before_sleep(state: tenacity.RetryCallState) -> None:
        nonlocal reason
        reason = reasons.reason_of(retry.error_of(state))
        counts.add(retry=reason or "", waiting_seconds=state.upcoming_sleep)

    try:
        result = await tenacity.AsyncRetrying(**retry.rules(before_sleep))(attempt)
    except StorageError:
        raise
    except Exception as error:
        raise reasons.as_storage_error(url, error) from error
    LIMITS.budget.succeeded()
    return result


_waiting: deque[asyncio.Future[None]] = deque()


@asynccontextmanager
async def _admitted() -> AsyncIterator[None]:
    """Hold a place in the process's window while a request runs."""
    while (began := LIMITS.window.begin()) is None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            _let_in()  # pass on the place for which this one was woken, if it was
            raise
    is_refused = is_success = False
    try:
        yield
        is_success = True
    except Exception as error:
        is_refused = reasons.reason_of(error) == "throttled"
        raise
    finally:
        LIMITS.window.end(began, is_refused, is_success)
        _let_in()


def _let_in() -> None:
    free = int(LIMITS.window.limit) - LIMITS.window.under_way
    while _waiting and free > 0:
        place = _waiting.popleft()
        if not place.done():
            place.set_result(None)
            free -= 1


async def _range(fs: Any, wanted: Range, version: Version | None, config: ReadConfig, counts: ReadCounts) -> bytes:
    """One range, by one request."""
    try:
        answer = await _answer(fs, wanted.url, config, counts, request_of(wanted, version))
    except Exception as error:
        code = reasons.error_code(error)
        if version and code in GONE_CODES:
            raise replaced_error(wanted.url, f"it had {version_text(version)}; the store says {code}") from error
        raise
    body, about = answer["Body"], answer["ResponseMetadata"]
    try:
        size_bytes, before_bytes = place_in_body(wanted, about["HTTPStatusCode"], about["HTTPHeaders"])
        if version:
            check_version(wanted.url, version, size_bytes, about["HTTPHeaders"])
        if is_whole(about["HTTPStatusCode"], about["HTTPHeaders"]):
            counts.add(retry=_of_whole_body(before_bytes + wanted.size_bytes), dropped_bytes=before_bytes)
        reading = _part(body, before_bytes, wanted.size_bytes)
        data = await asyncio.wait_for(reading, _body_seconds(before_bytes + wanted.size_bytes, config))
    finally:
        body.close()
    counts.add(size_bytes=len(data))
    return data


def _of_whole_body(end_bytes: int) -> str:
    """The reason to count if a whole object is read for a range that ends at `end_bytes`. Raises WholeBodyError."""
    if end_bytes > MAX_WHOLE_BODY_BYTES:
        raise WholeBodyError(
            f"the store answered a range with the whole object, of which {end_bytes:,} bytes would have to be read; "
            f"the limit is {MAX_WHOLE_BODY_BYTES:,}"
        )
    return "whole_body"


async def _part(body: Any, before_bytes: int, size_bytes: int) -> bytes:
    """Bytes [before, before + size) of a body, which is read no further."""
    if not before_bytes:
        data = bytes(await body.read(size_bytes))
        if len(data) == size_bytes:
            return data
        kept, at = bytearray(data), len(data)
    else:
        kept, at = bytearray(), 0
    while at < before_bytes + size_bytes:
        piece = await body.read(min(READ_BYTES, before_bytes + size_bytes - at))
        if not piece:
            raise WrongRangeError(f"the body ended after {at} of {before_bytes + size_bytes} bytes")
        kept += piece[max(0, before_bytes - at) :]
        at += len(piece)
    return bytes(kept)


async def _beginning(fs: Any, url: str, config: ReadConfig, counts: ReadCounts) -> bytes | Version:
    """A whole object, or only its version if it should be read in pieces."""
    answer = await _answer(fs, url, config, counts, {})
    body, size_bytes = answer["Body"], int(answer["ContentLength"])
    try:
        if size_bytes > PIECE_BYTES and answer.get("ETag"):
            return Version(size_bytes, answer["ETag"].strip('"'))
        data = await asyncio.wait_for(body.read(), _body_seconds(size_bytes, config))
    finally:
        body.close()
    if len(data) != size_bytes:
        raise ShortReadError(f"{size_bytes} bytes were announced, {len(data)} came")
    counts.add(size_bytes=len(data))
    return data


async def _answer(fs: Any, url: str, config: ReadConfig, counts: ReadCounts, wanted: dict[str, str]) -> dict[str, Any]:
    """An answer whose body is not read yet; the first of two answers if the config hedges."""
    await fs.set_session()
    bucket, key, version_id = fs.split_path(url)
    client = await fs.get_s3(bucket)
    more = wanted | ({"VersionId": version_id} if version_id else {})
    parameters = fs._get_s3_method_kwargs(client.get_object, Bucket=bucket, Key=key, **more)

    def ask() -> asyncio.Task[dict[str, Any]]:
        counts.add(requests=1)
        return asyncio.ensure_future(client.get_object(**parameters))

    asked = [ask()]
    left_seconds = config.first_byte_seconds
    try:
        if config.hedge_seconds and config.hedge_seconds < left_seconds:
            left_seconds -= config.hedge_seconds
            done, _ = await asyncio.wait(asked, timeout=config.hedge_seconds)
            if not done and LIMITS.budget.has_spare():
                LIMITS.budget.take()
                counts.add(hedges=1)
                asked.append(ask())
        done, _ = await asyncio.wait(asked, timeout=left_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError(f"no first byte in {config.first_byte_seconds:g} s")
        first = done.pop()
        asked.remove(first)
        return first.result()
    finally:
        for task in asked:
            task.add_done_callback(_let_go)
            task.cancel()


def _let_go(task: asyncio.Task[dict[str, Any]]) -> None:
    """Close the connection of an answer that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result()["Body"].close()


def _body_seconds(size_bytes: int, config: ReadConfig) -> float:
    return config.stall_seconds * max(1.0, size_bytes / 2**20)


_renewals: dict[int, tuple[float, asyncio.Task[Any]]] = {}  # filesystem -> when its session was last renewed


async def renew(fs: Any) -> None:
    """Ask botocore's provider chain (environment, shared file, role) for credentials again, once for all waiters."""
    at, task = _renewals.get(id(fs), (0.0, None))
    if task is None or time.monotonic() - at > RENEW_SECONDS:
        task = asyncio.ensure_future(fs.set_session(refresh=True))
        _renewals[id(fs)] = (time.monotonic(), task)
    await asyncio.shield(task)


def _forget() -> None:
    """In a fork: these wait on the parent's event loop."""
    _waiting.clear()
    _renewals.clear()


os.register_at_fork(after_in_child=_forget)
