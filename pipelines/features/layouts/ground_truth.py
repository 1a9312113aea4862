"""One label for each frame, for the segmentation layouts.

Labels come from a `segmentation.jsonl`, or from the intervals of the index that the features were extracted from. The
label at the middle of a frame counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adaptfocus.pipelines.annotations.tasks import Segment, read_segmentation
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features.layouts.given import Given, frames_in
from adaptfocus.pipelines.index.load import load_index


@dataclass(frozen=True)
class Truth:
    """The segments of a video."""

    split: str | None
    duration_seconds: float  # the labelled time
    segments: tuple[Segment, ...]  # in the order of their starts; they may overlap or leave gaps

    def labels(self, fps: float, background: str) -> list[str]:
        """The label of each frame: of the current segment that started last; `background` if there is none."""
        frames = frames_in(self.duration_seconds, fps)
        times = (np.arange(frames) + 0.5) / fps
        names = np.full(frames, word(background), object)
        for start, end, label in self.segments:
            names[(times >= start) & (times < end)] = word(label)
        if self.segments and self.segments[-1][1] >= self.duration_seconds:
            names[times >= self.segments[-1][1]] = word(self.segments[-1][2])  # half a frame of rounding
        return names.tolist()


def truths(given: Given) -> dict[str, Truth]:
    """id -> the truth of a video. Videos without any are left out.

    Raises:
        ConfigError: no video has any.
    """
    found = dict(_from_file(given.segmentation_url) if given.segmentation_url else _from_indexes(given))
    if not found:
        raise ConfigError("no video has intervals in its index; give a segmentation.jsonl with --segmentation")
    return found


def word(label: str) -> str:
    """A label as one word, because readers split at spaces."""
    return "_".join(label.split())


def mapping_of(labels: set[str]) -> dict[str, int]:
    """label -> number, in alphabetical order."""
    return {name: number for number, name in enumerate(sorted(labels))}


def check_words(labels: set[str]) -> None:
    """Raises InputError if two labels become one word."""
    owners: dict[str, str] = {}
    for label in sorted(labels):
        other = owners.setdefault(word(label), label)
        if other != label:
            raise InputError(f"the labels {other!r} and {label!r} would both be {word(label)!r}; rename one of them")


def _from_file(url: str) -> Iterator[tuple[str, Truth]]:
    videos = read_segmentation(url)
    check_words({label for video in videos for _, _, label in video.segments})
    for video in videos:
        yield video.video_id, Truth(video.split, video.duration_seconds, video.segments)


def _from_indexes(given: Given) -> Iterator[tuple[str, Truth]]:
    for each in given.sets:
        table = load_index(each.facts["index"], ["video_id", "intervals", "duration_seconds"]).table
        rows = [row for row in table.to_pylist() if row["intervals"] is not None]
        check_words({span["label"] for row in rows for span in row["intervals"]})
        for row in rows:
            spans = sorted((s["start_seconds"], s["end_seconds"], s["label"]) for s in row["intervals"])
            yield row["video_id"], Truth(each.facts["split"], row["duration_seconds"], tuple(spans))
