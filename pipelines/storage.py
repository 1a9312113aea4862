"""Every place is a URL: the object store through fsspec.

Input: URLs (a local path, ``s3://bucket/key``, anything fsspec knows).
Does: whole reads, coalesced range reads, atomic writes, exclusive creation, listings; retries what may pass with
jittered back-off; turns a store's errors into one message that names the place and the mend.
Output: bytes. S3 takes the standard AWS environment variables and ``AWS_ENDPOINT_URL``; no secret is ever part
of a URL, a message or a config.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from fsspec.core import url_to_fs

from pipelines.errors import StorageError
from pipelines.ranges import Range, coalesce
from pipelines.store_errors import ShortReadError, error_code, shown, tried

_S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,  # a run lists what other processes have just written
    # One try below us: botocore's five, within s3fs's five, within ours took 49 s to say that a store is down.
    "config_kwargs": {"retries": {"total_max_attempts": 1}},
}
_WRITER = "adaptfocus-writer"  # metadata of an exclusively created object: which attempt made it


def join(url: str, *parts: str) -> str:
    """``join("s3://b/x", "y", "z.json") -> "s3://b/x/y/z.json"``."""
    return posixpath.join(url.rstrip("/") if url != "/" else url, *parts)


def check_url(url: str) -> str:
    """Return `url` unless it carries credentials; they belong in the environment, never in a config or a log."""
    # A secret may hold slashes, and after a port (digits, then a slash) an @ is an innocent part of the path.
    if re.match(r"^[a-z0-9+.-]+://[^/@:]*:(?!\d+/)[^@]*@", url, re.IGNORECASE):
        scheme = url.split("://", 1)[0]
        raise StorageError(
            f"the {scheme}:// URL contains credentials; put them into the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and leave them out of the URL"
        )
    return url


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL and the path inside it. Raises StorageError for a scheme it cannot load."""
    check_url(url)
    options = _S3_OPTIONS if url.startswith(("s3://", "s3a://")) else {}
    try:
        return url_to_fs(url, **options)
    except ImportError as error:
        raise StorageError(
            f"{shown(url)}: {error}; install the extra for this store (pip install 'adaptfocus[s3]')"
        ) from None
    except ValueError as error:
        raise StorageError(f"{shown(url)}: {error}") from None


