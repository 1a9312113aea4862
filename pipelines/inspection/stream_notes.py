"""What a transport or program stream says in its packets only: whether its end is whole, whether its pixels change.

Input: the packets of a video, as they are demuxed.
Does: keeps the last ones, and keyframes that begin with another header than those before; decodes these.
Output: whether the last packet is whole; BadVideoError where pixels change their shape. Broadcasts change between 4:3
and 16:9 with the programme, and their recorders stop inside a picture.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import av
from av.error import FFmpegError

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.display import SQUARE
from adaptfocus.pipelines.video.table import UNFILTERED, bare_start, pad_packet

MAX_HEADERS = 16  # different ones that are looked at
MAX_TAIL_BYTES = 64 << 20  # two groups of pictures of a broadcast are some MB

# Of MPEG-1 and MPEG-2, sizes, shape and rate of pictures; of H.264 and HEVC, a whole parameter set.
_HEADERS = {
    "mpeg1video": re.compile(rb"\x00\x00\x01\xb3.{4}", re.DOTALL),
    "mpeg2video": re.compile(rb"\x00\x00\x01\xb3.{4}", re.DOTALL),
    "h264": re.compile(rb"\x00\x00\x01[\x07\x27\x47\x67].*?(?=\x00\x00[\x00\x01])", re.DOTALL),
    "hevc": re.compile(rb"\x00\x00\x01\x42.*?(?=\x00\x00[\x00\x01])", re.DOTALL),
}


class StreamNotes:
    """What is kept of the packets of one video."""

    def __init__(self) -> None:
        self._tail: deque[Any] = deque()  # from the last keyframe but one on: a picture may refer to what is before one
        self._keys_in_tail = self._tail_bytes = 0
        self._keyframes: dict[bytes, bytes] = {}  # header -> the first keyframe with it

    def add(self, packet: Any) -> None:
        """Note the next packet."""
        if packet.is_keyframe and len(self._keyframes) < MAX_HEADERS:
            data = bytes(packet)
            self._keyframes.setdefault(_header_of(packet.stream.codec_context.codec.canonical_name, data), data)
        self._tail.append(packet)
        self._keys_in_tail, self._tail_bytes = self._keys_in_tail + packet.is_keyframe, self._tail_bytes + packet.size
        while self._tail_bytes > MAX_TAIL_BYTES or self._keys_in_tail > 2:
            self._drop_first()
            while self._keys_in_tail and not self._tail[0].is_keyframe:
                self._drop_first()

    def _drop_first(self) -> None:
        first = self._tail.popleft()
        self._keys_in_tail, self._tail_bytes = self._keys_in_tail - first.is_keyframe, self._tail_bytes - first.size

    def ends_broken(self, like: Any) -> bool:
        """Whether the last packet is half a picture, of which a decoder (of the kind of `like`) makes up the rest."""
        if not self._tail or not self._tail[0].is_keyframe:
            return False
        context: Any = av.CodecContext.create(like.codec.name, "r")
        context.extradata, context.thread_count, context.skip_frame = like.extradata, 1, "NONREF"
        context.options = UNFILTERED
        packets = list(self._tail)
        last, key = packets[-1], max(number for number, packet in enumerate(packets) if packet.is_keyframe)
        is_leading = last.pts is not None and packets[key].pts is not None and last.pts < packets[key].pts
        for packet in [*packets[0 if is_leading else key :], None]:
            if packet is last:
                context.skip_frame = "DEFAULT"
            try:
                frames = context.decode(packet and pad_packet(bytes(packet), packet.pts, packet.dts))
            except FFmpegError:
                if packet is last:
                    return True
                continue
            if any(frame.is_corrupt and frame.pts == last.pts for frame in frames):
                return True
        return False

    def check_shape(self, codec: str, extradata: bytes) -> None:
        """Raises BadVideoError (changing_pixel_aspect) if pixels change their shape on the way."""
        if len(self._keyframes) < 2:
            return
        found = (bare_start(codec, extradata, [(data, 0, 0)])[1] or SQUARE for data in self._keyframes.values())
        shapes = [f"{shape.numerator}:{shape.denominator}" for shape in dict.fromkeys(found)]
        if len(shapes) > 1:
            raise BadVideoError(
                "changing_pixel_aspect",
                f"its pixels change their shape (wide:high) from {', then '.join(shapes[:4])}; cut the video there",
            )


def _header_of(codec: str, packet: bytes) -> bytes:
    """The header of a keyframe that says what shape its pixels have; empty if there is none."""
    found = _HEADERS[codec].search(packet) if codec in _HEADERS else None
    return found.group() if found else b""
