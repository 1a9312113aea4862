"""Frames of a member that is read as a file: through a demuxer, or by decord.

The member is opened once for all wanted frames, which are given by their times (pts). "demux" reads ranges as it needs
them; "decord" reads the whole member first. Frames come in the order of presentation.
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

# Frames at most this far apart are reached without a seek. A seek goes back to a keyframe; these are 2 to 10 s apart.
NEAR_SECONDS = 4
# How far before the first frame wanted to seek: a seek may land on a keyframe that is decoded before it and shown
# after it. None means just before the place that the first seek found: an index of AVI may mark a packet without a
# picture as a keyframe, in each group of pictures after the true one.
_STEPS_BACK_SECONDS = (0, None, 2, 8, 32, 128, 10**9)
MAX_MEMBER_BYTES = 2 * 2**30  # decord keeps the member in memory, and two copies during the handover
_DECORD_BATCH_FRAMES = 16


def demux_frames(
    wanted_pts: Collection[int], member: RangeFile | BinaryIO, from_start: bool = False
) -> Iterator[av.VideoFrame]:
    """Frames by PyAV over ranges of the member, with one container for all.

    It seeks to a keyframe before each group of nearby frames. If frames are missing after that (the container cannot
    seek there, or its keyframes are false), the rest is decoded from the member's start.

    Args:
        from_start: decode from the start without a seek, because the index found that a seek loses what the decoder
            needs.

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
    """Frames by a decoder with these options, with a seek for each group.

    Raises:
        MissingFrameError: a frame is missing. No frame after it has been given.
    """
    with opened(member) as container:
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
    """Frames of a decode from the member's first packet. Packets that fail are skipped, as in a player."""
    missing, first_pts, failure, is_shown, fed = set(wanted_pts), None, None, False, _Fed(wanted_pts)
    try:
        with opened(member) as container:
            stream = main_stream(container)
            stream.codec_context.thread_count = 1
            for packet in ShownPackets(container, stream):
                is_needed = fed.add(packet)
                if first_pts is None and packet.is_keyframe:
                    first_pts = packet.pts
                try:
                    frames = packet.decode()
                except FFmpegError as error:  # before the first frame: the stream was cut
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
def opened(member: RangeFile | BinaryIO) -> Iterator[Any]:
    member.seek(0)
    reader = io.BufferedReader(member)  # type: ignore[arg-type]
    try:
        with av.open(reader, "r", **TOLERANT) as container:
            yield container
    finally:
        reader.detach()  # otherwise garbage collection closes the member, and no retry is possible


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
    """All frames from a keyframe shown at or before the first wanted frame, up to the last wanted one."""
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
            for held in behind:  # shown after the frame, which may still refer to them
                if held.pts not in fed.behind:
                    refuse_corrupt(held, from_pts)
            yield frame
            if is_last:
                return


def _from_keyframe(container: Any, stream: Any, first_pts: int) -> tuple[Iterator[Any], int]:
    """Packets starting at a keyframe that is shown at or before a time, and the keyframe's time."""
    packets, from_pts, before_landing = iter(()), first_pts, first_pts
    context = stream.codec_context
    for step_back in _STEPS_BACK_SECONDS:
        seek_before(
            container, stream, before_landing if step_back is None else first_pts - int(step_back / stream.time_base)
        )
        shown = ShownPackets(container, stream)
        packets = iter(shown)
        # In a transport stream a seek may land between keyframes.
        is_last = step_back == _STEPS_BACK_SECONDS[-1]
        first = next((p for p in packets if p.is_keyframe or is_last or (p.pts or first_pts) > first_pts), None)
        packets = chain([first] if first else [], packets)
        before_landing = first_pts if shown.first_dts is None else min(shown.first_dts - 1, first_pts)
        from_pts = first_pts if first is None or first.pts is None else min(first.pts, first_pts)
        # A demuxer of raw H.264 takes a recovery point for a keyframe; pictures are complete only some frames later.
        starts = DecoderStarts(context.codec.canonical_name, context.extradata or b"")
        is_found = first and first.pts == from_pts and (first.is_keyframe or is_last)
        if is_found and first and starts.add(bytes(first)) == 0:
            break
    return packets, from_pts


