"""What a release holds, before anything of it is packed.

Input: a Release, and the problems of reading and finding it. Does: counts. Output: ReleaseSummary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from adaptfocus.pipelines.annotations.rows import Problem
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo

MOST_PAIRS = 10


@dataclass(frozen=True)
class SplitSummary:
    """One split. Hours are those that the release states; None where it does not say them of every video."""

    split: str | None
    videos: int
    without_labels: int
    labels: int  # (video, label) pairs
    hours: float | None
    intervals: int
    ends_after_video: int  # intervals that end after the length that the release states
    no_time: int  # intervals whose end is not after their start


@dataclass(frozen=True)
class Pair:
    """Two labels that occur in the same videos. `lift` is how much more often than if they were independent."""

    labels: tuple[str, str]
    videos: int
    lift: float


@dataclass(frozen=True)
class ReleaseSummary:
    """Counts of a release."""

    name: str
    classes: int
    unused_classes: list[str]
    activities: int  # distinct activities; 0 where the release has none
    groups: int
    splits: list[SplitSummary]
    videos_of_a_class: tuple[int, int, int]  # least, median, most, over the classes in use
    labels_of_a_video: float  # mean over videos that have any
    pairs: list[Pair]  # the most frequent
    sentences: int
    problems: dict[str, int]  # by kind


def summarise(release: Release, problems: Sequence[Problem]) -> ReleaseSummary:
    """Count what is in a release.

    Args:
        problems: all that are to be counted, those of the release itself included.
    """
    of_class = Counter(label for video in release.videos for label in video.labels)
    tagged = [video for video in release.videos if video.labels]
    frequencies = sorted(of_class.values()) or [0]
    splits = sorted({video.split for video in release.videos}, key=lambda name: (name is None, str(name)))
    return ReleaseSummary(
        name=release.name,
        classes=len(release.classes),
        unused_classes=[name for name in release.classes if name not in of_class],
        activities=len({name for video in release.videos for name in video.activities or ()}),
        groups=len({video.group for video in release.videos} - {None}),
        splits=[_split(name, [v for v in release.videos if v.split == name]) for name in splits],
        videos_of_a_class=(frequencies[0], int(np.median(frequencies)), frequencies[-1]),
        labels_of_a_video=round(of_class.total() / len(tagged), 3) if tagged else 0.0,
        pairs=_pairs(release.videos, of_class),
        sentences=len(release.sentences),
        problems=dict(sorted(Counter(problem.kind for problem in problems).items())),
    )


def _split(name: str | None, videos: list[ReleasedVideo]) -> SplitSummary:
    lengths = [video.duration_seconds for video in videos]
    timed = [(start, end, video.duration_seconds) for video in videos for _, start, end in video.intervals or ()]
    return SplitSummary(
        split=name,
        videos=len(videos),
        without_labels=sum(not video.labels for video in videos),
        labels=sum(len(video.labels) for video in videos),
        hours=None if None in lengths else round(sum(length or 0.0 for length in lengths) / 3600, 2),
        intervals=len(timed),
        ends_after_video=sum(duration is not None and end > duration for _, end, duration in timed),
        no_time=sum(end <= start for start, end, _ in timed),
    )


def _pairs(videos: Sequence[ReleasedVideo], of_class: Counter[str]) -> list[Pair]:
    """The pairs of labels that most videos share."""
    together = Counter(pair for video in videos for pair in combinations(sorted(video.labels), 2))
    most = sorted(together.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    return [Pair((a, b), count, round(count * len(videos) / (of_class[a] * of_class[b]), 2)) for (a, b), count in most]
