"""Moments from a list: a CSV, a Parquet file, or a folder or glob of Parquet files."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import normal_id
from adaptfocus.pipelines.annotations.rows import parse_label
from adaptfocus.pipelines.cutting.moments import Moment, VideoMoments, in_groups
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import read_partition, read_partitions
from adaptfocus.pipelines.store.tables import read_table

COLUMNS = ("video_id", "start_seconds", "end_seconds", "label")
LIST_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("label", pa.string()),
        ("score", pa.float64()),
    ]
)


def read_moments(url: str) -> dict[str, list[Moment]]:
    """The moments of each video id in a list, which is held in memory.

    Args:
        url: a CSV with the columns COLUMNS and perhaps `score`; or Parquet with these, as one file, a folder or a glob.

    Raises:
        InputError: a line cannot be used; the message names it. StorageError: the list cannot be read.
    """
    found: dict[str, list[Moment]] = defaultdict(list)
    for where, row in _rows(url):
        video_id, moment = _moment(row, where)
        found[video_id].append(moment)
    if not found:
        raise InputError(f"{store.redact_url(url)} lists no moments; give a list with at least one")
    return dict(found)


def listed_videos(
    moments: Mapping[str, Sequence[Moment]], index_url: str, fingerprint: str, unknown: Counter[str]
) -> Iterator[list[VideoMoments]]:
    """The listed videos of an index with their moments, partition by partition.

    Args:
        unknown: gets, at the end, the number of moments whose video the index does not have, under "not_in_index".

    Raises:
        InputError: the index is damaged, or has none of the videos. StorageError: it cannot be read.
    """
    is_listed = pc.field("video_id").isin(sorted(moments))
    left = sum(map(len, moments.values()))
    for partition in read_partitions(index_url, fingerprint):
        if not read_partition(index_url, partition, ["video_id"]).filter(is_listed).num_rows:
            continue
        rows = read_partition(index_url, partition).filter(is_listed)
        jobs = [job for row in rows.to_pylist() for job in in_groups(row, moments[row["video_id"]])]
        left -= sum(len(job.moments) for job in jobs)
        yield jobs
    if left == sum(map(len, moments.values())):
        raise InputError(
            f"the index {store.redact_url(index_url)} has none of the {len(moments)} listed videos, such as "
            f"{next(iter(moments))!r:.200}; give the index that these ids are of"
        )
    if left:
        unknown["not_in_index"] += left


def _rows(url: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row) of each line of the list."""
    if url.lower().endswith(".csv"):
        yield from _csv_rows(url)
        return
    if url.lower().endswith(".parquet") and "*" not in url:
        files = [url]
    else:
        files = store.glob(url) if "*" in url else [each for each in store.list_files(url) if each.endswith(".parquet")]
    if not files:
        raise InputError(
            f"{store.redact_url(url)} is no list of moments; give a .csv, a .parquet, or a folder or glob of .parquet"
        )
    for file in files:
        table = read_table(file, LIST_SCHEMA, later=("score",))
        for number, row in enumerate(table.to_pylist(), 1):
            yield f"{store.redact_url(file)} row {number}", row


def _csv_rows(url: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    name = store.redact_url(url)
    try:
        text = store.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [each for each in COLUMNS if each not in (reader.fieldnames or ())]:
        raise InputError(f"{name} line 1: there is no column {missing[0]!r}; the columns are {', '.join(COLUMNS)}")
    try:
        for row in reader:
            yield f"{name} line {reader.line_num}", row
    except csv.Error as error:
        raise InputError(f"{name} line {reader.line_num}: {error}") from None


def _moment(row: Mapping[str, Any], where: str) -> tuple[str, Moment]:
    video_id = normal_id(row["video_id"] or "")
    if not video_id:
        raise InputError(f"{where}: 'video_id' is empty; give the id that the index has")
    try:
        label = parse_label(row["label"] or "")
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    if not label:
        raise InputError(f"{where}: 'label' is empty; give one")
    start, end = (_number(row, name, where) for name in ("start_seconds", "end_seconds"))
    if not 0 <= start < end:
        raise InputError(f"{where}: a moment begins at 0 or later and ends after that, not {start:g} to {end:g} s")
    score = None if row.get("score") in (None, "") else _number(row, "score", where)
    return video_id, Moment(start, end, label, score)


def _number(row: Mapping[str, Any], name: str, where: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {name!r} is {row[name]!r:.100}; give a number")
    return value
