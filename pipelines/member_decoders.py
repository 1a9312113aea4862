"""Frames of a member that is read as a file: through a demuxer, or by decord.

Input: a member of a tar as a file, and the times (pts) of the frames wanted of it.
Does: opens it once for all of them; "demux" reads ranges as it needs them, "decord" the whole member first.
Output: the frames wanted, in the order of presentation.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from pipelines.containers import TOLERANT
from pipelines.demux_table import main_video_stream
from pipelines.errors import BadVideoError, ConfigError
from pipelines.packet_decoder import refuse_corrupt
from pipelines.range_file import RangeFile

# Frames at most this far apart are reached by decoding on; a seek goes back to a keyframe, which lies 2 to 10 s apart.
NEAR_SECONDS = 4
# How far before the first frame wanted to seek: a seek may land on a keyframe that is decoded before it and shown
# after it.
_STEPS_BACK_SECONDS = (0, 2, 8, 32, 128, 10**9)
MAX_MEMBER_BYTES = 2 * 2**30  # decord keeps the member in memory, twice while it is handed over
_DECORD_BATCH_FRAMES = 16


def demuxed_frames(wanted_pts: Collection[int], member: RangeFile) -> Iterator[av.VideoFrame]:
    """Frames by PyAV over ranges of the member, one container for all.

    Raises:
        BadVideoError: no_video_stream, unknown_codec, decode_error.
        StorageError: the member cannot be read.
    """
    try:
        with av.open(io.BufferedReader(member), "r", **TOLERANT) as container:
            stream = main_stream(container)
            stream.codec_context.thread_count = 1
            for group in _near_each_other(sorted(set(wanted_pts)), stream.time_base):
                missing = set(group)
                for frame in _frames_between(container, stream, group[0], group[-1]):
                    if frame.pts in missing:
                        missing.discard(frame.pts)
                        yield frame
    except (FFmpegError, ValueError) as error:
        raise BadVideoError("decode_error", str(error)) from error


def main_stream(container: Any) -> Any:
    """The stream that was indexed. Raises BadVideoError: no_video_stream, unknown_codec."""
    stream = main_video_stream(container)
    if stream is None:
        raise BadVideoError("no_video_stream", "the container has no video stream")
    if stream.codec_context is None:
        raise BadVideoError("unknown_codec", "its codec is unknown to FFmpeg")
    return stream


def _near_each_other(pts: Sequence[int], time_base: Fraction) -> list[list[int]]:
    groups = [[pts[0]]]
    for each in pts[1:]:
        if (each - groups[-1][-1]) * time_base > NEAR_SECONDS:
            groups.append([])
        groups[-1].append(each)
    return groups


def _frames_between(container: Any, stream: Any, first_pts: int, last_pts: int) -> Iterator[av.VideoFrame]:
    """All frames from a keyframe that is shown at or before `first_pts`, up to `last_pts`."""
    packets: Iterator[Any] = iter(())
    from_pts = first_pts
    # A transport stream asked for its very start answers with its second keyframe: ask for a second before it.
    earliest = (stream.start_time or 0) - int(1 / stream.time_base)
    for step_back in _STEPS_BACK_SECONDS:
        start = max(first_pts - int(step_back / stream.time_base), earliest)
        container.seek(start, stream=stream, backward=True)
        packets = container.demux(stream)
        # In a transport stream a seek may land between keyframes.
        is_last = step_back == _STEPS_BACK_SECONDS[-1]
        first = next((p for p in packets if p.is_keyframe or is_last or (p.pts or first_pts) > first_pts), None)
        packets = chain([first] if first else [], packets)
        from_pts = first_pts if first is None or first.pts is None else min(first.pts, first_pts)
        if first and first.pts == from_pts and (first.is_keyframe or is_last):
            break
    for packet in packets:
        for frame in packet.decode():
            refuse_corrupt(frame, from_pts)
            yield frame
            if frame.pts is not None and frame.pts >= last_pts:
                return


def decord_frames(
    bag: Mapping[str, Any], wanted_pts: Collection[int], member: RangeFile
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(pts, frame) by decord, of the whole member. Frames are RGB and upright already.

    Pixels differ a little from those of the other backends (about one level in the mean): decord converts to RGB
    before we cut and scale.

    Raises:
        BadVideoError: decord_unsafe, member_too_large, no_video_stream, decode_error.
        ConfigError: decord is not installed.
        StorageError: the member cannot be read.
    """
    decord = import_decord()
    mend = "set decode.backend=packets"
    if not bag["keys_in_order"]:
        text = f"it has open GOPs, of which decord shows wrong frames; {mend}"
        raise BadVideoError("decord_unsafe", text)
    if bag["member_size_bytes"] > MAX_MEMBER_BYTES:
        text = f"decord keeps the member in memory: {bag['member_size_bytes']:,} bytes, at most {MAX_MEMBER_BYTES:,}"
        raise BadVideoError("member_too_large", f"{text}; {mend}")
    file = io.BytesIO(member.read_range(0, bag["member_size_bytes"]))
    try:
        shown = _shown_pts(file)
        reader = decord.VideoReader(file, ctx=decord.cpu(0), num_threads=1)
        if len(reader) != len(shown):
            text = f"decord counts {len(reader)} frames where {len(shown)} are shown, and would show wrong ones"
            raise BadVideoError("decord_unsafe", f"{text}; {mend}")
        known = sorted(set(wanted_pts) & set(shown.tolist()))
        numbers = np.searchsorted(shown, known).tolist()
        for at in range(0, len(known), _DECORD_BATCH_FRAMES):
            part = slice(at, at + _DECORD_BATCH_FRAMES)
            pictures = reader.get_batch(numbers[part]).asnumpy()
            for pts, picture in zip(known[part], pictures, strict=True):
                yield pts, av.VideoFrame.from_ndarray(picture, "rgb24")
        reader.seek(0)  # or it decodes on, into memory without bound, until it is collected
    except (FFmpegError, ValueError, decord.DECORDError, decord.DECORDLimitReachedError) as error:
        raise BadVideoError("decode_error", str(error).splitlines()[0]) from error


def import_decord() -> Any:
    """The module, once it is needed. Raises ConfigError: it is not installed."""
    try:
        import decord
    except ImportError:
        raise ConfigError(
            "decode.backend is decord, which is not installed: pip install 'adaptfocus[decord]' (x86-64 only), "
            "or set decode.backend=packets"
        ) from None
    return decord


def _shown_pts(file: BinaryIO) -> np.ndarray:
    """The times of the frames, sorted: decord knows frames by their number among them.

    Packets that are not shown (an edit list hides them, or a cut took their references) are left out, so that the
    numbers of both disagree where decord counts them.
    """
    with av.open(file, "r", **TOLERANT) as container:
        packets = [p for p in container.demux(main_stream(container)) if p.size and p.pts is not None]
    file.seek(0)
    return np.sort([p.pts for p in packets if not p.is_discard and p.pts >= packets[0].pts]).astype(np.int64)
