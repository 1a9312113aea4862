"""Frames of a member that is read as a file: through a demuxer, or by decord.

Input: a member of a tar as a file, and the times (pts) of the frames wanted of it.
Does: opens it once for all of them; "demux" reads ranges as it needs them, "decord" the whole member first.
Output: the frames wanted, in the order of presentation.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.decode.span import refuse_corrupt
from adaptfocus.pipelines.errors import BadVideoError, ConfigError
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.video.containers import TOLERANT
from adaptfocus.pipelines.video.decoder_starts import DecoderStarts
from adaptfocus.pipelines.video.ffv1_slices import refuse_damaged
from adaptfocus.pipelines.video.main_stream import main_video_stream
from adaptfocus.pipelines.video.shown_packets import ShownPackets

# Frames at most this far apart are reached by decoding on; a seek goes back to a keyframe, which lies 2 to 10 s apart.
NEAR_SECONDS = 4
# How far before the first frame wanted to seek: a seek may land on a keyframe that is decoded before it and shown
# after it. None is to just before where the first seek has led: an index of AVI may call a packet without a picture a
# keyframe, in each group of pictures behind the true one.
_STEPS_BACK_SECONDS = (0, None, 2, 8, 32, 128, 10**9)
MAX_MEMBER_BYTES = 2 * 2**30  # decord keeps the member in memory, twice while it is handed over
_DECORD_BATCH_FRAMES = 16


def demux_frames(
    wanted_pts: Collection[int], member: RangeFile | BinaryIO, from_start: bool = False
) -> Iterator[av.VideoFrame]:
    """Frames by PyAV over ranges of the member, one container for all.

    It seeks to a keyframe before each group of frames that lie near each other. Where frames do not come that way (a
    container that cannot seek there, keyframes that are none), the rest is decoded from the member's start.

    Args:
        from_start: decode from the start at once: the index found that a seek loses what the decoder needs.

    Raises:
        BadVideoError: no_video_stream, unknown_codec, decode_error.
        StorageError: the member cannot be read.
    """
    left = sorted(set(wanted_pts))
    if not from_start:
        try:
            for frame in seek_frames(left, member):
                del left[: left.index(int(frame.pts or 0)) + 1]
                yield frame
        except (FFmpegError, ValueError, MissingFrameError):
            pass
        except BadVideoError as error:
            if error.kind != "decode_error":
                raise
    if left:
        yield from _in_order(left, member)


class MissingFrameError(Exception):
    """A frame did not come after a seek."""


def seek_frames(
    wanted_pts: Sequence[int], member: RangeFile | BinaryIO, options: Mapping[str, str] | None = None
) -> Iterator[av.VideoFrame]:
    """Frames, each group by a seek, by a decoder with these options.

    Raises:
        MissingFrameError: before any is given that comes after one that is not.
    """
    with _opened(member) as container:
        stream = main_stream(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {**stream.codec_context.options, **(options or {})}
        for group in _near_each_other(wanted_pts, stream.time_base):
            missing = list(group)
            for frame in _frames_between(container, stream, group):
                if frame.pts in missing:
                    if frame.pts != missing.pop(0):
                        raise MissingFrameError
                    yield frame
            if missing:
                raise MissingFrameError


def _in_order(wanted_pts: Sequence[int], member: RangeFile | BinaryIO) -> Iterator[av.VideoFrame]:
    """Frames of a decode from the member's first packet, as a player shows them: packets that fail are passed over."""
    missing, first_pts, failure, is_shown, fed = set(wanted_pts), None, None, False, _Fed(wanted_pts)
    try:
        with _opened(member) as container:
            stream = main_stream(container)
            stream.codec_context.thread_count = 1
            for packet in ShownPackets(container, stream):
                is_needed = fed.add(packet)
                if first_pts is None and packet.is_keyframe:
                    first_pts = packet.pts
                try:
                    frames = packet.decode()
                except FFmpegError as error:  # before the first frame: a stream that was cut
                    failure = (failure or error) if is_shown and is_needed else failure
                    continue
                is_shown |= bool(frames)
                for frame in frames:
                    if frame.pts in missing:
                        if failure:
                            raise failure
                        missing.discard(frame.pts)
                        yield frame
                    if first_pts is not None and frame.pts not in fed.behind:
                        refuse_corrupt(frame, first_pts)
                if not missing:
                    return
    except (FFmpegError, ValueError) as error:
        raise BadVideoError("decode_error", str(error)) from error


@contextmanager
def _opened(member: RangeFile | BinaryIO) -> Iterator[Any]:
    member.seek(0)
    reader = io.BufferedReader(member)  # type: ignore[arg-type]
    try:
        with av.open(reader, "r", **TOLERANT) as container:
            yield container
    finally:
        reader.detach()  # or it closes the member when it is collected, and nobody can try again


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


