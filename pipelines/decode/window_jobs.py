"""What is to be decoded of one video for its windows: which pieces of the file, which runs of packets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np

from adaptfocus.pipelines.decode.bag import reads_member
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.store.ahead import Fetched, read_ahead
from adaptfocus.pipelines.store.range_file import RangeFile, open_member
from adaptfocus.pipelines.store.reads import ReadConfig
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.pipelines.video.spans import Run, frames_at, packets_of, parts_in_place, shown_pts, span_of

PIECE_BYTES = 4 * 2**20  # of one request: at 50 ms each, 80 MB/s on one connection
_PIECES_IN_FLIGHT = 4
_WINDOWS_AT_ONCE = 1024  # whose frames are looked up together


@dataclass(frozen=True)
class Window:
    """Some frames around a moment."""

    center_seconds: float  # from the first frame shown
    frames: np.ndarray  # uint8 [T, C, H, W]

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 [T, C, H, W]: {self.frames.dtype} {self.frames.shape}")


@dataclass
class DenseCounts:
    """What the windows of a video cost, added up while they are made."""

    read_bytes: int = 0
    requests: int = 0
    packets_decoded: int = 0
    frames_converted: int = 0
    windows: int = 0

    def since(self, before: DenseCounts) -> DenseCounts:
        """What was added after `before`."""
        return DenseCounts(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


class Source(Protocol):
    """Where a video's bytes come from."""

    def pieces(self, bags: Iterable[dict]) -> Iterator[Fetched]:
        """The bytes of bags with one span each, in their order."""
        ...

    def member(self, video: Mapping[str, Any]) -> RangeFile:
        """The video as a file, where a demuxer or decord reads it."""
        ...


@dataclass(frozen=True)
class Store:
    """The store itself, read ahead of the decoder."""

    config: ReadConfig | None = None

    def pieces(self, bags: Iterable[dict]) -> Iterator[Fetched]:
        return read_ahead(bags, PIECE_BYTES * _PIECES_IN_FLIGHT, _PIECES_IN_FLIGHT, self.config)

    def member(self, video: Mapping[str, Any]) -> RangeFile:
        return open_member(video, PIECE_BYTES, _PIECES_IN_FLIGHT)


@dataclass(frozen=True)
class DenseJob:
    """The windows to make of a video."""

    video: Mapping[str, Any]
    packets: Packets
    shown: np.ndarray  # [frames] int64
    centers_seconds: np.ndarray  # [windows]
    steps_seconds: np.ndarray  # [frames of a window], around 0
    size_pixels: int
    decode: DecodeConfig
    leave_out: bool = True  # packets that nothing refers to

    @property
    def reads_member(self) -> bool:
        return reads_member(self.video, self.decode.backend)

    def after(self, done: int) -> DenseJob:
        """The same without its first windows."""
        return replace(self, centers_seconds=self.centers_seconds[done:])

    def windows(self) -> Iterator[tuple[float, np.ndarray]]:
        """(centre, pts of its frames) of each window."""
        for at in range(0, len(self.centers_seconds), _WINDOWS_AT_ONCE):
            centers = self.centers_seconds[at : at + _WINDOWS_AT_ONCE]
            pts = frames_at(self.video, self.shown, centers[:, None] + self.steps_seconds)
            yield from zip(centers.tolist(), pts, strict=True)

    def wanted_pts(self) -> np.ndarray:
        """The frames that any window shows, sorted."""
        return np.array(sorted(set(chain.from_iterable(pts.tolist() for _, pts in self.windows()))), np.int64)


