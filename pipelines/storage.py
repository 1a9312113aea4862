"""Every place is a URL: the object store through fsspec.

Input: URLs (a local path, ``s3://bucket/key``, anything fsspec knows).
Does: whole reads, coalesced range reads, atomic writes, exclusive creation, listings; retries what may pass with
jittered back-off; turns a store's errors into one message that names the place and the mend.
Output: bytes. S3 takes the standard AWS environment variables and ``AWS_ENDPOINT_URL``; no secret is ever part
of a URL, a message or a config.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import fsspec
import tenacity
from fsspec.core import url_to_fs

from pipelines.errors import StorageError

T = TypeVar("T")

# Six tries with jittered exponential back-off wait about 15 s in all: longer than a rate limiter's bucket takes
# to refill, shorter than a user's patience with a store that is really down.
RETRY_ATTEMPTS = 6
RETRY_MAX_WAIT_SECONDS = 8.0
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, StorageError)
_NEWER_THAN_LISTING = {"use_listings_cache": False}  # a run lists what other processes have just written


def join(url: str, *parts: str) -> str:
    """``join("s3://b/x", "y", "z.json") -> "s3://b/x/y/z.json"``."""
    return posixpath.join(url.rstrip("/") if url != "/" else url, *parts)


def check_url(url: str) -> str:
    """Return `url` unless it carries credentials; they belong in the environment, never in a config or a log."""
    if re.match(r"^[a-z0-9+.-]+://[^/@]*:[^/@]*@", url, re.IGNORECASE):
        scheme = url.split("://", 1)[0]
        raise StorageError(
            f"the {scheme}:// URL contains credentials; put them into the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and leave them out of the URL"
        )
    return url


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem of a URL and the path inside it. Raises StorageError for a scheme it cannot load."""
    check_url(url)
    options: dict[str, Any] = dict(_NEWER_THAN_LISTING) if url.startswith(("s3://", "s3a://")) else {}
    try:
        return url_to_fs(url, **options)
    except ImportError as error:
        raise StorageError(
            f"{_shown(url)}: {error}; install the extra for this store (pip install 'adaptfocus[s3]')"
        ) from None
    except ValueError as error:
        raise StorageError(f"{_shown(url)}: {error}") from None


