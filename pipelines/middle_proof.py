"""A proof from the middle of a video: what is shown after a seek is what a decode in order shows.

Input: a table from headers and ranges of the file; or the packets and frames of one pass over the whole file.
Does: picks a keyframe in the middle, and decodes it the way a clip would be decoded, in decoders and processes that
have decoded other things before. Where all packets are read, the frames behind it are compared, pixel by pixel, with
those of a decode that began one keyframe earlier and has seen the start of the file: a keyframe that is none, a
palette or a table that a seek drops, show here.
Output: the access that shows the right frames; NotPlainError where headers alone would not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from pipelines.decoder_starts import starts_whole
from pipelines.errors import BadVideoError
from pipelines.member_decoders import MissingFrameError, sought_frames
from pipelines.mp4_boxes import NotPlainError
from pipelines.mp4_sync import is_whole, starts_decoding
from pipelines.packet_arrays import bare_start
from pipelines.packet_codec import Packets
from pipelines.packet_decoder import frames_of_span
from pipelines.packets import run_of, span_of

MIDDLE_SHARE = 0.4  # of a file's bytes, behind which the next keyframe is the one before the middle's
MAX_PACKETS = 100  # from that one on: a GOP of 4 s at 25 Hz
COMPARED_FRAMES = 3
MAX_KEYFRAME_BYTES = 4 << 20
_NEAR = 4  # keyframes to each side of the middle, of which the smallest is decoded


def middle_key(is_key: np.ndarray, size_bytes: np.ndarray) -> int | None:
    """The packet to prove: the smallest of the keyframes around the middle; None where only the first is one."""
    keys = np.flatnonzero(is_key)
    at = len(keys) // 2
    reach = min(_NEAR, len(keys) // 8)
    near = keys[max(1, at - reach) : at + reach + 1]
    near = near[size_bytes[near] <= MAX_KEYFRAME_BYTES]
    return int(near[np.argmin(size_bytes[near])]) if len(near) else None


def check_middle_packet(
    codec: str, extradata: bytes, packet: bytes, times: tuple[int, int], are_repeated: bool, context: Any
) -> Any:
    """The frame of a keyframe in the middle, after a seek there in a decoder that was used before.

    Args:
        codec: FFmpeg's name for the format.
        times: its pts and dts.
        are_repeated: parameter sets, in each keyframe as far as the first tells.
        context: the decoder.

    Raises:
        NotPlainError: it is not whole or no keyframe, or needs or brings other parameter sets than the header's.
    """
    if not is_whole(codec, extradata, packet):
        raise NotPlainError("its tables cut a packet in the middle in the wrong place")
    if not starts_decoding(codec, extradata, packet) or not starts_whole(codec, extradata, packet, are_repeated):
        raise NotPlainError("a decoder cannot begin with the header and a keyframe in the middle")
    return bare_start(codec, extradata, [(packet, *times)], context)[0]


class Middle:
    """Frames around a keyframe in the middle, of a decode in order: fed by a pass over all packets."""

    def __init__(self, size_bytes: int) -> None:
        self._begins_at = int(size_bytes * MIDDLE_SHARE)
        self._packets = 0
        self._key_pts: int | None = None  # of the keyframe to prove
        self._wait = 0
        self._frames: dict[int, Any] = {}
        self.is_active = self._is_over = False

    def begins(self, offset_bytes: int | None, is_start: bool) -> bool:
        """Whether decoding has to begin with this packet; `is_start`: a decoder may begin here."""
        if self.is_active or self._is_over or not is_start or (offset_bytes or 0) < self._begins_at:
            return False
        self.is_active = True
        return True

    def add_packet(self, pts: int | None, is_start: bool, wait_frames: int) -> None:
        """A packet that is about to be decoded."""
        if self._packets and is_start and self._key_pts is None and pts is not None:
            self._key_pts, self._wait = pts, wait_frames
            self._frames = {known: frame for known, frame in self._frames.items() if known >= pts}
        self._packets += 1
        if self._packets > MAX_PACKETS + 2 * self._wait:
            self.end()

    def add_frame(self, frame: Any) -> None:
        """A frame that has come out."""
        if not self.is_active or frame.pts is None or (self._key_pts is not None and frame.pts < self._key_pts):
            return
        self._frames[frame.pts] = frame
        if self._key_pts is not None and len(self._frames) >= COMPARED_FRAMES + 2 * self._wait:
            self.end()
        elif self._key_pts is None and len(self._frames) > COMPARED_FRAMES:
            del self._frames[next(iter(self._frames))]

    def end(self) -> None:
        """Enough is known."""
        self.is_active, self._is_over = False, True

    def shown_pts(self) -> list[int]:
        """Times of the frames that came out, in that order."""
        return list(self._frames)

    def frames(self) -> dict[int, Any]:
        """pts -> frame to compare with: the last that came out; none where they are damaged."""
        last = dict(islice(reversed(self._frames.items()), COMPARED_FRAMES))
        return {} if any(frame.is_corrupt for frame in last.values()) else last


def packets_show(
    codec: str, extradata: bytes, packets: Packets, wait_ticks: int, file: BinaryIO, right: Mapping[int, Any]
) -> bool:
    """Whether a span, decoded without the container, shows these frames."""
    run = run_of(packets, np.argsort(packets.pts, kind="stable"), np.array(sorted(right), np.int64), wait_ticks)
    span = span_of({"member_offset_bytes": 0}, packets, run)
    file.seek(span["offset_bytes"])
    try:
        return _are_shown(frames_of_span(codec, extradata, span, file.read(span["size_bytes"]), right), right)
    except BadVideoError:
        return False


def seeks_show(file: BinaryIO, right: Mapping[int, Any]) -> bool:
    """Whether a demuxer that seeks shows these frames."""
    try:
        return _are_shown(sought_frames(sorted(right), file), right)
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
    except ValueError:  # a format that PyAV has no array for, or a palette
        return frame.to_ndarray(format="rgb24")