def _frames_between(container: Any, stream: Any, wanted_pts: Sequence[int]) -> Iterator[av.VideoFrame]:
    """All frames from a keyframe that is shown at or before the first that is wanted, up to the last."""
    packets, from_pts = _from_keyframe(container, stream, wanted_pts[0])
    context, fed = stream.codec_context, _Fed(wanted_pts)
    for packet in packets:
        is_needed = fed.add(packet)
        try:
            frames = packet.decode()
        except FFmpegError:
            if is_needed:
                raise
            continue
        for number, frame in enumerate(frames):
            if frame.pts not in fed.behind:
                refuse_corrupt(frame, from_pts)
            is_last = frame.pts is not None and frame.pts >= wanted_pts[-1]
            behind = (context.decode(None) if packet.size else frames[number + 1 :]) if is_last else ()
            for held in behind:  # shown after it, but it may refer to them
                if held.pts not in fed.behind:
                    refuse_corrupt(held, from_pts)
            yield frame
            if is_last:
                return


def _from_keyframe(container: Any, stream: Any, first_pts: int) -> tuple[Iterator[Any], int]:
    """Packets from a keyframe on that is shown at or before a time, and its own time."""
    packets, from_pts, before_landing = iter(()), first_pts, first_pts
    context = stream.codec_context
    for step_back in _STEPS_BACK_SECONDS:
        _seek(container, stream, before_landing if step_back is None else first_pts - int(step_back / stream.time_base))
        shown = ShownPackets(container, stream)
        packets = iter(shown)
        # In a transport stream a seek may land between keyframes.
        is_last = step_back == _STEPS_BACK_SECONDS[-1]
        first = next((p for p in packets if p.is_keyframe or is_last or (p.pts or first_pts) > first_pts), None)
        packets = chain([first] if first else [], packets)
        before_landing = first_pts if shown.first_dts is None else min(shown.first_dts - 1, first_pts)
        from_pts = first_pts if first is None or first.pts is None else min(first.pts, first_pts)
        # A demuxer of raw H.264 takes a recovery point for a keyframe, though it is whole only some frames later.
        starts = DecoderStarts(context.codec.canonical_name, context.extradata or b"")
        is_found = first and first.pts == from_pts and (first.is_keyframe or is_last)
        if is_found and first and starts.add(bytes(first)) == 0:
            break
    return packets, from_pts


class _Fed:
    """What a decoder has been given: behind the last packet of a wanted frame, nothing that fails matters.

    A file that was cut off ends in half a picture, which others that are whole are shown after.
    """

    def __init__(self, wanted_pts: Collection[int]) -> None:
        self._left = set(wanted_pts)
        self.behind: set[int] = set()  # pts of packets that no wanted frame refers to

    def add(self, packet: Any) -> bool:
        """Whether a wanted frame may need this packet. Raises BadVideoError (decode_error) if it then is damaged."""
        pts, context = packet.pts, packet.stream.codec_context
        if self._left or pts is None:
            refuse_damaged(context.codec.canonical_name, context.extradata, packet, pts)
            self._left.discard(pts)  # type: ignore[arg-type]
            return True
        self.behind.add(pts)
        return False


def _seek(container: Any, stream: Any, pts: int) -> None:
    """Seek to a keyframe at or before a time, or to the start.

    A transport stream asked for its very start answers with its second keyframe, so it is asked for a second before
    it; AVI and FLV refuse a time before their start.
    """
    start = stream.start_time or 0
    try:
        container.seek(max(pts, start - int(1 / stream.time_base)), stream=stream, backward=True)
    except FFmpegError:
        container.seek(max(pts, start), stream=stream, backward=True)


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
    if bag["is_mirrored"]:
        raise BadVideoError("decord_unsafe", f"it is mirrored for display, which decord does not do; {mend}")
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

    Packets that are not shown (an edit list hides them, a cut took their references, there is no picture in them) are
    left out, so that the numbers of both disagree where decord counts them.
    """
    with av.open(file, "r", **TOLERANT) as container:
        if container.format.name in ("mpegts", "mpeg"):
            text = "of transport and program streams decord shows other frames than are asked for"
            raise BadVideoError("decord_unsafe", f"{text}; set decode.backend=packets")
        source = ShownPackets(container, main_stream(container))
        packets = [p for p in source if p.size and p.pts is not None and source.holds_picture]
    file.seek(0)
    return np.sort([p.pts for p in packets if not p.is_discard and p.pts >= packets[0].pts]).astype(np.int64)