def dense_job(
    video: Mapping[str, Any],
    *,
    frames: int,
    stride_seconds: float,
    hop_seconds: float,
    size_pixels: int,
    decode: DecodeConfig | None = None,
    start_seconds: float = 0,
    end_seconds: float | None = None,
) -> DenseJob:
    """What `dense_windows` makes.

    Raises:
        ConfigError: a stretch that is empty, a stride or hop that is not positive.
    """
    until_seconds: float = video["duration_seconds"] if end_seconds is None else end_seconds
    until_seconds = min(until_seconds, video["duration_seconds"])
    if frames < 1 or stride_seconds <= 0 or hop_seconds <= 0 or not 0 <= start_seconds < until_seconds:
        raise ConfigError(
            f"windows of {frames} frames every {stride_seconds} s, a hop of {hop_seconds} s, from {start_seconds} to "
            f"{until_seconds} s: frames, stride and hop must be above 0, and the stretch inside the video"
        )
    edges = start_seconds + hop_seconds * np.arange(number_of_hops(until_seconds - start_seconds, hop_seconds))
    packets = packets_of(video)
    return DenseJob(
        video=video,
        packets=packets,
        shown=shown_pts(video, packets),
        centers_seconds=(edges + np.minimum(edges + hop_seconds, until_seconds)) / 2,
        steps_seconds=(np.arange(frames) - (frames - 1) / 2) * stride_seconds,
        size_pixels=size_pixels,
        decode=decode or DecodeConfig(),
    )


def number_of_hops(seconds: float, hop_seconds: float) -> int:
    """Windows of a stretch; a rest that is rounding alone is none."""
    return int(np.ceil(seconds / hop_seconds - 1e-9))


def pieces_to_read(job: DenseJob, wanted_pts: np.ndarray) -> Iterator[dict]:
    """The ranges of bytes that a job needs, each as a bag with one span; `is_last` of a run of packets."""
    shard = {name: job.video.get(name) for name in ("shard_url", "shard_size_bytes", "shard_tag")}
    for run in runs_of(job.packets, wanted_pts, job.video.get("recovery_ticks") or 0):
        for piece, is_last in pieces_of(job.packets, run):
            yield {**shard, "spans": [span_of(job.video, job.packets, piece)], "is_last": is_last}


def runs_of(packets: Packets, wanted_pts: np.ndarray, recovery_ticks: int = 0) -> list[Run]:
    """Packets to decode without a break: whole GOPs that follow each other, up to the last wanted frame's packet.

    A GOP is decoded if a frame of it is wanted, or if a frame is that leads the next GOP's keyframe, or comes less than
    `recovery_ticks` behind it.
    """
    keys = np.flatnonzero(packets.is_key)
    if not len(keys) or keys[0]:
        keys = np.concatenate([[0], keys])
    wanted = np.flatnonzero(np.isin(packets.pts, wanted_pts))
    gops = np.searchsorted(keys, wanted, side="right") - 1
    whole_from = np.maximum.accumulate(packets.pts[keys]) + recovery_ticks
    starts = np.clip(np.searchsorted(whole_from, packets.pts[wanted], side="right") - 1, 0, gops)
    begun = np.bincount(starts, minlength=len(keys)) - np.bincount(gops + 1, minlength=len(keys) + 1)[:-1]
    decoded = np.flatnonzero(np.cumsum(begun) > 0)
    breaks = np.flatnonzero(np.diff(decoded) > 1) + 1
    runs = []
    for group in np.split(decoded, breaks):
        last = wanted[np.searchsorted(gops, group[-1], side="right") - 1]
        runs.append(Run(int(keys[group[0]]), int(last)))
    return runs


def pieces_of(packets: Packets, run: Run) -> Iterator[tuple[Run, bool]]:
    """A run cut into ranges of at most PIECE_BYTES (or one packet): (packets, whether they are the run's last)."""
    for part in parts_in_place(packets, run):
        places = slice(part.first, part.last + 1)
        ends = np.maximum.accumulate(packets.offset_bytes[places] + packets.size_bytes[places])
        first = part.first
        while first <= part.last:
            after = part.first + int(np.searchsorted(ends, packets.offset_bytes[first] + PIECE_BYTES, side="right"))
            last = max(after - 1, first)
            yield Run(first, last), last == run.last
            first = last + 1
