"""Places as they stay: a path of this machine begins at its root, whatever folder a command is given in.

Input: a URL or a path. Does: makes a path absolute; a URL stays as it is.
Output: what may be written down, and handed to processes that work in folders of their own.
"""

from __future__ import annotations

import os

from pipelines import storage


def absolute(url: str) -> str:
    """`runs` -> `/data/runs`; `~/runs` -> `/data/me/runs`; `s3://bucket/runs` and `file:///runs` stay."""
    if not storage.is_local(url) or "://" in url:
        return url
    return os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111
