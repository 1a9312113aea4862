"""A data set as it was released, in one form whatever its files looked like.

Input: what a reader of one format found in the annotations; folders with videos.
Does: chooses splits, leaves labels out, checks intervals, finds each video's file.
Output: AnnotatedVideo rows to pack, and Problem rows for whatever was left out and why.

Labels say what is in a video, intervals when: a reader fills in both, and they stay apart from here on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adaptfocus.pipelines.annotations.manifest import present
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo, Interval, Problem, tidy_intervals
from adaptfocus.pipelines.annotations.tasks import Segment
from adaptfocus.pipelines.datasets.find_videos import find_videos
from adaptfocus.pipelines.errors import InputError


@dataclass(frozen=True)
class ReleasedVideo:
    """One video of a release. What a release does not say is None."""

    video_id: str
    split: str | None = None
    labels: tuple[str, ...] = ()
    intervals: tuple[Interval, ...] | None = None  # as they were written, nothing clamped
    duration_seconds: float | None = None  # as the release says
    activities: tuple[str, ...] | None = None
    segments: tuple[Segment, ...] | None = None  # from 0 to duration_seconds, without a gap
    path: str | None = None  # where the release says; otherwise the file is looked for by its names
    names: tuple[str, ...] = ()
    second_names: tuple[str, ...] = ()  # taken where no file has one of the names, and counted
    group: str | None = None  # what must not be in two splits


@dataclass(frozen=True)
class Sentence:
    """A sentence about some seconds of a video, as it was written."""

    video_id: str
    start_seconds: float
    end_seconds: float
    text: str
    where: str


@dataclass(frozen=True)
class Release:
    """All videos of a release and its class list. Problems are those of reading it."""

    name: str
    classes: tuple[str, ...]
    videos: tuple[ReleasedVideo, ...]
    problems: tuple[Problem, ...] = ()
    sentences: tuple[Sentence, ...] = ()

    def of_splits(self, splits: Sequence[str]) -> Release:
        """Only the videos of these splits and the sentences about them; all where no split is named.

        Raises:
            InputError: a split has no video.
        """
        there = sorted({video.split for video in self.videos if video.split})
        for split in splits:
            if split not in there:
                raise InputError(
                    f"no video of {len(self.videos)} is in the split '{split}'; there are: {', '.join(there) or 'none'}"
                )
        if not splits:
            return self
        gone = {video.video_id for video in self.videos if video.split not in splits}
        return replace(
            self,
            videos=tuple(video for video in self.videos if video.split in splits),
            sentences=tuple(sentence for sentence in self.sentences if sentence.video_id not in gone),
        )

    def without_labels(self, names: Sequence[str]) -> Release:
        """Without these classes: in the class list, as labels, as intervals. Segments stay whole.

        Raises:
            InputError: one of them is not a class.
        """
        for name in names:
            if name not in self.classes:
                raise InputError(f"'{name}' cannot be left out: it is not among the {len(self.classes)} classes")
        gone = set(names)

        def kept(video: ReleasedVideo) -> ReleasedVideo:
            intervals = video.intervals
            return replace(
                video,
                labels=tuple(label for label in video.labels if label not in gone),
                intervals=None if intervals is None else tuple(i for i in intervals if i[0] not in gone),
                activities=None if video.activities is None else tuple(a for a in video.activities if a not in gone),
            )

        classes = tuple(name for name in self.classes if name not in gone)
        return replace(self, classes=classes, videos=tuple(kept(video) for video in self.videos))

    def listed(self) -> list[AnnotatedVideo]:
        """All videos, whether their file is there or not; an empty path where the release does not say it."""
        return [_annotated(video, video.path or "") for video in self.videos]

    def interval_problems(self) -> list[Problem]:
        """What would be clamped or dropped if the videos were as long as the release says.

        Packing does the same with the true durations, and counts that instead.
        """
        problems: list[Problem] = []
        for video in self.videos:
            duration = math.inf if video.duration_seconds is None else video.duration_seconds
            problems += tidy_intervals(video.intervals, video.video_id, duration)[1]
        return problems

    def located(self, folder_urls: Sequence[str]) -> tuple[list[AnnotatedVideo], list[Problem]]:
        """The videos whose file was found, in their order, and why the others were not.

        Kinds: ``missing_file``, ``missing_video``, ``ambiguous_video`` (left out), ``second_choice`` (taken).

        Raises:
            InputError: videos have to be looked for, and no folder was given.
        """
        sought = [video for video in self.videos if video.path is None]
        if sought and not folder_urls:
            raise InputError(f"{len(sought)} videos have to be looked for; give the folder that holds them (--videos)")
        names_of = {video.video_id: [*video.names, *video.second_names] for video in sought}
        found, problems = find_videos(names_of, folder_urls) if sought else ({}, [])
        paths = {video_id: url for video_id, (url, _) in found.items()}
        for video in sought:
            name = found.get(video.video_id, ("", ""))[1]
            if name and name not in video.names:
                said = f"there is no {' or '.join(video.names)}; {name} was taken"
                problems.append(Problem("second_choice", video.video_id, said))
        listed = [(_annotated(video, video.path), video.video_id) for video in self.videos if video.path is not None]
        there, missing = present(listed)
        paths |= {video.video_id: video.path for video in there}
        annotated = [_annotated(video, paths[video.video_id]) for video in self.videos if video.video_id in paths]
        return annotated, problems + missing


def _annotated(video: ReleasedVideo, path: str) -> AnnotatedVideo:
    return AnnotatedVideo(video.video_id, path, video.labels, video.intervals, video.split, video.group)
