"""Every file below a folder, however deep, and many files removed at once.

On this machine's disks, links to folders are followed, because people link their videos from other disks. Each real
folder is visited once.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from adaptfocus.pipelines.store import objects, urls
from adaptfocus.pipelines.store.retry import with_retries

DELETE_THREADS = 16  # they wait for the store


class Found(NamedTuple):
    """A file as a listing shows it."""

    url: str
    size_bytes: int
    modified: float  # seconds since 1970, by the store's clock; infinite if the store does not say


def listed_below(folder_url: str) -> list[Found]:
    """All files below a folder with sizes and ages, sorted; empty if there is no such folder.

    Parts of files that a writer has left on a disk, `*.part`, are listed too. Links to folders are not followed.

    Raises:
        StorageError: the store cannot be read.
    """
    fs, path = urls.filesystem(folder_url)
    entries: dict[str, dict[str, Any]] = with_retries(folder_url, lambda: fs.find(path, detail=True))
    top = path.rstrip("/") + "/"
    files = [(name.removeprefix(top), info) for name, info in entries.items() if info.get("type") == "file"]
    return sorted(Found(urls.join(folder_url, name), int(info["size"]), _modified(info)) for name, info in files)


def _modified(info: dict[str, Any]) -> float:
    said = next((info[name] for name in ("LastModified", "mtime", "created") if info.get(name)), None)
    return said.timestamp() if isinstance(said, datetime) else float(said or "inf")


def delete_files(file_urls: Sequence[str], progress: Callable[[int, int], object] = lambda *_: None) -> None:
    """Remove objects; those that are gone already do not matter. On a disk, folders that this empties go too."""
    with ThreadPoolExecutor(DELETE_THREADS) as threads:
        for done, _ in enumerate(threads.map(objects.delete, file_urls), 1):
            progress(done, len(file_urls))
    folders = {posixpath.dirname(urls.filesystem(url)[1]) for url in file_urls if urls.is_local(url)}
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not empty, or another process was first
            Path(folder).rmdir()


def files_below(folder_url: str) -> list[str]:
    """URLs of all files below a folder, sorted; empty if there is no such folder.

    Raises:
        StorageError: there is no such bucket, or the store cannot be read.
    """
    if not urls.is_local(folder_url):
        # Brackets in a key are not a pattern here.
        literal = "".join(f"[{c}]" if c in "*?[" else c for c in folder_url.rstrip("/"))
        found = objects.glob(urls.join(literal, "**"))
        folders = {posixpath.dirname(url) for url in found}  # folders are listed too
        return [url for url in found if url not in folders and not url.endswith("/")]
    root = urls.filesystem(folder_url)[1]
    seen: set[str] = set()
    names_below: list[str] = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        names_below += [posixpath.join("" if inside == "." else inside, name) for name in names]
    return [urls.join(folder_url, name) for name in sorted(names_below) if not name.endswith(".part")]
