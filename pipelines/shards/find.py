"""Expand what a user writes for "these shards" (URLs, globs, brace ranges, folders) to the URLs of the shards, in
order.

A pattern that finds nothing is an error, not an empty list. Local paths are made absolute, because an index outlives
the folder it was made in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import braceexpand

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import VIDEO_EXTENSIONS, check_id, check_unique, normal_id
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store.urls import absolute, common_folder

# Compressed tars are listed too, so that they are refused with a reason instead of being overlooked.
_TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
VIDEO_NAMES = tuple(f".{extension}" for extension in sorted(VIDEO_EXTENSIONS))


def find_shards(patterns: Sequence[str]) -> list[str]:
    """The shards that the patterns name, each once, in the order of the patterns.

    Raises:
        InputError: a pattern cannot be parsed or finds no tar.
        StorageError: a folder or bucket cannot be listed.
    """
    if not patterns:
        raise InputError(
            "no shards were given; give URLs, a glob, a range such as train-{000000..000009}.tar or a folder"
        )
    return _found(patterns, _TAR_NAMES, "there is no *.tar in {}; give a folder of shards, a glob or a range")


def find_videos(patterns: Sequence[str]) -> list[str]:
    """The plain video files that the patterns name, as `find_shards` finds tars.

    Raises:
        InputError: a pattern cannot be parsed or finds no video.
        StorageError: a folder or bucket cannot be listed.
    """
    return _found(
        patterns,
        VIDEO_NAMES,
        "there is no video in {}, and it is no index; give an index, a folder of videos, their URLs or a glob",
    )


def shard_names(urls: Sequence[str]) -> list[str]:
    """A unique name for each shard: its path below the common folder of all shards, without ``.tar``.

    Raises:
        InputError: two shards have the same name, or one cannot be part of an id.
    """
    paths = [url.split("?", 1)[0] if "://" in url else url for url in urls]
    root = common_folder(paths)
    names = [re.sub(r"\.tar$", "", normal_id(path[len(root) :]), flags=re.IGNORECASE) for path in paths]
    check_unique(zip(names, urls, strict=True), "rename one of the shards")
    # Places of several kinds have no common folder: their names are the whole paths, below no root.
    return [check_id(name.replace("://", "/").lstrip("/"), url) for name, url in zip(names, urls, strict=True)]


def _found(patterns: Sequence[str], endings: tuple[str, ...], none: str) -> list[str]:
    found: list[str] = []
    for pattern in map(store.check_url, patterns):
        for url in _without_braces(pattern):
            found += _expanded(absolute(url), endings, none)
    return list(dict.fromkeys(found))


def _without_braces(pattern: str) -> list[str]:
    """Ranges in braces, expanded. A local file may have braces in its name."""
    if "{" in pattern and store.is_local(pattern) and store.exists(absolute(pattern)):
        return [pattern]
    try:
        return list(braceexpand.braceexpand(pattern))
    except ValueError:  # UnbalancedBracesError
        raise InputError(f"{pattern}: the braces do not close; write train-{{000000..000009}}.tar") from None


def _expanded(url: str, endings: tuple[str, ...], none: str) -> list[str]:
    is_web = url.startswith(("http://", "https://"))  # "?" begins a query there
    if re.search(r"[*\[]" if is_web else r"[*?\[]", url) and not (store.is_local(url) and store.exists(url)):
        found = store.glob(url)
        if not found:
            what = "shard" if endings is _TAR_NAMES else "file"
            raise InputError(f"no {what} matches {url}; check the pattern and the folder")
        return found
    if url.split("?", 1)[0].lower().endswith(endings):
        return [url]
    # Videos lie in folders of folders; what lies below a folder of shards may be of another split.
    files = store.list_files(url) if endings is _TAR_NAMES else store.files_below(url)
    found = [file for file in files if file.lower().endswith(endings)]
    if not found and store.filesystem(url)[0].isfile(store.filesystem(url)[1]):
        return [url]
    if not found:
        raise InputError(none.format(url))
    return found
