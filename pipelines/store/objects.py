"""Objects at URLs through fsspec: every place is a URL (a local path, ``s3://bucket/key``, anything that fsspec knows).

This module reads whole objects and coalesced ranges, writes atomically, creates exclusively and lists. Errors that may
pass are retried with jittered back-off. Other errors become one message that names the place and the fix. S3 takes the
standard AWS environment variables and ``AWS_ENDPOINT_URL``. A secret is never part of a URL, a message or a config.
"""

from __future__ import annotations

import os
import posixpath
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fsspec.asyn import sync

from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.store import local, s3_get
from adaptfocus.pipelines.store.ranges import Range, Requests, requests_for
from adaptfocus.pipelines.store.reads import PROCESS, ReadConfig, ReadCounts, Version
from adaptfocus.pipelines.store.reasons import ShortReadError, error_code, replaced_error
from adaptfocus.pipelines.store.retry import with_retries
from adaptfocus.pipelines.store.s3_answers import version_text
from adaptfocus.pipelines.store.urls import filesystem, is_local, is_s3, join, redact_url
from adaptfocus.pipelines.store.wrong_files import describe_wrong_file

T = TypeVar("T")
_WRITER = "adaptfocus-writer"  # metadata of an exclusively created object: the attempt that made it


def read_bytes(url: str) -> bytes:
    """The whole object.

    Raises:
        InputError: it is a Git LFS pointer or a web page instead of data.
        StorageError: it cannot be read.
    """
    fs, path = filesystem(url)
    s3 = is_s3(fs)
    data = s3_get.get_whole(fs, url, ReadConfig(), PROCESS) if s3 else with_retries(url, lambda: fs.cat_file(path))
    if instead := describe_wrong_file(data):
        raise InputError(f"{url} {instead}")
    return data


def read_ranges(
    urls: Sequence[str],
    offsets_bytes: Sequence[int],
    sizes_bytes: Sequence[int],
    version: Version | None = None,
    config: ReadConfig | None = None,
    counts: ReadCounts | None = None,
) -> list[bytes]:
    """The bytes of ranges, in their order, fetched at the same time if the store can.

    Args:
        version: the object's version when it was indexed, if all ranges are of one object.
        config: how long to wait for S3.
        counts: where to add the counts of reads on S3.

    Raises:
        ReplacedError: the object is not `version`; only S3 and this machine's disks are checked.
        StorageError: the store cannot be read, or an object ends before its range does.
    """
    ranges = [Range(*each) for each in zip(urls, offsets_bytes, sizes_bytes, strict=True)]
    return read_requests(requests_for(ranges), version, config, counts)


def read_requests(
    requests: Requests,
    version: Version | None = None,
    config: ReadConfig | None = None,
    counts: ReadCounts | None = None,
) -> list[bytes]:
    """Like `read_ranges`, for ranges that have been joined into requests."""
    bodies: list[bytes] = []
    if requests.fetch:
        bodies = _fetched(requests.fetch, version, config or ReadConfig(), counts or ReadCounts(PROCESS))
    return requests.cut(bodies)


def _fetched(ranges: list[Range], version: Version | None, config: ReadConfig, counts: ReadCounts) -> list[bytes]:
    fs, path = filesystem(ranges[0].url)
    if is_s3(fs):
        return s3_get.get_ranges(fs, ranges, version, config, counts)
    if version and is_local(ranges[0].url):
        _check_local(fs, ranges[0].url, path, version)
    paths = [path if each.url == ranges[0].url else filesystem(each.url)[1] for each in ranges]
    starts = [each.offset_bytes for each in ranges]
    ends = [each.offset_bytes + each.size_bytes for each in ranges]

    def fetch() -> list[bytes]:
        if is_local(ranges[0].url):  # fsspec takes 0.4 ms a range
            parts = [local.read_range(*each) for each in zip(paths, starts, ends, strict=True)]
        else:
            parts = fs.cat_ranges(paths, starts, ends, on_error="raise")
        for (url, offset, size), part in zip(ranges, parts, strict=True):
            if len(part) != size:
                # A short body means a broken connection (retried) or a replaced object.
                raise ShortReadError(f"{redact_url(url)}: asked for {size} bytes from {offset}, got {len(part)}")
        return parts

    return with_retries(ranges[0].url, fetch)


def _check_local(fs: Any, url: str, path: str, version: Version) -> None:
    """Raises ReplacedError if a file's size or time of modification differs from what `size_and_tag` gave."""
    try:
        now = _version_in(fs.info(path))
    except FileNotFoundError as error:
        raise replaced_error(url, f"it had {version_text(version)}; it is not there") from error
    if now != version:
        raise replaced_error(url, f"it had {version_text(version)}; it has {version_text(now)}")


def _version_in(info: dict[str, Any]) -> Version:
    """The version of a file by fsspec's info: its size, and its ETag or (locally) time of modification."""
    tag = info.get("ETag") or info.get("etag") or str(info.get("mtime", ""))
    return Version(int(info["size"]), str(tag).strip('"'))


