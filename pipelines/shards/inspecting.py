"""Look at videos before they are packed: whether each begins to decode, how long and how large it is, and its .json."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import VIDEO_EXTENSIONS, key_and_extension, key_of
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo, Problem, labels_and, tidy_intervals
from adaptfocus.pipelines.apart.pool import read_packet_table_apart
from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION
from adaptfocus.pipelines.errors import BadVideoError, StorageError, as_bad_video
from adaptfocus.pipelines.inspection.demux import DEMUX_BLOCK_BYTES, DEMUX_MAX_BLOCKS
from adaptfocus.pipelines.shards.assigning import Sample
from adaptfocus.pipelines.shards.members import is_companion
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.store.urls import redact_url
from adaptfocus.pipelines.video.table import PacketTable


@dataclass(frozen=True)
class Inspected:
    """What packing has to know of a video."""

    sample: Sample | None  # None: it is left out
    seconds: float
    problems: tuple[Problem, ...]  # why it is left out, or how its intervals were changed


def inspect_some(videos: Sequence[AnnotatedVideo]) -> list[Inspected]:
    """Look at some videos, one after the other.

    Raises:
        StorageError: a store cannot be read; a missing or damaged video is only its own problem.
    """
    return [_inspected(video) for video in videos]


def left_out(video: AnnotatedVideo, error: Exception) -> Problem:
    """Why a video is left out. Raises `error` itself if it is about the store instead of the video."""
    bad = as_bad_video(_of_file(error, video.path))
    return Problem(bad.kind, video.video_id, f"{redact_url(video.path)}: {bad}")


def _inspected(video: AnnotatedVideo) -> Inspected:
    key = key_of(video.video_id)
    try:
        if is_companion(f"{key}.mp4") or key_and_extension(f"{key}.mp4") != (key, "mp4"):
            raise BadVideoError("reserved_key", f"readers of tars skip names such as {key!r}; rename it")
        size_bytes = _size_of(video.path)
        file = RangeFile(video.path, 0, size_bytes, DEMUX_BLOCK_BYTES, max_blocks=DEMUX_MAX_BLOCKS)
        table = read_packet_table_apart(file, size_bytes, b"", DEFAULT_ISOLATION)
        annotation, changed = _annotation(video, table)
        text = json.dumps(annotation, ensure_ascii=False, sort_keys=True).encode()
    except Exception as error:
        return Inspected(None, 0.0, (left_out(video, error),))
    sample = Sample(key, _extension(video.path), video.path, size_bytes, text)
    return Inspected(sample, table.duration_seconds, tuple(changed))


def _annotation(video: AnnotatedVideo, table: PacketTable) -> tuple[dict[str, Any], list[Problem]]:
    """The sample's .json, with intervals cut to the video."""
    intervals, problems = tidy_intervals(video.intervals, video.video_id, table.duration_seconds)
    annotation: dict[str, Any] = {
        "id": video.video_id,
        "labels": list(labels_and(video.intervals, video.labels)),
        "duration_seconds": round(table.duration_seconds, 6),
    }
    if intervals is not None:
        annotation["intervals"] = [
            {"label": label, "start_seconds": start, "end_seconds": end} for label, start, end in intervals
        ]
    if video.split is not None:
        annotation["split"] = video.split
    if video.group is not None:
        annotation["group"] = video.group
    return annotation, problems


def _size_of(url: str) -> int:
    """Size in bytes. A missing file is the video's problem; an unreachable store ends the run."""
    try:
        return store.size_and_tag(url)[0]
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BadVideoError("missing_file", str(error)) from None
        raise


def _of_file(error: Exception, path: str) -> Exception:
    """The error as the video's problem, if the local path is a folder or may not be read."""
    is_file = isinstance(error, StorageError) and isinstance(error.__cause__, IsADirectoryError | PermissionError)
    return BadVideoError("unreadable_file", str(error)) if is_file and store.is_local(path) else error


def _extension(path: str) -> str:
    """The file's extension in lower case; mp4 for a name without one, so that an indexer recognises a video."""
    extension = posixpath.splitext(path.split("?", 1)[0])[1].removeprefix(".").lower()
    return extension if extension in VIDEO_EXTENSIONS else "mp4"
