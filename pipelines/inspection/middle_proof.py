"""A proof from the middle of a video: a seek shows the same frames as a decode in order.

A keyframe in the middle is decoded as a clip would be, in decoders and processes that have decoded other things before.
If all packets are read, the frames from it on are compared, pixel by pixel, with those of a decoder that has seen the
start of the file; if needed, also all frames from one keyframe earlier. This finds false keyframes, and palettes and
tables that a seek drops. The result is the access that shows the right frames. If headers are not enough, the proof
raises NotPlainError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.decode.member import MissingFrameError, seek_frames
from adaptfocus.pipelines.decode.span import frames_of_span
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.bitstream import is_whole, starts_decoding
from adaptfocus.pipelines.video.decoder_starts import FOLLOWED_CODECS, NO_START, starts_whole
from adaptfocus.pipelines.video.ffv1_slices import refuse_damaged
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.pipelines.video.spans import packets_of, run_of, span_of
from adaptfocus.pipelines.video.table import UNFILTERED, bare_start

MIDDLE_SHARE = 0.4  # of a file's bytes; the next keyframe after them comes before that of the middle
MAX_PACKETS = 100  # from that keyframe on: a GOP of 4 s at 25 Hz
COMPARED_FRAMES = 3
JUMPED_FRAMES = 2  # a keyframe, and the first frame that may refer to it and is shown after it
MAX_DELAY = 32  # packets that a decoder takes before a frame comes out
MAX_KEPT_BYTES = 64 << 20
MAX_KEYFRAME_BYTES = 4 << 20
# Codecs whose decoders keep nothing beyond a keyframe except what `video.decoder_starts` follows.
_FOLLOWED = FOLLOWED_CODECS | {"vp8", "vp9", "av1"}


def middle_key(is_key: np.ndarray, size_bytes: np.ndarray) -> int | None:
    """The packet to prove: the smallest keyframe of the middle half; None if only the first packet is a keyframe."""
    keys = np.flatnonzero(is_key)
    at, reach = len(keys) // 2, len(keys) // 4
    near = keys[max(1, at - reach) : at + reach + 1]
    near = near[size_bytes[near] <= MAX_KEYFRAME_BYTES]
    return int(near[np.argmin(size_bytes[near])]) if len(near) else None


def check_middle_packet(
    codec: str, extradata: bytes, packet: bytes, times: tuple[int, int], are_repeated: bool, context: Any
) -> Any:
    """The frame of a keyframe in the middle, after a seek there in a decoder that was used before.

    Args:
        codec: FFmpeg's name for the format.
        times: the packet's pts and dts.
        are_repeated: whether each keyframe repeats the parameter sets, judging by the first.
        context: the decoder.

    Raises:
        NotPlainError: the packet is incomplete or not a keyframe, or needs or brings other parameter sets than the
            header's.
    """
    if not is_whole(codec, extradata, packet):
        raise NotPlainError("its tables cut a packet in the middle in the wrong place")
    if not starts_decoding(codec, extradata, packet) or not starts_whole(codec, extradata, packet, are_repeated):
        raise NotPlainError("a decoder cannot begin with the header and a keyframe in the middle")
    return bare_start(codec, extradata, [(packet, *times)], context)[0]


class Middle:
    """Packets around a keyframe in the middle: kept during a pass over all packets, decoded after it.

    A decoder that has decoded the file's start continues at the first keyframe of the middle. It still has parameter
    sets, tables and reference pictures from the start. A decoder that begins at the keyframe does not. If both show
    the same, nothing before the keyframe matters. Otherwise, and for codecs that remember more than `decoder_starts`
    follows, all packets from one keyframe to after the next are decoded in order: this is the long way, of up to
    MAX_PACKETS.
    """

    def __init__(self, codec: str, size_bytes: int) -> None:
        self._codec, self._begins_at = codec, int(size_bytes * MIDDLE_SHARE)
        self._packets: list[tuple[Any, int]] = []  # and its wait in frames, NO_START if no decoder can begin with it
        self._size_bytes = 0
        self._next_key: int | None = None  # the position of the second keyframe among them
        self._frames: dict[int, Any] = {}
        self._is_fresh = self._is_over = False

    def add(self, packet: Any, offset_bytes: int | None, wait_frames: int, is_beginning: bool) -> None:
        """Add the next packet.

        Args:
            wait_frames: frames after it until frames are complete, if a decoder may begin with it; else NO_START.
            is_beginning: the decoder of the file's start still needs it.
        """
        is_start = wait_frames != NO_START
        if self._is_over or not (self._packets or (is_start and (offset_bytes or 0) >= self._begins_at)):
            return
        if not self._packets:
            self._is_fresh = not is_beginning
        elif is_start and self._next_key is None and packet.pts is not None:
            self._next_key = len(self._packets)
        self._packets.append((packet, wait_frames))
        self._size_bytes += packet.size
        wait = self._packets[self._next_key][1] if self._next_key is not None else 0
        behind = len(self._packets) - (self._next_key if self._next_key is not None else len(self._packets))
        self._is_over = (
            len(self._packets) > MAX_PACKETS + 2 * wait
            or behind > MAX_DELAY + COMPARED_FRAMES + 2 * wait
            or self._size_bytes > MAX_KEPT_BYTES
        )

    def can_jump(self) -> bool:
        """Whether the short way may be enough, as far as is known beforehand."""
        if not (self._packets and self._is_fresh and self._codec in _FOLLOWED):
            return False
        packet, wait_frames = self._packets[0]
        return wait_frames == 0 and packet.pts is not None

    def jump(self, context: Any) -> bool:
        """Decode the short way, in the decoder of the file's start -> whether complete frames have come out."""
        self._frames = {}
        key_pts = self._packets[0][0].pts
        shown = [n for n, (packet, _) in enumerate(self._packets) if packet.pts is not None and packet.pts >= key_pts]
        for frame in self._decoded(context, shown[:JUMPED_FRAMES][-1] + 1):
            if frame.pts is not None and frame.pts >= key_pts:
                self._frames[frame.pts] = frame
        return bool(self.frames())

    def go_through(self, context: Any) -> None:
        """Decode the long way, in the same decoder, after a flush: it keeps palettes and tables."""
        self._frames = {}
        if not self._packets:
            return
        if context.is_open:
            context.flush_buffers()
        key, wait = None, 0
        if self._next_key is not None:
            key, wait = self._packets[self._next_key][0].pts, self._packets[self._next_key][1]
        for frame in self._decoded(context):
            if frame.pts is None:
                continue
            self._frames[frame.pts] = frame
            if key is None and len(self._frames) > COMPARED_FRAMES:
                del self._frames[next(iter(self._frames))]
            if key is not None and sum(pts >= key for pts in self._frames) >= COMPARED_FRAMES + 2 * wait:
                break
        if key is not None:
            self._frames = {pts: frame for pts, frame in self._frames.items() if pts >= key}

    def _decoded(self, context: Any, limit: int | None = None) -> Iterator[Any]:
        for packet in [*(packet for packet, _ in self._packets[:limit]), None]:
            try:
                yield from context.decode(packet)
            except FFmpegError:  # the start is proved to decode; damaged frames are not compared
                continue

    def shown_pts(self) -> list[int]:
        """Times of the frames that came out, in that order."""
        return list(self._frames)

    def frames(self) -> dict[int, Any]:
        """pts -> frame to compare with: the last that came out; empty if frames are damaged."""
        last = dict(islice(reversed(self._frames.items()), COMPARED_FRAMES))
        return {} if any(frame.is_corrupt for frame in last.values()) or self._has_damaged_packets() else last

    def _has_damaged_packets(self) -> bool:
        try:
            for packet, _ in self._packets:
                refuse_damaged(self._codec, packet.stream.codec_context.extradata, packet, packet.pts)
        except BadVideoError:
            return True
        return False


