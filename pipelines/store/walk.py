"""Every file below a folder, however deep.

On this machine's disks, links to folders are followed, because people link their videos from other disks. Each real
folder is visited once.
"""

from __future__ import annotations

import os
import posixpath

from adaptfocus.pipelines.store import objects, urls


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
