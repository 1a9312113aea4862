"""URLs: join them, check them, make them absolute, and show them without secrets."""

from __future__ import annotations

import os
import posixpath
import re
import weakref
from collections.abc import Sequence
from typing import Any

from fsspec.core import url_to_fs

from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.store.limits import MOST_REQUESTS
from adaptfocus.pipelines.url_secrets import redact_secrets, secret_in

_S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,  # a run lists what other processes have just written
    "config_kwargs": {
        # One try below us: botocore's five tries, in s3fs's five, in ours, took 49 s to report a store that is down.
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": MOST_REQUESTS,  # with botocore's 10, requests would silently wait for each other
        # A server may send the checksum of the whole object with a range (rclone does).
        "response_checksum_validation": "when_required",
    },
}

_connected: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # filesystems with connections
_kept: list[Any] = []


def join(url: str, *parts: str) -> str:
    """``join("s3://b/x", "y", "z.json") -> "s3://b/x/y/z.json"``."""
    return posixpath.join(url.rstrip("/") if url != "/" else url, *parts)


def inside(folder_url: str, *parts: str) -> str:
    """`join` for names that come from data: the result is inside the folder, whatever links exist.

    Raises:
        StorageError: a name or a link leads out of the folder.
    """
    url, name = join(folder_url, *parts), "/".join(parts)
    climbs = name.startswith("/") or "://" in name or not {"", ".", ".."}.isdisjoint(name.split("/"))
    if not climbs and is_local(url):
        top, place = (os.path.realpath(filesystem(each)[1]) for each in (folder_url, posixpath.dirname(url)))
        climbs = os.path.commonpath([top, place]) != top
    if climbs:
        raise StorageError(
            f"{name!r} would lead out of {redact_url(folder_url)}; rename it, or remove the link on its way"
        )
    return url


def check_url(url: str) -> str:
    """Return `url` unless it contains credentials: they belong in the environment, never in a config or a log.

    Raises:
        StorageError: it has a user or a password, or a signature or a token in its query; neither is repeated.
    """
    found = secret_in(url)
    if found:
        scheme = url.split("://", 1)[0]
        raise StorageError(
            f"the {scheme}:// URL contains credentials; put them into the environment (AWS_ACCESS_KEY_ID, "
            f"AWS_SECRET_ACCESS_KEY) and leave them out of the URL ({found}): URLs are saved with indexes and "
            "runs. Download first what only a signed URL reaches"
        )
    return url


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL and the path inside it. Raises StorageError for a scheme it cannot load."""
    check_url(url)
    options = _S3_OPTIONS if url.startswith(("s3://", "s3a://")) else {}
    try:
        fs, path = url_to_fs(url, **options)
        if options:
            fs.retries = 1  # only our retries count, so that a process's budget holds
            _connected[id(fs)] = fs
        return fs, path
    except ImportError as error:
        raise StorageError(
            f"{redact_url(url)}: {error}; install the extra for this store (pip install 'adaptfocus[s3]')"
        ) from None
    except ValueError as error:
        raise StorageError(f"{redact_url(url)}: {error}") from None


def is_local(url: str) -> bool:
    """Whether the URL is a path on this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def is_s3(fs: Any) -> bool:
    return "s3" in fs.protocol


def redact_url(url: str) -> str:
    """A URL for messages: without a user, and without its query, where presigned URLs have their signature."""
    return redact_secrets(url).split("?", 1)[0] if "://" in url else url


_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def absolute(url: str) -> str:
    """`runs` -> `/data/runs`; `~/runs` -> `/data/me/runs`; `s3://bucket/runs` and `file:///runs` stay."""
    if not is_local(url) or "://" in url:
        return url
    return os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111


def is_folder_name(name: str) -> bool:
    """Whether any store takes the name for a folder: up to 100 of A-Z a-z 0-9 . _ -, first a letter or digit."""
    return _FOLDER_NAME.fullmatch(name) is not None


def common_folder(paths: Sequence[str]) -> str:
    """The deepest common folder of some paths or URLs, with its slash; empty if there is none."""
    folders = [path[: path.rfind("/") + 1] for path in paths]
    first, last = min(folders, default=""), max(folders, default="")
    same = next((n for n, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))  # noqa: B905
    return first[: first.rfind("/", 0, same) + 1]


def _keep() -> None:
    """Before a fork: fsspec lets go of its filesystems in the new process. As they are collected there, s3fs closes
    connections that are the parent's, on an event loop that does not run. So the new process keeps them."""
    _kept.extend(fs for ref in _connected.valuerefs() if (fs := ref()) is not None)


os.register_at_fork(before=_keep, after_in_parent=_kept.clear)
