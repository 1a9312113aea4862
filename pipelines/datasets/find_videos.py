"""Which file is which video: by name, in whatever folders people keep them.

Input: the names each video's file may go by; folders. Does: lists the folders once and looks names up.
Output: a URL a video, or a Problem that says that there is none, or more than one.

A name is a path without its extension, such as ``P03/cam01/P03_tea``: a file has it if its own path ends in those
segments. Upper and lower case differ: identifiers of YouTube differ in nothing else.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence

from adaptfocus.pipelines.annotations.names import VIDEO_EXTENSIONS, normal_id
from adaptfocus.pipelines.annotations.rows import Problem
from adaptfocus.pipelines.store.walk import files_below


def find_videos(
    names_of: Mapping[str, Sequence[str]], folder_urls: Sequence[str]
) -> tuple[dict[str, tuple[str, str]], list[Problem]]:
    """Look each video up under its names, in their order; the first name that any file has decides.

    Args:
        names_of: names by video id.

    Returns:
        (URL, name) of each video that was found, and a Problem for each other: ``missing_video`` where no file has
        one of its names, ``ambiguous_video`` where several have the same (none of them is taken).

    Raises:
        StorageError: a folder cannot be listed.
    """
    by_stem: dict[str, list[tuple[str, str]]] = defaultdict(list)  # last segment -> (path without extension, URL)
    for url in dict.fromkeys(url for folder in folder_urls for url in files_below(folder)):
        path, extension = posixpath.splitext(url)
        if extension.removeprefix(".").lower() in VIDEO_EXTENSIONS:
            path = normal_id(path)  # macOS writes names in another Unicode form than most lists
            by_stem[posixpath.basename(path)].append((path, url))
    found: dict[str, tuple[str, str]] = {}
    problems: list[Problem] = []
    for video_id, names in names_of.items():
        for name in names:
            urls = [url for path, url in by_stem[posixpath.basename(name)] if f"/{path}".endswith(f"/{name}")]
            if urls:
                break
        else:
            tried = " or ".join(f"{name}.*" for name in names)
            problems.append(Problem("missing_video", video_id, f"no video is called {tried}"))
            continue
        if len(urls) > 1:
            shown = ", ".join(urls[:3]) + (", ..." if len(urls) > 3 else "")
            said = f"{len(urls)} videos are called {name}: {shown}; give a folder that holds one of them"
            problems.append(Problem("ambiguous_video", video_id, said))
        else:
            found[video_id] = urls[0], name
    return found, problems