def is_local(url: str) -> bool:
    """Whether the URL is a path of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def read_bytes(url: str) -> bytes:
    """The whole object."""
    fs, path = filesystem(url)
    return tried(url, lambda: fs.cat_file(path))


def read_ranges(urls: Sequence[str], offsets_bytes: Sequence[int], sizes_bytes: Sequence[int]) -> list[bytes]:
    """One range of each object, fetched at the same time where the store can; in the order asked for.

    Raises:
        StorageError: the store cannot be read, or an object ends before its range does.
    """
    ranges = [Range(*each) for each in zip(urls, offsets_bytes, sizes_bytes, strict=True)]
    wanted = [each for each in ranges if each.size_bytes > 0]  # HTTP has no way to ask for an empty range
    fetch, places = coalesce(wanted)
    bodies = _fetched(fetch) if fetch else []
    found = iter(places)

    def cut(size: int) -> bytes:
        if size <= 0:
            return b""
        place = next(found)
        return bodies[place.fetched][place.inside_bytes : place.inside_bytes + size]

    return [cut(size) for size in sizes_bytes]


def _fetched(ranges: list[Range]) -> list[bytes]:
    fs, _ = filesystem(ranges[0].url)
    paths = [filesystem(each.url)[1] for each in ranges]
    starts = [each.offset_bytes for each in ranges]
    ends = [each.offset_bytes + each.size_bytes for each in ranges]

    def fetch() -> list[bytes]:
        parts = fs.cat_ranges(paths, starts, ends, on_error="raise")
        for (url, offset, size), part in zip(ranges, parts, strict=True):
            if len(part) != size:
                # A short body may be a broken connection (tried again) or an object that has been replaced.
                raise ShortReadError(f"{shown(url)}: asked for {size} bytes from {offset}, got {len(part)}")
        return parts

    return tried(ranges[0].url, fetch)


def write_bytes(url: str, data: bytes) -> None:
    """Write the whole object at once: a reader sees the old bytes or the new, never a part."""
    fs, path = filesystem(url)
    if is_local(url):
        tried(url, lambda: os.replace(_write_part(path, data), path))  # noqa: PTH105
    else:
        tried(url, lambda: fs.pipe_file(path, data))


def create_exclusive(url: str, data: bytes) -> bool:
    """Write the object only if nothing is there yet; False if somebody was first.

    On S3 this is a conditional put (``If-None-Match: *``), on local disks a hard link: both leave either nothing
    or the whole object. It is what makes one lineage of checkpoints out of several processes that may all
    believe that they are in charge (docs/decisions/0002).
    """
    fs, path = filesystem(url)
    if is_local(url):
        return tried(url, lambda: _link_exclusive(path, data))
    if "s3" not in fs.protocol:
        return tried(url, lambda: _created(lambda: fs.pipe_file(path, data, mode="create")))
    # A put whose answer was lost is sent again, by us or by the client below us, and then finds its own object.
    # The mark tells it from another's with the same bytes.
    mark = uuid.uuid4().hex

    def create() -> bool:
        if _created(lambda: fs.pipe_file(path, data, mode="create", Metadata={_WRITER: mark})):
            return True
        bucket, _, key = path.partition("/")
        return fs.call_s3("head_object", Bucket=bucket, Key=key)["Metadata"].get(_WRITER) == mark

    return tried(url, create)


def _created(put: Callable[[], Any]) -> bool:
    """Whether a conditional put went through; False if the store says that something is there."""
    try:
        put()
    except FileExistsError:
        return False
    except OSError as error:
        # s3fs makes FileExistsError of Amazon's answer only: Ceph's lacks the field that it looks for.
        if error_code(error) not in ("PreconditionFailed", "412"):
            raise
        return False
    return True


def _write_part(path: str, data: bytes) -> str:
    """Write `data` beside `path`, to disk and not only to its cache; the path of the part."""
    os.makedirs(posixpath.dirname(path) or ".", exist_ok=True)  # noqa: PTH103
    part = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with open(part, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)  # noqa: PTH108
        raise
    return part


def _link_exclusive(path: str, data: bytes) -> bool:
    part = _write_part(path, data)
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(part)  # noqa: PTH108
    return True


def exists(url: str) -> bool:
    """Whether there is an object (or, locally, a file or folder) at the URL."""
    fs, path = filesystem(url)
    return bool(tried(url, lambda: fs.exists(path)))


def size_and_tag(url: str) -> tuple[int, str]:
    """Size in bytes and a tag that changes with the content (ETag, or the local modification time)."""
    fs, path = filesystem(url)
    info = tried(url, lambda: fs.info(path))
    tag = info.get("ETag") or info.get("etag") or str(info.get("mtime", ""))
    return int(info["size"]), str(tag).strip('"')


def list_files(url: str) -> list[str]:
    """URLs of the files directly in a folder, sorted by name; empty if there is no such folder."""
    return _listed(url, "file")


def list_folders(url: str) -> list[str]:
    """URLs of the folders directly in a folder, sorted by name; empty if there is no such folder."""
    return _listed(url, "directory")


def _listed(url: str, kind: str) -> list[str]:
    fs, path = filesystem(url)
    try:
        entries = tried(url, lambda: fs.ls(path, detail=True))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError) and _container_exists(fs, path):
            return []
        raise
    folder = path.rstrip("/")  # a listing of a file shows the file itself
    inside = [e["name"].rstrip("/") for e in entries if e["type"] == kind]
    names = [posixpath.basename(name) for name in inside if name != folder]
    return [join(url, name) for name in sorted(names) if name and not name.endswith(".part")]


def glob(pattern_url: str) -> list[str]:
    """URLs that match a glob pattern, sorted; empty if none does. Raises StorageError if there is no such bucket."""
    fs, path = filesystem(pattern_url)
    found = tried(pattern_url, lambda: fs.glob(path))
    if not found and not _container_exists(fs, path):
        bucket = path.split("/", 1)[0]
        raise StorageError(f"there is no bucket '{bucket}' ({shown(pattern_url)}); create it, or correct the URL")
    prefix = "" if is_local(pattern_url) else pattern_url.split("://", 1)[0] + "://"
    return sorted(prefix + name for name in found)


def delete(url: str) -> None:
    """Remove an object; nothing happens if it is not there."""
    fs, path = filesystem(url)
    try:
        tried(url, lambda: fs.rm_file(path))
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
    small reads become few requests (of 256 KiB: 4.5 to 5 times the bytes a clip needs, in 7 to 10 requests).
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


def _container_exists(fs: Any, path: str) -> bool:
    """Whether the bucket of an S3 path is there; always true where there are no buckets."""
    if "s3" not in fs.protocol:
        return True
    try:
        fs.call_s3("head_bucket", Bucket=path.split("/", 1)[0])
    except Exception as error:  # whatever else goes wrong here says nothing about the bucket
        return not isinstance(error, FileNotFoundError) and error_code(error) not in ("404", "NoSuchBucket")
    return True