class _Fed:
    """The packets that a decoder got. After the last packet of a wanted frame, failures do not matter.

    A file that was cut off ends in half a picture, and complete pictures are shown after it.
    """

    def __init__(self, wanted_pts: Collection[int]) -> None:
        self._left = set(wanted_pts)
        self.behind: set[int] = set()  # pts of packets that no wanted frame refers to

    def add(self, packet: Any) -> bool:
        """Whether a wanted frame may need this packet. Raises BadVideoError (decode_error) if it is then damaged."""
        pts, context = packet.pts, packet.stream.codec_context
        if self._left or pts is None:
            refuse_damaged(context.codec.canonical_name, context.extradata, packet, pts)
            self._left.discard(pts)  # type: ignore[arg-type]
            return True
        self.behind.add(pts)
        return False


def seek_before(container: Any, stream: Any, pts: int) -> None:
    """Seek to a keyframe at or before a time, or to the start.

    A seek to the very start of a transport stream lands on its second keyframe, so the seek goes to a second before
    the start. AVI and FLV refuse a time before their start.
    """
    start = stream.start_time or 0
    try:
        container.seek(max(pts, start - int(1 / stream.time_base)), stream=stream, backward=True)
    except FFmpegError:
        container.seek(max(pts, start), stream=stream, backward=True)


def decord_frames(
    bag: Mapping[str, Any], wanted_pts: Collection[int], member: RangeFile
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(pts, frame) by decord, from the whole member. Frames are already RGB and upright.

    Pixels differ a little from those of the other backends (about one level in the mean): decord converts to RGB
    before we cut and scale.

    Raises:
        BadVideoError: decord_unsafe, member_too_large, no_video_stream, decode_error.
        ConfigError: decord is not installed.
        StorageError: the member cannot be read.
    """
    decord = import_decord()
    fix = "set decode.backend=packets"
    if not bag["keys_in_order"]:
        text = f"it has open GOPs, for which decord returns wrong frames; {fix}"
        raise BadVideoError("decord_unsafe", text)
    if bag["is_mirrored"]:
        raise BadVideoError("decord_unsafe", f"it is mirrored for display, which decord does not support; {fix}")
    if bag["member_size_bytes"] > MAX_MEMBER_BYTES:
        text = f"decord keeps the member in memory: {bag['member_size_bytes']:,} bytes, at most {MAX_MEMBER_BYTES:,}"
        raise BadVideoError("member_too_large", f"{text}; {fix}")
    file = io.BytesIO(member.read_range(0, bag["member_size_bytes"]))
    try:
        shown = _shown_pts(file)
        reader = decord.VideoReader(file, ctx=decord.cpu(0), num_threads=1)
        if len(reader) != len(shown):
            text = f"decord counts {len(reader)} frames where {len(shown)} are shown, and would return wrong ones"
            raise BadVideoError("decord_unsafe", f"{text}; {fix}")
        known = sorted(set(wanted_pts) & set(shown.tolist()))
        numbers = np.searchsorted(shown, known).tolist()
        for at in range(0, len(known), _DECORD_BATCH_FRAMES):
            part = slice(at, at + _DECORD_BATCH_FRAMES)
            pictures = reader.get_batch(numbers[part]).asnumpy()
            for pts, picture in zip(known[part], pictures, strict=True):
                yield pts, av.VideoFrame.from_ndarray(picture, "rgb24")
        reader.seek(0)  # otherwise it keeps decoding into memory without bound until it is collected
    except (FFmpegError, ValueError, decord.DECORDError, decord.DECORDLimitReachedError) as error:
        raise BadVideoError("decode_error", str(error).splitlines()[0]) from error


def import_decord() -> Any:
    """Import decord when it is needed. Raises ConfigError: it is not installed."""
    try:
        import decord
    except ImportError:
        raise ConfigError(
            "decode.backend is decord, which is not installed: pip install 'adaptfocus[decord]' (x86-64 only), "
            "or set decode.backend=packets"
        ) from None
    return decord


def _shown_pts(file: BinaryIO) -> np.ndarray:
    """The times of the frames, sorted: decord identifies a frame by its number in this order.

    Packets that are not shown are left out: an edit list hides them, a cut removed their references, or they have no
    picture. The two counts then differ if decord counts such packets.
    """
    with av.open(file, "r", **TOLERANT) as container:
        if container.format.name in ("mpegts", "mpeg"):
            text = "for transport and program streams, decord returns other frames than the wanted ones"
            raise BadVideoError("decord_unsafe", f"{text}; set decode.backend=packets")
        source = ShownPackets(container, main_stream(container))
        packets = [p for p in source if p.size and p.pts is not None and source.holds_picture]
    file.seek(0)
    return np.sort([p.pts for p in packets if not p.is_discard and p.pts >= packets[0].pts]).astype(np.int64)