def packets_show(
    codec: str, extradata: bytes, packets: Packets, wait_ticks: int, file: BinaryIO, right: Mapping[int, Any]
) -> bool:
    """Whether a span (a run of packets), decoded without the container, shows these frames."""
    run = run_of(packets, np.argsort(packets.pts, kind="stable"), np.array(sorted(right), np.int64), wait_ticks)
    span = span_of({"member_offset_bytes": 0}, packets, run)
    file.seek(span["offset_bytes"])
    try:
        data = file.read(span["size_bytes"])
        return _are_shown(frames_of_span(codec, extradata, packets_of(span), data, right, UNFILTERED), right)
    except BadVideoError:
        return False


def seeks_show(file: BinaryIO, right: Mapping[int, Any]) -> bool:
    """Whether a demuxer that seeks shows these frames."""
    try:
        return _are_shown(seek_frames(sorted(right), file, UNFILTERED), right)
    except (BadVideoError, FFmpegError, ValueError, MissingFrameError):
        return False


def _are_shown(frames: Any, right: Mapping[int, Any]) -> bool:
    shown = {frame.pts for frame in frames if _is_same(frame, right[frame.pts])}
    return shown == set(right)


def _is_same(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    if (one.width, one.height, one.format.name) != (other.width, other.height, other.format.name):
        return False
    return np.array_equal(_pixels(one), _pixels(other))


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    try:
        return frame.to_ndarray()
    except ValueError:  # a format for which PyAV has no array, or a palette
        return frame.to_ndarray(format="rgb24")
