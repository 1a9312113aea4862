"""The annotations of world d for downstream tasks: segments, activities, sentences.

Time without an action becomes background. The files are ``annotations/segmentation.jsonl``, ``activity.jsonl`` and
``grounding.jsonl`` below a folder or URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.tasks import (
    ACTIVITY,
    ANNOTATIONS,
    BACKGROUND,
    GROUNDING,
    SEGMENTATION,
    ActivityVideo,
    Moment,
    Segment,
    SegmentedVideo,
    write_activities,
    write_grounding,
    write_segmentation,
)


@dataclass(frozen=True)
class ShownActivity:
    """A video of an activity: its actions and their times, without overlap."""

    video_id: str
    split: str
    duration_seconds: float
    activity: str
    intervals: tuple[tuple[str, float, float], ...]  # (label, start_seconds, end_seconds), in order of time
    sentences: tuple[tuple[float, float, str], ...]  # (start_seconds, end_seconds, text)


def write_tasks(folder_url: str, videos: Sequence[ShownActivity]) -> None:
    """Write the three files, videos in the order given."""

    def place(name: str) -> str:
        return store.join(folder_url, ANNOTATIONS, name)

    write_segmentation(
        place(SEGMENTATION),
        (
            SegmentedVideo(v.video_id, v.split, v.duration_seconds, segments_of(v.intervals, v.duration_seconds))
            for v in videos
        ),
    )
    write_activities(place(ACTIVITY), (ActivityVideo(v.video_id, v.split, (v.activity,)) for v in videos))
    write_grounding(place(GROUNDING), (Moment(v.video_id, v.split, *said) for v in videos for said in v.sentences))


def segments_of(intervals: Sequence[tuple[str, float, float]], duration_seconds: float) -> tuple[Segment, ...]:
    """A whole video in segments; time without an action is `BACKGROUND`.

    Args:
        intervals: (label, start_seconds, end_seconds), in order of time, without overlap.
    """
    segments: list[Segment] = []
    at = 0.0
    for label, start, end in intervals:
        if start > at:
            segments.append((at, start, BACKGROUND))
        segments.append((start, end, label))
        at = end
    if at < duration_seconds:
        segments.append((at, duration_seconds, BACKGROUND))
    return tuple(segments)
