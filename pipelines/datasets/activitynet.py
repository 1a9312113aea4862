"""ActivityNet's JSON, which many later data sets copy: HACS, FineAction, THUMOS'14 in several projects.

Input: the file: ``{"database": {ID: {"duration", "subset", "annotations": [{"label", "segment": [start, end]}]}}}``.
Does: reads all subsets; classes are all labels of the file in alphabetical order, unless a class list is given.
Output: a Release; the videos' activities are their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptfocus.pipelines.annotations.names import check_id, check_unique
from adaptfocus.pipelines.annotations.rows import Interval, Problem, check_split, labels_and, parse_interval
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo
from adaptfocus.pipelines.datasets.release_files import parse_json, seconds_of
from adaptfocus.pipelines.errors import InputError

SPLITS = {"training": "train", "testing": "test"}  # other subsets keep their names


def read_activitynet(annotations_url: str, classes: Sequence[str] | None = None) -> Release:
    """All subsets. Files are looked for as ``v_ID`` and as ``ID``.

    A subset that nobody annotated has intervals, none: it can be packed, and evaluated by its owners.

    Problem kinds: ``bad_row``, ``bad_length``, ``label_not_in_classes``.

    Raises:
        InputError: the file is not JSON, or has no database.
    """
    database = parse_json(annotations_url).get("database")
    if not isinstance(database, dict) or not database:
        raise InputError(f"{annotations_url} has no 'database'; ActivityNet's JSON has its videos in one")
    problems: list[Problem] = []
    videos = [_video(video_id, entry, classes, problems) for video_id, entry in database.items()]
    kept = [video for video in videos if video is not None]
    check_unique((video.video_id, "the database") for video in kept)  # two Unicode forms of one id
    names = classes if classes is not None else sorted({label for video in kept for label in video.labels})
    return Release("activitynet", tuple(names), tuple(kept), tuple(problems))


def _video(video_id: str, entry: Any, classes: Sequence[str] | None, problems: list[Problem]) -> ReleasedVideo | None:
    video_id = check_id(video_id, "the database")
    annotations = entry.get("annotations", []) if isinstance(entry, dict) else None
    if not isinstance(annotations, list):
        problems.append(Problem("bad_row", video_id, "it has no list of annotations; it was left out"))
        return None
    intervals: list[Interval] = []
    for annotation in annotations:
        try:
            label, (start, end) = annotation["label"], annotation["segment"]
            interval = parse_interval([label, start, end])
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            interval = ("", 0.0, 0.0)
        if not interval[0]:
            problems.append(Problem("bad_row", video_id, f"{annotation!r:.200} is not a label and a segment"))
            continue
        if classes is not None and interval[0] not in classes:
            said = f"{interval[0]!r} is not among the {len(classes)} classes; it was left out"
            problems.append(Problem("label_not_in_classes", video_id, said))
            continue
        intervals.append(interval)
    subset = check_split(str(entry.get("subset") or ""), f"the subset of {video_id!r}")
    labels = labels_and(intervals, ())
    return ReleasedVideo(
        video_id, SPLITS.get(subset or "", subset), labels, tuple(intervals),
        seconds_of(entry.get("duration"), video_id, problems), activities=labels, names=(f"v_{video_id}", video_id),
    )  # fmt: skip
