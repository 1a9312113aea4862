"""Places as they stay: a path of this machine begins at its root, whatever folder a command is given in.

Input: a URL or a path. Does: makes a path absolute; a URL stays as it is.
Output: what may be written down, and handed to processes that work in folders of their own.
"""

from __future__ import annotations

import os
import re

from adaptfocus.pipelines import storage

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def absolute(url: str) -> str:
    """`runs` -> `/data/runs`; `~/runs` -> `/data/me/runs`; `s3://bucket/runs` and `file:///runs` stay."""
    if not storage.is_local(url) or "://" in url:
        return url
    return os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111


def is_folder_name(name: str) -> bool:
    """Whether a name is that of one folder, in any store: up to 100 of A-Z, a-z, 0-9, '.', '_', '-', no sign first."""
    return _FOLDER_NAME.fullmatch(name) is not None
