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
from adaptfocus.pipelines.annotations.names import check_id, check_unique, normal_id
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store.urls import absolute, common_folder

# Compressed tars are listed too, so that they are refused with a reason instead of being overlooked.
_TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


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
    found: list[str] = []
    for pattern in map(store.check_url, patterns):
        try:
            urls = list(braceexpand.braceexpand(pattern))
        except ValueError:  # UnbalancedBracesError
            raise InputError(f"{pattern}: the braces do not close; write train-{{000000..000009}}.tar") from None
        for url in urls:
            found += _expanded(absolute(url))
    return list(dict.fromkeys(found))


def shard_names(urls: Sequence[str]) -> list[str]:
    """A unique name for each shard: its path below the common folder of all shards, without ``.tar``.

    Raises:
        InputError: two shards have the same name, or one cannot be part of an id.
    """
    paths = [url.split("?", 1)[0] if "://" in url else url for url in urls]
    root = common_folder(paths)
    names = [re.sub(r"\.tar$", "", normal_id(path[len(root) :]), flags=re.IGNORECASE) for path in paths]
    check_unique(zip(names, urls, strict=True), "rename one of the shards")
    return [check_id(name.replace("://", "/"), url) for name, url in zip(names, urls, strict=True)]


def _expanded(url: str) -> list[str]:
    is_web = url.startswith(("http://", "https://"))  # "?" begins a query there
    if re.search(r"[*\[]" if is_web else r"[*?\[]", url) and not (store.is_local(url) and store.exists(url)):
        found = store.glob(url)
        if not found:
            raise InputError(f"no shard matches {url}; check the pattern and the folder")
        return found
    if url.split("?", 1)[0].lower().endswith(_TAR_NAMES):
        return [url]
    found = [file for file in store.list_files(url) if file.lower().endswith(_TAR_NAMES)]
    if not found and store.filesystem(url)[0].isfile(store.filesystem(url)[1]):
        return [url]
    if not found:
        raise InputError(f"there is no *.tar in {url}; give a folder of shards, a glob or a range")
    return found
