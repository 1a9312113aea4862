"""A manifest: the plainest way in for annotated videos.

Input: the URL of a CSV or a JSONL file with `path` and `labels`, and if you have them `id`, `intervals`,
`split`, `group`.
Does: reads it line by line, checks ids and labels, leaves out what is not there.
Output: AnnotatedVideo rows and Problem rows; or the labels of videos that lie in shards already (a sidecar).

Without `id`, a video's id is its path without the extension (see `_names_of`).
In a CSV, labels are separated by ";" and intervals read "walk 1.5 3.0;sit down 4 5". In JSONL both are lists.
Relative paths are relative to the manifest.
"""

from __future__ import annotations

import csv
import io
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import check_id, check_unique
from adaptfocus.pipelines.annotations.rows import (
    AnnotatedVideo,
    Interval,
    Problem,
    check_group,
    check_labels,
    check_split,
    labels_and,
    parse_intervals,
    parse_label,
    parse_labels,
    tidy_intervals,
)
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.urls import common_folder, redact_url

# A look-up in an object store costs about 20 ms; sixteen at a time check a thousand files in about a second.
LOOKUP_THREADS = 16


def read_manifest(
    manifest_url: str, classes: Sequence[str] | None = None
) -> tuple[list[AnnotatedVideo], list[Problem]]:
    """The videos of a manifest, in its order, and what was left out.

    Raises:
        InputError: a column is missing, a line does not parse, an id is unsafe or occurs twice, a label is not
            among `classes`.
    """
    return tidy_list(read_listed(manifest_url, classes, required=("path", "labels")))


def tidy_list(listed: Iterable[tuple[AnnotatedVideo, str]]) -> tuple[list[AnnotatedVideo], list[Problem]]:
    """The rows of a list whose file is there, with intervals that hold time; and what was left out of it."""
    rows: list[tuple[AnnotatedVideo, str]] = []
    problems: list[Problem] = []
    for video, where in listed:
        intervals, found = tidy_intervals(video.intervals, where)
        problems += found
        rows.append((replace(video, intervals=intervals), where))
    videos, missing = present(rows)
    return videos, problems + missing


def read_listed(
    list_url: str, classes: Sequence[str] | None = None, required: Sequence[str] = ("labels",)
) -> list[tuple[AnnotatedVideo, str]]:
    """(video, place) of each row, whether its file is there or not; intervals as they were written.

    A row without a path has an id, and an empty path.

    Raises:
        InputError: as `read_manifest`.
    """
    read: list[tuple[str, str, dict[str, Any]]] = []
    for where, row in _rows(list_url, required):
        path = _text(row, "path", where)
        if not path and ("path" in required or not _text(row, "id", where)):
            raise InputError(f"{where}: 'path' is empty; give the video's path or URL")
        read.append((where, path, row))
    nameless = {path: "" for where, path, row in read if path and not _text(row, "id", where)}
    names = _names_of(nameless, list_url)
    rows: list[tuple[AnnotatedVideo, str]] = []
    for where, path, row in read:
        labels, intervals = _labels(row, where, classes)
        video_id = check_id(_text(row, "id", where) or names[path], where)
        split = check_split(_text(row, "split", where), where)
        absolute = _absolute(path, list_url) if path else ""
        group = check_group(_text(row, "group", where), where)
        rows.append((AnnotatedVideo(video_id, absolute, labels, intervals, split, group), where))
    fix = "add an `id` column, with an id of its own for each" if nameless else "give one of them another id"
    check_unique(((video.video_id, where) for video, where in rows), fix)
    return rows


def read_labels(
    labels_url: str, classes: Sequence[str] | None = None
) -> dict[str, tuple[tuple[str, ...], tuple[Interval, ...] | None]]:
    """video_id -> (labels, intervals) of a CSV or JSONL file with `id` and `labels`.

    Raises:
        InputError: as `read_manifest`.
    """
    places: list[tuple[str, str]] = []
    labels_of: dict[str, tuple[tuple[str, ...], tuple[Interval, ...] | None]] = {}
    for where, row in _rows(labels_url, required=("id", "labels")):
        video_id = check_id(_text(row, "id", where), where)
        places.append((video_id, where))
        labels_of[video_id] = _labels(row, where, classes)
    check_unique(places, "keep one of them")
    return labels_of


def read_classes(classes_url: str, may_be_empty: bool = False) -> list[str]:
    """The class list of a text file, one name a line.

    Raises:
        InputError: a name occurs twice (two Unicode forms of a name are one), is no line of text, or there is none.
    """
    names: list[str] = []
    for number, line in enumerate(re.split(r"\r\n?|\n", decode_text(classes_url)), start=1):
        try:
            names += filter(None, [parse_label(line)])
        except ValueError as error:
            raise InputError(f"{classes_url} line {number}: {error}") from None
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice or not (names or may_be_empty):
        what = f"the class {twice[0]!r} occurs twice" if twice else "there is no class in it"
        raise InputError(f"{classes_url}: {what}; write one name a line, each once")
    return names