def _tried(fs: Any, url: str, action: Callable[[], T]) -> T:
    """`with_retries`; on S3, credentials that have expired are requested again."""
    return with_retries(url, action, (lambda: sync(fs.loop, s3_get.renew, fs)) if is_s3(fs) else None)


def write_bytes(url: str, data: bytes) -> None:
    """Write the whole object at once: a reader sees the old bytes or the new ones, never a part."""
    fs, path = filesystem(url)
    if is_local(url):
        with_retries(url, lambda: os.replace(local.write_part(path, data), path))  # noqa: PTH105
    else:
        _tried(fs, url, lambda: fs.pipe_file(path, data))


def create_exclusive(url: str, data: bytes) -> bool:
    """Write the object only if none exists; False if another process was first.

    On S3 this is a conditional put (``If-None-Match: *``), on local disks a hard link: both leave either nothing
    or the whole object. Several processes may each believe that they train a run. Exclusive creation keeps the run's
    checkpoints a single lineage (each has one predecessor, docs/decisions/0002).
    """
    fs, path = filesystem(url)
    if is_local(url):
        return with_retries(url, lambda: local.link_exclusive(path, data))
    if not is_s3(fs):
        return _tried(fs, url, lambda: _created(lambda: fs.pipe_file(path, data, mode="create")))
    # A put whose answer was lost is sent again, by us or by the client below us, and then finds its own object. The
    # mark distinguishes it from another process's object with the same bytes.
    mark = uuid.uuid4().hex

    def create() -> bool:
        if _created(lambda: fs.pipe_file(path, data, mode="create", Metadata={_WRITER: mark})):
            return True
        bucket, _, key = path.partition("/")
        return fs.call_s3("head_object", Bucket=bucket, Key=key)["Metadata"].get(_WRITER) == mark

    return _tried(fs, url, create)


def _created(put: Callable[[], Any]) -> bool:
    """Whether a conditional put succeeded; False if the store says that an object exists."""
    try:
        put()
    except FileExistsError:
        return False
    except OSError as error:
        # s3fs raises FileExistsError only for Amazon's answer: Ceph's answer lacks the field that it checks.
        if error_code(error) not in ("PreconditionFailed", "412"):
            raise
        return False
    return True


def exists(url: str) -> bool:
    """Whether an object (or, locally, a file or folder) exists at the URL."""
    fs, path = filesystem(url)
    return bool(_tried(fs, url, lambda: fs.exists(path)))


def size_and_tag(url: str) -> Version:
    """Size in bytes and a tag that changes with the content (ETag, or the local modification time)."""
    fs, path = filesystem(url)
    return _version_in(_tried(fs, url, lambda: fs.info(path)))


def list_files(url: str) -> list[str]:
    """URLs of the files directly in a folder, sorted by name; empty if there is no such folder."""
    return _listed(url, "file")


def list_folders(url: str) -> list[str]:
    """URLs of the folders directly in a folder, sorted by name; empty if there is no such folder."""
    return _listed(url, "directory")


def _listed(url: str, kind: str) -> list[str]:
    fs, path = filesystem(url)
    try:
        entries = _tried(fs, url, lambda: fs.ls(path, detail=True))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError) and _container_exists(fs, path):
            return []
        raise
    folder = path.rstrip("/")  # a listing of a file shows the file itself
    inside = [e["name"].rstrip("/") for e in entries if local.kind_of(e) == kind]
    names = [posixpath.basename(name) for name in inside if name != folder]
    return [join(url, name) for name in sorted(names) if name and not name.endswith(".part")]


def glob(pattern_url: str) -> list[str]:
    """URLs that match a glob pattern, sorted; empty if none does. Raises StorageError if there is no such bucket."""
    fs, path = filesystem(pattern_url)
    found = _tried(fs, pattern_url, lambda: fs.glob(path))
    if not found and not _container_exists(fs, path):
        bucket = path.split("/", 1)[0]
        raise StorageError(f"there is no bucket '{bucket}' ({redact_url(pattern_url)}); create it, or correct the URL")
    prefix = "" if is_local(pattern_url) else pattern_url.split("://", 1)[0] + "://"
    return sorted(prefix + name for name in found)


def delete(url: str) -> None:
    """Remove an object; does nothing if it does not exist."""
    fs, path = filesystem(url)
    try:
        _tried(fs, url, lambda: fs.rm_file(path))
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def check_writable(url: str) -> None:
    """Write and remove a small object, so that a run fails before its work and not after it."""
    probe = join(url, f".adaptfocus-{uuid.uuid4().hex}")
    write_bytes(probe, b"")
    delete(probe)


def _container_exists(fs: Any, path: str) -> bool:
    """Whether the bucket of an S3 path exists; always true for stores without buckets."""
    if not is_s3(fs):
        return True
    try:
        fs.call_s3("head_bucket", Bucket=path.split("/", 1)[0])
    except Exception as error:  # any other error here says nothing about the bucket
        return not isinstance(error, FileNotFoundError) and error_code(error) not in ("404", "NoSuchBucket")
    return True
