"""What the downstream tasks are measured against: segments, activities and sentences with their moments.

Input: typed rows, or a JSON-lines file of them. Does: checks each row; reads and writes.
Output: ``segmentation.jsonl``, ``activity.jsonl`` and ``grounding.jsonl``, one object a line. They lie apart from the
shards: training on weak labels never sees them.

    {"video_id", "split", "duration_seconds", "segments": [[start_seconds, end_seconds, label], ...]}
    {"video_id", "split", "activities": [name, ...]}
    {"video_id", "split", "start_seconds", "end_seconds", "sentence"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import check_unique, normal, normal_id, text_reason
from adaptfocus.pipelines.annotations.rows import check_split
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store import strict_json

SEGMENTATION, ACTIVITY, GROUNDING = "segmentation.jsonl", "activity.jsonl", "grounding.jsonl"

Segment = tuple[float, float, str]  # start_seconds, end_seconds, label
# Seconds are written with six decimals, so a border may be off by half of the last one on either side.
TOLERANCE_SECONDS = 2e-6
Row = TypeVar("Row")


@dataclass(frozen=True)
class SegmentedVideo:
    """A video cut into segments without a gap: the first begins at 0, each where the one before it ends.

    ``duration_seconds`` is where the last one ends: the time that is labelled, which may be a little shorter than the
    video.

    Raises:
        ValueError: there is no segment, one holds no time, or they do not meet.
    """

    video_id: str
    split: str | None
    duration_seconds: float
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        _check_name(self.video_id, "video_id")
        if not self.segments:
            raise ValueError("there are no segments; leave the video out")
        at = 0.0
        for start, end, label in self.segments:
            _check_name(label, "label")
            if not start < end < math.inf:
                raise ValueError(f"the segment {label!r} goes from {start:g} to {end:g} s; its end must be later")
            if abs(start - at) > TOLERANCE_SECONDS:
                raise ValueError(f"the segment {label!r} begins at {start:g} s; the one before it ends at {at:g} s")
            at = end
        if abs(at - self.duration_seconds) > TOLERANCE_SECONDS:
            raise ValueError(f"the last segment ends at {at:g} s; duration_seconds is {self.duration_seconds:g}")


@dataclass(frozen=True)
class ActivityVideo:
    """A video and the activities in it: exactly one where a data set says so, or any number, perhaps none.

    Raises:
        ValueError: an activity occurs twice or is empty.
    """

    video_id: str
    split: str | None
    activities: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_name(self.video_id, "video_id")
        for name in self.activities:
            _check_name(name, "activity")
        if len(set(self.activities)) < len(self.activities):
            raise ValueError(f"an activity occurs twice in {list(self.activities)}")


@dataclass(frozen=True)
class Moment:
    """A sentence, and when it is true of its video.

    Raises:
        ValueError: the moment holds no time, begins before 0, or the sentence is empty.
    """

    video_id: str
    split: str | None
    start_seconds: float
    end_seconds: float
    sentence: str

    def __post_init__(self) -> None:
        _check_name(self.video_id, "video_id")
        _check_name(self.sentence, "sentence")
        if not 0 <= self.start_seconds < self.end_seconds < math.inf:
            raise ValueError(f"the moment goes from {self.start_seconds:g} to {self.end_seconds:g} s; its start must "
                             "be 0 or later, and its end after that")  # fmt: skip


def read_segmentation(url: str) -> list[SegmentedVideo]:
    """The videos of a ``segmentation.jsonl``, in its order.

    Raises:
        InputError: a line does not parse, lacks a field or breaks a rule of its row; a video occurs twice.
        StorageError: it cannot be read.
    """
    rows = _read(url, _segmented)
    check_unique((row.video_id, where) for where, row in rows)
    return [row for _, row in rows]


def read_activities(url: str) -> list[ActivityVideo]:
    """The videos of an ``activity.jsonl``, in its order. Raises as `read_segmentation`."""
    rows = _read(url, _activity)
    check_unique((row.video_id, where) for where, row in rows)
    return [row for _, row in rows]


def read_grounding(url: str) -> list[Moment]:
    """The moments of a ``grounding.jsonl``, in its order; any number a video. Raises as `read_segmentation`."""
    return [row for _, row in _read(url, _moment)]


def write_segmentation(url: str, videos: Iterable[SegmentedVideo]) -> None:
    """Write them in their order, seconds with six decimals."""
    _write(
        url,
        (
            {
                "video_id": video.video_id,
                "split": video.split,
                "duration_seconds": round(video.duration_seconds, 6),
                "segments": [[round(start, 6), round(end, 6), label] for start, end, label in video.segments],
            }
            for video in videos
        ),
    )


def write_activities(url: str, videos: Iterable[ActivityVideo]) -> None:
    """Write them in their order."""
    _write(url, ({"video_id": v.video_id, "split": v.split, "activities": list(v.activities)} for v in videos))


def write_grounding(url: str, moments: Iterable[Moment]) -> None:
    """Write them in their order, seconds with six decimals."""
    _write(
        url,
        (
            {
                "video_id": moment.video_id,
                "split": moment.split,
                "start_seconds": round(moment.start_seconds, 6),
                "end_seconds": round(moment.end_seconds, 6),
                "sentence": moment.sentence,
            }
            for moment in moments
        ),
    )


def _segmented(row: dict[str, Any]) -> SegmentedVideo:
    segments = row["segments"]
    if not isinstance(segments, list) or not all(isinstance(s, list) and len(s) == 3 for s in segments):
        raise ValueError("segments must be a list of [start_seconds, end_seconds, label]")
    cut = tuple((_seconds(start), _seconds(end), _normal(label, normal)) for start, end, label in segments)
    return SegmentedVideo(_normal(row["video_id"], normal_id), _split(row), _seconds(row["duration_seconds"]), cut)


def _activity(row: dict[str, Any]) -> ActivityVideo:
    if not isinstance(row["activities"], list):
        raise ValueError(f"activities must be a list of names, not {row['activities']!r:.200}")
    names = tuple(_normal(name, normal) for name in row["activities"])
    return ActivityVideo(_normal(row["video_id"], normal_id), _split(row), names)


def _moment(row: dict[str, Any]) -> Moment:
    start, end = _seconds(row["start_seconds"]), _seconds(row["end_seconds"])
    return Moment(_normal(row["video_id"], normal_id), _split(row), start, end, row["sentence"])


def _normal(value: Any, form: Callable[[str], str]) -> Any:
    """Text in its normal form; what is no text stays, and its row's check refuses it."""
    return form(value) if isinstance(value, str) else value