def _rows(url: str, required: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of each line; the format is told by the name, else by the first character."""
    text = decode_text(url)
    name = url.split("?", 1)[0].lower()
    is_csv = name.endswith(".csv") or (
        not name.endswith((".jsonl", ".ndjson", ".json")) and not text.lstrip().startswith("{")
    )
    read = _csv_rows if is_csv else _jsonl_rows
    empty = True
    for line, row in read(text, url, required):
        empty = False
        yield f"{posixpath.basename(url)} line {line}", row
    if empty:
        raise InputError(f"{url} holds no rows; it needs {' and '.join(required)} of at least one video")


def _csv_rows(text: str, url: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    header: list[str] | None = None
    line = 1  # where the row begins: a quoted field may span lines
    try:
        for fields in reader:
            begins, line = line, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                header = [field.strip().lower() for field in fields]
                _check_columns(header, required, f"{url} line {begins}")
                continue
            if len(fields) > len(header):
                raise InputError(
                    f"{url} line {begins}: {len(fields)} fields under {len(header)} columns; "
                    'put a field that contains a comma into double quotes ("a, b")'
                )
            row = dict(zip(header, fields))  # noqa: B905 - optional columns at the end may be left out
            _check_columns(row, required, f"{url} line {begins}")
            yield begins, row
    except csv.Error as error:
        raise InputError(f"{url} line {reader.line_num}: {error}; correct the line") from None


def _jsonl_rows(text: str, url: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = strict_json.loads(content)
        except ValueError as error:
            raise InputError(f"{url} line {line} does not parse as JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise InputError(f"{url} line {line} holds {type(row).__name__}, not an object; write one object a line")
        _check_columns(row, required, f"{url} line {line}")
        yield line, row


def _check_columns(names: Any, required: Sequence[str], where: str) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise InputError(
            f"{where}: there is no {' and no '.join(map(repr, missing))}; there are {', '.join(names) or 'none'}; "
            f"needed are {', '.join(required)}"
        )


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        raise InputError(f"{where}: {name!r} must be text, not {value!r:.200}")
    return "" if value is None else str(value).strip()


def _labels(
    row: dict[str, Any], where: str, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[Interval, ...] | None]:
    """Labels and intervals of a row; an empty field of a CSV means that there are no intervals."""
    value = row.get("intervals")
    try:
        intervals = parse_intervals(None if isinstance(value, str) and not value.strip() else value)
        labels = labels_and(intervals, parse_labels(row.get("labels")))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    check_labels(labels, classes, where)
    return labels, intervals


def _names_of(paths: Iterable[str], list_url: str) -> dict[str, str]:
    """An id for each path: the path without its extension, as it is written relative to the list.

    Where one is absolute, a URL or leads out of the list's folder, all are relative to the folder that they share, so
    that ``train/a.mp4`` and ``test/a.mp4`` stay two.
    """
    plain = {path: path.removeprefix("./") for path in paths}
    if any("://" in path or path.startswith("/") or ".." in path.split("/") for path in plain):
        whole = {path: _whole(_absolute(path, list_url)) for path in plain}
        root = common_folder([*whole.values()])
        plain = {path: each[len(root) :].replace("://", "/").lstrip("/") for path, each in whole.items()}
    return {path: posixpath.splitext(name)[0] for path, name in plain.items()}


def _whole(path: str) -> str:
    """A path without ``..``; a URL without its query."""
    if "://" in path:
        scheme, rest = path.split("?", 1)[0].split("://", 1)
        return f"{scheme}://{posixpath.normpath(rest)}" if rest else path
    return os.path.abspath(path)  # noqa: PTH100


def _absolute(path: str, manifest_url: str) -> str:
    if "://" in path or path.startswith("/"):
        return path
    return store.join(posixpath.dirname(manifest_url) or ".", path)


def present(rows: list[tuple[AnnotatedVideo, str]]) -> tuple[list[AnnotatedVideo], list[Problem]]:
    """Split off the rows whose file is not there."""
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        there = list(threads.map(lambda row: store.exists(row[0].path), rows))
    videos = [video for (video, _), found in zip(rows, there, strict=True) if found]
    missing = [
        Problem("missing_file", where, f"there is no file at {redact_url(video.path)}")
        for (video, where), found in zip(rows, there, strict=True)
        if not found
    ]
    return videos, missing


def decode_text(url: str) -> str:
    """The text of a file. Raises InputError with the line that is not UTF-8."""
    data = store.read_bytes(url)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{url} line {line} is not UTF-8 ({error.reason}); save the file as UTF-8") from None
