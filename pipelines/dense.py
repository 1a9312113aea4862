"""Overlapping windows over a whole video: for evaluation along time and for features.

Input: a row of the index, the shape of a window, how far apart windows are; where its bytes come from.
Does: fetches the packets once, in pieces of some MiB and ahead of the decoder; decodes and converts each frame once,
without a break between pieces, so that open GOPs decode across them; keeps the converted frames that windows to come
still show.
Output: the windows, in order of time. Memory is bounded by the span of a window
and the pieces in flight, whatever the video's length. `dense_apart` has it done in a process of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from itertools import chain
from typing import Any, Protocol

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.clip_decoder import member_frames, reads_member
from adaptfocus.pipelines.clip_reader import Fetched, read_ahead
from adaptfocus.pipelines.display import Display, display_of
from adaptfocus.pipelines.errors import BadVideoError, ConfigError
from adaptfocus.pipelines.frames import DecodeConfig, open_member
from adaptfocus.pipelines.nal_units import needed
from adaptfocus.pipelines.packet_arrays import padded_packet
from adaptfocus.pipelines.packet_codec import Packets
from adaptfocus.pipelines.packet_decoder import held_back, new_context, packets_in, refuse_corrupt
from adaptfocus.pipelines.packets import Run, frames_at, packets_of, parts_in_place, shown_pts, span_of
from adaptfocus.pipelines.pictures import write_picture
from adaptfocus.pipelines.range_file import RangeFile
from adaptfocus.pipelines.store_reads import ReadConfig

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


def dense_windows(
    video: Mapping[str, Any], *, counts: DenseCounts | None = None, source: Source | None = None, **shape: Any
) -> Iterator[Window]:
    """Windows of `frames` frames, `stride_seconds` apart, around the middle of each hop of a stretch of a video.

    The stretch is cut into hops of `hop_seconds`, the last of which may be shorter. Frames before the first and after
    the last of the video are those: a window is always full.

    Args:
        video: a row of INDEX_SCHEMA.
        counts: is added to, if given.
        source: where the bytes come from; the store if not given.
        shape: as `dense_job` takes it. A stretch counts from the first frame shown; it ends at `end_seconds`, or
            with the video.

    Raises:
        BadVideoError: the video does not decode, or a wanted frame does not come out of it.
        ConfigError: a stretch that is empty, a stride or hop that is not positive.
        StorageError: the video cannot be read.
    """
    return windows_of(dense_job(video, **shape), counts or DenseCounts(), source or Store())


def windows_of(job: DenseJob, counts: DenseCounts, source: Source) -> Generator[Window, None, None]:
    """The windows of a job; raises as `dense_windows`."""
    done, last = 0, None
    try:
        for window in _windows(job, counts, source):
            done, last = done + 1, window
            yield window
    except BadVideoError as error:
        if job.reads_member:
            raise
        # An encoder may mark pictures as not referred to that others refer to (see packet_decoder). The last window
        # is made again: what was wrong may be shown behind frames that refer to it.
        again = _windows(replace(job.after(max(done - 1, 0)), leave_out=False), counts, source)
        if last is not None:
            counts.windows -= 1
            if not np.array_equal(next(again).frames, last.frames):
                raise BadVideoError(
                    "decode_error", "pictures refer to others that are marked as not referred to"
                ) from error
        yield from again


def _windows(job: DenseJob, counts: DenseCounts, source: Source) -> Iterator[Window]:
    shape = job.decode.frame_shape(job.size_pixels)
    held: dict[int, np.ndarray] = {}  # pts -> picture, in order of time
    windows = job.windows()
    following = next(windows, None)
    for pts, frame, display in _frames(job, counts, source):
        held[pts] = np.empty(shape, np.uint8)
        write_picture(frame, job.decode.crop_fraction, job.decode.pixel_format, display, held[pts])
        counts.frames_converted += 1
        while following is not None and following[1][-1] <= pts:
            window = _window(following, held)
            counts.windows += 1
            yield window
            following = next(windows, None)
            for old in [each for each in held if following is None or each < following[1][0]]:
                del held[old]
    if following is not None:
        _window(following, held)  # raises: its last frame has not come


def _window(wanted: tuple[float, np.ndarray], held: Mapping[int, np.ndarray]) -> Window:
    center_seconds, frame_pts = wanted
    missing = [pts for pts in frame_pts.tolist() if pts not in held]
    if missing:
        raise BadVideoError("missing_frame", f"{len(missing)} of {len(frame_pts)} frames did not decode: {missing[:4]}")
    return Window(center_seconds, np.stack([held[pts] for pts in frame_pts.tolist()]))


def _frames(job: DenseJob, counts: DenseCounts, source: Source) -> Iterator[tuple[int, av.VideoFrame, Display]]:
    """(pts, frame, how to show it) of the frames wanted, in order of time, each once."""
    wanted = job.wanted_pts()
    if job.reads_member:
        yield from member_frames(job.video, job.decode.backend, wanted.tolist(), source.member(job.video))
        return
    display = display_of(job.video)
    try:
        for frame in _frames_of_runs(job, wanted, counts, source):
            yield int(frame.pts or 0), frame, display
    except FFmpegError as error:
        raise BadVideoError("decode_error", str(error)) from error


def pieces_to_read(job: DenseJob, wanted_pts: np.ndarray) -> Iterator[dict]:
    """The ranges of bytes that a job needs, each as a bag with one span; `is_last` of a run of packets."""
    shard = {name: job.video.get(name) for name in ("shard_url", "shard_size_bytes", "shard_tag")}
    for run in runs_of(job.packets, wanted_pts, job.video.get("recovery_ticks") or 0):
        for piece, is_last in pieces_of(job.packets, run):
            yield {**shard, "spans": [span_of(job.video, job.packets, piece)], "is_last": is_last}


def _frames_of_runs(job: DenseJob, wanted: np.ndarray, counts: DenseCounts, source: Source) -> Iterator[av.VideoFrame]:
    codec, extradata, missing = job.video["codec"], job.video["extradata"] or b"", set(wanted.tolist())
    context, first_pts, highest_pts = None, None, 0
    for bag, (data,), reading in source.pieces(pieces_to_read(job, wanted)):
        counts.read_bytes, counts.requests = counts.read_bytes + reading.size_bytes, counts.requests + reading.requests
        packets = packets_in(bag["spans"][0], data)
        first_pts, highest_pts = (packets[0].pts, packets[0].pts) if first_pts is None else (first_pts, highest_pts)
        highest_pts = max(highest_pts, *(packet.pts for packet in packets))
        is_wanted = [packet.pts in missing for packet in packets]
        keep = [True] * len(packets)
        if job.leave_out:
            keep = needed(codec, extradata, [packet.data for packet in packets], is_wanted, not bag["is_last"])
        context = context or new_context(codec, extradata)
        kept = [padded_packet(*packet) for packet, is_kept in zip(packets, keep, strict=True) if is_kept]
        counts.packets_decoded += len(kept)
        for packet in [*kept, None] if bag["is_last"] else kept:
            is_over = packet is None
            for frame in held_back(context, packets[-1].pts, highest_pts) if is_over else context.decode(packet):
                refuse_corrupt(frame, first_pts)
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame
        if bag["is_last"]:
            context, first_pts = None, None  # the next run begins with a decoder that has seen nothing


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
