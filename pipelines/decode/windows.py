"""Overlapping windows over a whole video: for evaluation along time and for features.

Input: a row of the index, the shape of a window, how far apart windows are; where its bytes come from.
Does: fetches the packets once, in pieces of some MiB and ahead of the decoder; decodes and converts each frame once,
without a break between pieces, so that open GOPs decode across them; keeps the converted frames that windows to come
still show.
Output: the windows, in order of time. Memory is bounded by the span of a window
and the pieces in flight, whatever the video's length. `apart.windows` has it done in a process of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.decode.bag import member_frames
from adaptfocus.pipelines.decode.pictures import write_picture
from adaptfocus.pipelines.decode.span import flush_frames, new_context, packets_in, pass_over, refuse_corrupt
from adaptfocus.pipelines.decode.window_jobs import (
    DenseCounts,
    DenseJob,
    Source,
    Store,
    Window,
    dense_job,
    pieces_to_read,
)
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.display import Display, display_of
from adaptfocus.pipelines.video.nal_units import find_needed
from adaptfocus.pipelines.video.table import pad_packet


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
            keep = find_needed(codec, extradata, [packet.data for packet in packets], is_wanted, not bag["is_last"])
        context = context or new_context(codec, extradata)
        kept = [pad_packet(*packet) for packet, is_kept in zip(packets, keep, strict=True) if is_kept]
        counts.packets_decoded += len(kept)
        for packet in [*kept, None] if bag["is_last"] else kept:
            is_over = packet is None
            if job.leave_out and not is_over:
                pass_over(context, packet.pts in missing)
            for frame in flush_frames(context, packets[-1].pts, highest_pts) if is_over else context.decode(packet):
                refuse_corrupt(frame, first_pts)
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame
        if bag["is_last"]:
            context, first_pts = None, None  # the next run begins with a decoder that has seen nothing