def _split(row: dict[str, Any]) -> str | None:
    if row["split"] is None:
        return None
    _check_name(row["split"], "split")
    return check_split(row["split"], "its row")


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"seconds must be numbers, not {value!r:.200}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"seconds must be numbers of usual size, not one of {len(str(value))} digits") from None


def _check_name(value: Any, field: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field} must be text that is not empty, not {value!r:.200}")
    if reason := text_reason(" ".join(value.split())):
        raise ValueError(f"{field} {value!r:.200} cannot be used because {reason}")


def _read(url: str, parse: Callable[[dict[str, Any]], Row]) -> list[tuple[str, Row]]:
    """(place, row) of each line that is not empty."""
    rows: list[tuple[str, Row]] = []
    for number, line in enumerate(store.read_bytes(url).split(b"\n"), start=1):
        where = f"{url} line {number}"
        if not line.strip():
            continue
        try:
            row = strict_json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            if not isinstance(row, dict):
                raise ValueError(f"holds {type(row).__name__}, not an object")
            rows.append((where, parse(row)))
        except KeyError as error:
            raise InputError(f"{where}: there is no {error}; pipelines/annotations/tasks.py lists the fields") from None
        except (ValueError, InputError) as error:  # what is not JSON or not UTF-8 is a ValueError too
            raise InputError(f"{where}: {error}") from None
    if not rows:
        raise InputError(f"{url} holds no rows")
    return rows


def _write(url: str, rows: Iterable[dict[str, Any]]) -> None:
    store.write_bytes(url, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


ANNOTATIONS = "annotations"  # the folder of what `annotate` writes

ANNOTATIONS = "annotations"
TASK_FILES = (SEGMENTATION, ACTIVITY, GROUNDING)
BACKGROUND = "background"
