"""Windows of a video, written where batches have them. What a decoding process of its own runs too.

Input: a job of `dense`, and where its bytes come from; parts of batches.
Does: makes the next windows into each part. Output: their times, and what they cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from adaptfocus.pipelines.decode.window_jobs import DenseCounts, DenseJob, Source
from adaptfocus.pipelines.decode.windows import windows_of
from adaptfocus.pipelines.errors import RETRY_REASONS
from adaptfocus.pipelines.store.ahead import Fetched, Reading
from adaptfocus.pipelines.store.range_file import RangeFile


class Filled(NamedTuple):
    """What was written into a part of a batch."""

    center_seconds: list[float]
    counts: DenseCounts  # since the part before
    is_over: bool  # no window is left


class Filler:
    """The windows of a job, written where batches have them."""

    def __init__(self, job: DenseJob, source: Source) -> None:
        self._left = len(job.centers_seconds)
        self._counts = DenseCounts()
        self._windows = windows_of(job, self._counts, source)

    def fill(self, out: np.ndarray) -> Filled:
        """Write the next windows into uint8 [windows, T, C, H, W], from its beginning on. Raises as `dense_windows`."""
        before, centers = replace(self._counts), []
        for place in out[: self._left]:
            window = next(self._windows)
            place[:] = window.frames
            centers.append(window.center_seconds)
        self._left -= len(centers)
        for _ in () if self._left else self._windows:  # what is shown behind the last window may be damaged
            pass
        return Filled(centers, self._counts.since(before), not self._left)

    def close(self) -> None:
        """Nothing more is read."""
        self._windows.close()


@dataclass(frozen=True)
class FileSource:
    """Bytes of a video that is here as a file: in a decoding process, one whose bytes the other process fetches."""

    file: RangeFile

    def pieces(self, bags: Iterable[dict]) -> Iterator[Fetched]:
        for bag in bags:
            (span,) = bag["spans"]
            data = self.file.read_range(span["offset_bytes"] - self.file.offset_bytes, span["size_bytes"])
            yield Fetched(bag, [data], Reading(span["size_bytes"], 1, 0.0, np.zeros(len(RETRY_REASONS), np.int64)))

    def member(self, video: Mapping[str, Any]) -> RangeFile:
        return self.file
