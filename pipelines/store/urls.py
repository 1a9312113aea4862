"""URLs: joined, checked, made absolute, and shown without their secrets."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from typing import Any

from fsspec.core import url_to_fs

from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.store.limits import MOST_REQUESTS
from adaptfocus.pipelines.url_secrets import redact_secrets, secret_in

_S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,  # a run lists what other processes have just written
    "config_kwargs": {
        # One try below us: botocore's five, within s3fs's five, within ours took 49 s to say that a store is down.
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": MOST_REQUESTS,  # with botocore's 10, requests would wait for each other unseen
        # A server may send the checksum of the whole object with a range of it (rclone does).
        "response_checksum_validation": "when_required",
    },
}


def join(url: str, *parts: str) -> str:
    """``join("s3://b/x", "y", "z.json") -> "s3://b/x/y/z.json"``."""
    return posixpath.join(url.rstrip("/") if url != "/" else url, *parts)


def inside(folder_url: str, *parts: str) -> str:
    """`join`, for names that come from data: what they name lies in the folder, whatever links there are.

    Raises:
        StorageError: a name leads out of the folder, or a link in it does.
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
    """Return `url` unless it carries credentials; they belong in the environment, never in a config or a log.

    Raises:
        StorageError: it has a user or a password, or a signature or a token in its query; neither is repeated.
    """
    found = secret_in(url)
    if found:
        scheme = url.split("://", 1)[0]
        raise StorageError(
            f"the {scheme}:// URL contains credentials; put them into the environment (AWS_ACCESS_KEY_ID, "
            f"AWS_SECRET_ACCESS_KEY) and leave them out of the URL, where {found} is one: URLs are saved with indexes "
            "and runs. What only a signed URL reaches, download first"
        )
    return url


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL and the path inside it. Raises StorageError for a scheme it cannot load."""
    check_url(url)
    options = _S3_OPTIONS if url.startswith(("s3://", "s3a://")) else {}
    try:
        fs, path = url_to_fs(url, **options)
        if options:
            fs.retries = 1  # ours are the only ones, so that a process's budget of them holds
        return fs, path
    except ImportError as error:
        raise StorageError(
            f"{redact_url(url)}: {error}; install the extra for this store (pip install 'adaptfocus[s3]')"
        ) from None
    except ValueError as error:
        raise StorageError(f"{redact_url(url)}: {error}") from None


def is_local(url: str) -> bool:
    """Whether the URL is a path of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def is_s3(fs: Any) -> bool:
    return "s3" in fs.protocol


def redact_url(url: str) -> str:
    """A URL fit for messages: no query, since presigned URLs carry their signature there, and no user."""
    return redact_secrets(url).split("?", 1)[0] if "://" in url else url


_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def absolute(url: str) -> str:
    """`runs` -> `/data/runs`; `~/runs` -> `/data/me/runs`; `s3://bucket/runs` and `file:///runs` stay."""
    if not is_local(url) or "://" in url:
        return url
    return os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111


def is_folder_name(name: str) -> bool:
    """Whether a name is that of one folder, in any store: up to 100 of A-Z, a-z, 0-9, '.', '_', '-', no sign first."""
    return _FOLDER_NAME.fullmatch(name) is not None


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that holds all of some paths or URLs, with its slash; empty if there is none."""
    folders = [path[: path.rfind("/") + 1] for path in paths]
    first, last = min(folders, default=""), max(folders, default="")
    same = next((n for n, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))  # noqa: B905
    return first[: first.rfind("/", 0, same) + 1]