def is_local(url: str) -> bool:
    """Whether the URL is a path of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def read_bytes(url: str) -> bytes:
    """The whole object."""
    fs, path = filesystem(url)
    return _tried(url, lambda: fs.cat_file(path))


def read_ranges(urls: Sequence[str], offsets_bytes: Sequence[int], sizes_bytes: Sequence[int]) -> list[bytes]:
    """One range of each object, fetched at the same time where the store can; in the order asked for.

    Raises:
        StorageError: the store cannot be read, or an object ends before its range does.
    """
    if not urls:
        return []
    fs, _ = filesystem(urls[0])
    paths = [filesystem(url)[1] for url in urls]
    starts, ends = list(offsets_bytes), [o + s for o, s in zip(offsets_bytes, sizes_bytes, strict=True)]

    def fetch() -> list[bytes]:
        parts = fs.cat_ranges(paths, starts, ends, on_error="raise")
        for url, part, start, size in zip(urls, parts, starts, sizes_bytes, strict=True):
            if len(part) != size:
                # A short body may be a broken connection (tried again) or an object that has been replaced.
                raise OSError(f"{_shown(url)}: asked for {size} bytes from {start}, got {len(part)}")
        return parts

    return _tried(urls[0], fetch)


def write_bytes(url: str, data: bytes) -> None:
    """Write the whole object at once: a reader sees the old bytes or the new, never a part."""
    fs, path = filesystem(url)
    if not is_local(url):
        _tried(url, lambda: fs.pipe_file(path, data))
        return

    def replace() -> None:
        os.makedirs(posixpath.dirname(path) or ".", exist_ok=True)  # noqa: PTH103
        part = f"{path}.{uuid.uuid4().hex}.part"
        with open(part, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)  # noqa: PTH105

    _tried(url, replace)


def create_exclusive(url: str, data: bytes) -> bool:
    """Write the object only if nothing is there yet; False if somebody was first.

    On S3 this is a conditional put (``If-None-Match: *``), on local disks a hard link: both leave either nothing
    or the whole object. It is what makes one lineage of checkpoints out of several processes that may all
    believe that they are in charge (docs/decisions/0002).
    """
    fs, path = filesystem(url)
    if is_local(url):
        os.makedirs(posixpath.dirname(path) or ".", exist_ok=True)  # noqa: PTH103
        part = f"{path}.{uuid.uuid4().hex}.part"
        with open(part, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        finally:
            os.unlink(part)  # noqa: PTH108
        return True

    def create() -> bool:
        try:
            fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            # A retry after a lost answer finds our own object: the bytes tell.
            return fs.cat_file(path) == data
        return True

    return _tried(url, create)


def exists(url: str) -> bool:
    """Whether there is an object (or, locally, a file or folder) at the URL."""
    fs, path = filesystem(url)
    return bool(_tried(url, lambda: fs.exists(path)))


def size_and_tag(url: str) -> tuple[int, str]:
    """Size in bytes and a tag that changes with the content (ETag, or the local modification time)."""
    fs, path = filesystem(url)
    info = _tried(url, lambda: fs.info(path))
    tag = info.get("ETag") or info.get("etag") or str(info.get("mtime", ""))
    return int(info["size"]), str(tag).strip('"')


def list_files(url: str) -> list[str]:
    """URLs of the files directly in a folder, sorted by name; empty if there is no such folder."""
    fs, path = filesystem(url)
    try:
        entries = _tried(url, lambda: fs.ls(path, detail=True))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError) and _container_exists(fs, path):
            return []
        raise
    names = [posixpath.basename(e["name"].rstrip("/")) for e in entries if e["type"] == "file"]
    return [join(url, name) for name in sorted(names) if name and not name.endswith(".part")]


def glob(pattern_url: str) -> list[str]:
    """URLs that match a glob pattern, sorted."""
    fs, path = filesystem(pattern_url)
    found = _tried(pattern_url, lambda: fs.glob(path))
    prefix = "" if is_local(pattern_url) else pattern_url.split("://", 1)[0] + "://"
    return sorted(prefix + name for name in found)


def delete(url: str) -> None:
    """Remove an object, or a folder and all in it; nothing happens if it is not there."""
    fs, path = filesystem(url)
    try:
        _tried(url, lambda: fs.rm(path, recursive=True))
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def check_writable(url: str) -> None:
    """Write and remove a small object, so that a run fails before its work and not after it."""
    probe = join(url, f".adaptfocus-{uuid.uuid4().hex}")
    write_bytes(probe, b"")
    delete(probe)


class RangeFile(io.RawIOBase):
    """A part of an object as a seekable file: what tar headers and demuxers read through.

    Reads go through blocks of `block_bytes` that are kept, at most `max_blocks` of them, so that a demuxer's many
    small reads become few requests (data-plane.md measured 256 KiB blocks as the general fallback).
    """

    def __init__(
        self, url: str, offset_bytes: int, size_bytes: int, block_bytes: int = 256 * 1024, max_blocks: int = 64
    ) -> None:
        super().__init__()
        self.url, self.offset_bytes, self.size_bytes = url, offset_bytes, size_bytes
        self.block_bytes = block_bytes
        self.requests = 0
        self._position = 0
        self._block = lru_cache(maxsize=max_blocks)(self._fetch)

    def _fetch(self, number: int) -> bytes:
        start = number * self.block_bytes
        self.requests += 1
        size = min(self.block_bytes, self.size_bytes - start)
        return read_ranges([self.url], [self.offset_bytes + start], [size])[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self.size_bytes if size < 0 else min(self.size_bytes, self._position + size)
        parts = []
        while self._position < end:
            number, inside = divmod(self._position, self.block_bytes)
            part = self._block(number)[inside : inside + end - self._position]
            parts.append(part)
            self._position += len(part)
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _container_exists(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether the bucket of an S3 path is there; always true where there are no buckets."""
    if "s3" not in fs.protocol:
        return True
    try:
        fs.call_s3("head_bucket", Bucket=path.split("/", 1)[0])
    except Exception:
        return False
    return True


def _shown(url: str) -> str:
    """A URL fit for messages: no query, since presigned URLs carry their signature there."""
    return url.split("?", 1)[0]


def _tried(url: str, action: Callable[[], T]) -> T:
    """Run `action`, again with jittered back-off while its error may pass, and name the place if it does not."""
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, Exception) and not isinstance(e, _FINAL)),
        stop=tenacity.stop_after_attempt(RETRY_ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.25, max=RETRY_MAX_WAIT_SECONDS),
        reraise=True,
    )
    try:
        return retry(action)
    except StorageError:
        raise
    except FileNotFoundError as error:
        if "bucket" in str(error).lower():
            bucket = url.split("://", 1)[-1].split("/", 1)[0]
            message = f"there is no bucket '{bucket}' ({_shown(url)}); create it, or correct the URL"
        else:
            message = f"there is nothing at {_shown(url)}; check the URL"
        raise StorageError(message) from error
    except PermissionError as error:
        raise StorageError(
            f"{_shown(url)} was refused by the store ({_reason(error)}); check the credentials in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or the file's permissions"
        ) from error
    except Exception as error:
        raise StorageError(
            f"{_shown(url)} could not be reached in {RETRY_ATTEMPTS} tries "
            f"({type(error).__name__}: {_reason(error)}); check the endpoint (AWS_ENDPOINT_URL) and the network"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of an error, short, without anything that looks like a signature or a key."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"(?i)(signature|credential|token|secret)=[^&\s]+", r"\1=...", text)[:200]
