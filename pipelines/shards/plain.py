"""Plain video files, each of which is indexed as a shard with one member: its id, or why it is left out."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import LOOKUP_THREADS
from adaptfocus.pipelines.annotations.names import normal_id, unsafe_reason
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.shards.find import VIDEO_NAMES, find_videos
from adaptfocus.pipelines.shards.members import Refusal
from adaptfocus.pipelines.store.urls import common_folder

_ENDING = re.compile(rf"({'|'.join(map(re.escape, VIDEO_NAMES))})$", re.IGNORECASE)
# Of one file, whereas other errors are of the whole store.
_OF_ONE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError)


@dataclass(frozen=True)
class PlainFile:
    """A video file."""

    url: str  # printable
    video_id: str
    size_bytes: int = 0
    tag: str = ""  # changes with the content
    refusal: Refusal | None = None  # why it cannot be indexed


def plain_files(patterns: Sequence[str]) -> list[PlainFile]:
    """The video files that the patterns name, looked up. A file that is not there or has no usable name is refused.

    A video's id is its path below the folder that all files share. It has no extension, unless another file has the
    same id then.

    Raises:
        InputError: a pattern cannot be parsed or finds no video.
        StorageError: a folder or bucket cannot be listed, or a store cannot be read.
    """
    urls = find_videos(patterns)
    files = [_named(url, video_id) for url, video_id in zip(urls, video_ids(urls), strict=True)]
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        return list(threads.map(_looked_up, files))


def printable(url: str) -> str:
    """A URL that can be stored: the name of a local file may be no UTF-8."""
    return url.encode("utf-8", "backslashreplace").decode()


def video_ids(urls: Sequence[str]) -> list[str]:
    """The id of each file, before it is checked."""
    paths = [url.split("?", 1)[0] if "://" in url else url for url in urls]
    root = common_folder(paths)
    # Places of several kinds have no common folder: their ids are the whole paths, below no root.
    whole = [normal_id(path[len(root) :]).replace("://", "/").lstrip("/") for path in paths]
    short = [_ENDING.sub("", name) for name in whole]
    count = Counter(short)
    return [
        stem if count[stem] == 1 and not unsafe_reason(stem) else name for stem, name in zip(short, whole, strict=True)
    ]


def _named(url: str, video_id: str) -> PlainFile:
    reason = unsafe_reason(video_id)
    if reason is None:
        return PlainFile(url, video_id)
    shown, is_text = printable(url), printable(url) == url
    kind = "unsafe_name" if is_text else "name_not_utf8"
    why = f"its name cannot be used, because {reason if is_text else 'it is not UTF-8'}; rename the file"
    # The id of a refused row is shown only.
    return PlainFile(shown, ascii(video_id)[1:-1], tag=kind, refusal=_refusal(kind, why, shown, video_id))


def _looked_up(file: PlainFile) -> PlainFile:
    if file.refusal:
        return file
    try:
        size_bytes, tag = store.size_and_tag(file.url)
    except StorageError as error:
        if not isinstance(error.__cause__, _OF_ONE_FILE):
            raise
        refusal = _refusal("missing_file", str(error), file.url, file.video_id)
        return PlainFile(file.url, file.video_id, tag=refusal.kind, refusal=refusal)
    return PlainFile(file.url, file.video_id, size_bytes, tag)


def _refusal(kind: str, message: str, url: str, video_id: str) -> Refusal:
    name = posixpath.basename(url.split("?", 1)[0])
    return Refusal(kind, message, ascii(name)[1:-1] if not name.isprintable() else name, ascii(video_id)[1:-1])
