"""Windows over many whole videos, in batches that cross the ends of videos.

    rows of the index --Filler--> windows, written into their place in the batch

Videos are decoded one after the other, each in another process if wanted. A batch may hold the last windows of one
video and the first of the next. A video that does not decode becomes one row with its reason. Nothing here knows Ray:
`pipelines.stream.on_ray` runs the same code on a cluster.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from adaptfocus.pipelines.apart.memory import shared_array
from adaptfocus.pipelines.apart.windows import FillerApart
from adaptfocus.pipelines.decode.filler import Filled, Filler
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.decode.window_jobs import Store, dense_job, number_of_hops
from adaptfocus.pipelines.errors import BadVideoError, as_bad_video
from adaptfocus.pipelines.index.load import read_rows
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.store.reads import ReadConfig
from adaptfocus.pipelines.stream.batches import BAD_VIDEO, ERROR_BYTES, KIND_BYTES, WindowBatch, encode_error
from adaptfocus.pipelines.stream.threads import end_threads, put_unless

BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True)
class WindowShape:
    """The windows of every video, and how they are made."""

    clip: ClipConfig
    hop_seconds: float
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    isolation: Isolation | None = None  # None: decode in this process

    @property
    def frames_shape(self) -> tuple[int, ...]:
        """[T, C, H, W] of a window."""
        return (self.clip.frames, *self.decode.frame_shape(self.clip.size_pixels))

    @property
    def windows_per_batch(self) -> int:
        """As many as fit BATCH_BYTES, at most 64."""
        return max(1, min(64, BATCH_BYTES // int(np.prod(self.frames_shape))))

    def steps(self, duration_seconds: float) -> int:
        """The number of windows of a video."""
        return number_of_hops(duration_seconds, self.hop_seconds)

    def job(self, video: Mapping[str, Any]) -> dict[str, Any]:
        """The windows of one video, as the arguments of `decode.window_jobs.dense_job`."""
        return {
            "frames": self.clip.frames,
            "stride_seconds": self.clip.stride_seconds(video["frame_rate_hz"]),
            "hop_seconds": self.hop_seconds,
            "size_pixels": self.clip.size_pixels,
        }


@dataclass(frozen=True)
class VideoRange:
    """Videos [start, stop) of an index, except those that are left out."""

    index_url: str
    fingerprint: str
    start: int
    stop: int
    left_out: Sequence[int] = ()

    def videos(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number of the row in the index, the row itself) of each video. Only this range of rows is in memory."""
        table = read_rows(self.index_url, self.start, self.stop, self.fingerprint)
        for at, video_row in enumerate(range(self.start, self.stop)):
            if video_row not in self.left_out:
                yield video_row, table.slice(at, 1).to_pylist()[0]


def window_batches(
    videos: Iterable[tuple[int, Mapping[str, Any]]], shape: WindowShape, windows_per_batch: int | None = None
) -> Iterator[WindowBatch]:
    """All windows of some videos, in their order.

    Args:
        videos: (row in the index, row of INDEX_SCHEMA) of each.
        windows_per_batch: the shape's own number by default.

    Raises:
        ConfigError: the settings do not allow these windows.
        StorageError: a video cannot be read.
    """
    size = windows_per_batch or shape.windows_per_batch
    batch, at = _empty(shape, size), 0
    for video_row, video in videos:
        first, is_over, filler = 0, False, None
        try:
            while not is_over:
                filler = filler or _filler(video, shape)
                count, is_over = _fill(filler, batch, at, first)
                batch.video_row[at : at + count] = video_row
                first, at = first + count, at + count
                if at == size:
                    yield batch
                    batch, at = _empty(shape, size), 0
        finally:
            if filler and not is_over:
                filler.close()
    if at:
        yield batch.head(at)


def batches_of_ranges(ranges: Sequence[VideoRange], shape: WindowShape, threads: int) -> Iterator[WindowBatch]:
    """All windows of some ranges, in no particular order. Threads take the ranges one after the other."""
    left, ended = deque(ranges), threading.Event()
    made: queue.Queue[WindowBatch | BaseException | None] = queue.Queue(1)

    def work() -> None:
        try:
            for batch in window_batches(_videos_of(left), shape):
                if not put_unless(made, batch, ended):
                    return
            put_unless(made, None, ended)
        except BaseException as error:  # raised in the consumer
            put_unless(made, error, ended)

    running = max(1, min(threads, len(ranges)))
    makers = [threading.Thread(target=work, name=f"windows-{number}", daemon=True) for number in range(running)]
    for maker in makers:
        maker.start()
    try:
        while running:
            item = made.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        ended.set()
        end_threads(makers)


def _videos_of(left: deque[VideoRange]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The videos of those ranges that no other thread takes."""
    while left:
        try:
            part = left.popleft()
        except IndexError:  # another thread has taken the last range
            return
        yield from part.videos()


def _fill(filler: _Filler, batch: WindowBatch, at: int, first: int) -> tuple[int, bool]:
    """Write the next windows into a batch, or the reason why there are none -> (rows written, whether the video ended).

    Args:
        at: the first free row.
        first: the number of the video's next window.
    """
    try:
        filled = filler.fill(batch.frames[at:])
    except Exception as error:  # whatever goes wrong with one video, the others keep their windows
        bad = as_bad_video(error)
        filler.close()
        batch.frames[at] = 0
        batch.step[at] = BAD_VIDEO
        batch.kind[at], batch.error[at] = encode_error(bad)
        return 1, True
    count = len(filled.center_seconds)
    batch.step[at : at + count] = np.arange(first, first + count)
    batch.center_seconds[at : at + count] = filled.center_seconds
    for name in ("packets_decoded", "frames_converted", "read_bytes"):
        getattr(batch, name)[at] = getattr(filled.counts, name)
    return count, filled.is_over


class _Filler(Protocol):
    def fill(self, out: np.ndarray) -> Filled: ...

    def close(self) -> None: ...


class _Unusable:
    """The filler of a video without windows."""

    def __init__(self, error: BadVideoError) -> None:
        self.error = error

    def fill(self, out: np.ndarray) -> Filled:
        raise self.error

    def close(self) -> None:
        """There is nothing to close."""


def _filler(video: Mapping[str, Any], shape: WindowShape) -> _Filler:
    try:
        if not video["duration_seconds"] > 0:
            text = f"it lasts {video['duration_seconds']} s, which holds no window"
            raise BadVideoError("no_duration", text)
        if shape.isolation:
            return FillerApart(video, shape.job(video), shape.decode, shape.isolation, shape.read)
        return Filler(dense_job(video, decode=shape.decode, **shape.job(video)), Store(shape.read))
    except Exception as error:
        return _Unusable(as_bad_video(error))


def _empty(shape: WindowShape, windows: int) -> WindowBatch:
    frames = (windows, *shape.frames_shape)
    return WindowBatch(
        **{name: np.zeros(windows, np.int64) for name in (
            "video_row", "step", "packets_decoded", "frames_converted", "read_bytes"
        )},
        center_seconds=np.zeros(windows, np.float64),
        kind=np.zeros((windows, KIND_BYTES), np.uint8),
        error=np.zeros((windows, ERROR_BYTES), np.uint8),
        frames=shared_array(frames) if shape.isolation else np.empty(frames, np.uint8),
    )  # fmt: skip
