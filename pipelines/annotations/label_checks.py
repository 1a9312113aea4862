"""What looks like a slip in lists of labels and videos, before anything is trained on it.

Input: a class list; videos with their splits. Does: compares names with names, files with files.
Output: sentences for whoever packs. Nothing is changed: two classes may well differ in little.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo
from adaptfocus.pipelines.store.urls import redact_url

SHOWN = 5
_SEPARATORS = re.compile(r"[,;|/+&]")


def label_warnings(names: Sequence[str]) -> list[str]:
    """Class names that differ only in case or punctuation, and names that look like several labels in one."""
    same = _alike(names)
    known = {name.casefold() for name in names}
    joined = [name for name in names if _is_joined(name, known)]
    found = []
    if same:
        found.append(f"classes that differ only in case or punctuation: {_some(same)}; write each in one way")
    if joined:
        shown_names = _some([repr(name) for name in joined])
        found.append(
            f"labels that look like several in one: {shown_names}; a CSV separates labels by ';', JSON by a list"
        )
    return found


def _alike(names: Iterable[str]) -> list[str]:
    """Names that differ only in case or punctuation."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike["".join(c for c in name.casefold() if c.isalnum()) or name].append(name)
    return [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]


def _is_joined(name: str, known: set[str]) -> bool:
    """Whether a name falls into classes at a separator, or has one that lists are written with."""
    parts = [part.strip().casefold() for part in _SEPARATORS.split(name)]
    return len(parts) > 1 and (any(part in known for part in parts) or bool(re.search(r"[;|]|,\S", name)))


def video_warnings(videos: Iterable[AnnotatedVideo]) -> list[str]:
    """Files that several rows name, above all those that are in two splits; groups whose names are nearly one."""
    videos = list(videos)
    rows: dict[str, list[AnnotatedVideo]] = defaultdict(list)
    for video in videos:
        if video.path:
            rows[os.path.realpath(video.path) if store.is_local(video.path) else video.path].append(video)
    shared = {path: group for path, group in rows.items() if len(group) > 1}
    across = {p: g for p, g in shared.items() if len({video.split for video in g}) > 1}
    found = []
    if across:
        splits = sorted({str(video.split or "none") for group in across.values() for video in group})
        said = f"splits share files ({' and '.join(splits)}): {_some([redact_url(path) for path in across])}"
        found.append(f"{said}; what is trained on must not be tested on")
    if twice := [redact_url(path) for path in shared if path not in across]:
        found.append(f"files under several ids: {_some(twice)}; keep one row of each")
    if same := _alike(dict.fromkeys(video.group for video in videos if video.group)):
        found.append(f"groups that differ only in case or punctuation: {_some(same)}; write each in one way")
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
