"""A moment of a video, and the frames that it shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.spans import EPSILON_SECONDS, frames_at

MOST_SECONDS = 600.0  # a clip is in memory while it is made
AT_ONCE = 16  # moments of one video that a process cuts before it hands the clips on


class Moment(NamedTuple):
    """A labelled stretch of a video."""

    start_seconds: float  # from the first frame shown
    end_seconds: float
    label: str
    score: float | None = None


class VideoMoments(NamedTuple):
    """A video, as a row of a loaded index, and some of its moments."""

    video: Mapping[str, Any]
    moments: tuple[Moment, ...]


def in_groups(video: Mapping[str, Any], moments: Iterable[Moment]) -> Iterator[VideoMoments]:
    """The moments of one video in order of time, AT_ONCE together."""
    ordered = sorted(moments, key=lambda each: (each.start_seconds, each.end_seconds, each.label))
    for first in range(0, len(ordered), AT_ONCE):
        yield VideoMoments(video, tuple(ordered[first : first + AT_ONCE]))


def frames_of(video: Mapping[str, Any], shown: np.ndarray, moment: Moment) -> np.ndarray:
    """pts of the frames on display in a moment, int64: from the one at its start to the last that begins before its
    end.

    Args:
        shown: `shown_pts` of the video.

    Raises:
        BadVideoError: outside_video, too_long.
    """
    if moment.start_seconds >= video["duration_seconds"]:
        raise BadVideoError(
            "outside_video",
            f"the moment begins at {moment.start_seconds:g} s, and the video has {video['duration_seconds']:g} s",
        )
    length = min(moment.end_seconds, video["duration_seconds"]) - moment.start_seconds
    if length > MOST_SECONDS:
        raise BadVideoError("too_long", f"the moment has {length:g} s; at most {MOST_SECONDS:g}: give shorter ones")
    first = frames_at(video, shown, np.array([moment.start_seconds]))[0]
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    begin = int(np.searchsorted(shown, first))
    end = int(np.searchsorted((shown - shown[0]) * tick, moment.end_seconds - EPSILON_SECONDS))
    return shown[begin : max(end, begin + 1)]
