"""Packets at the times at which their pictures are shown, also where the container has no such times.

Input: an open container and its video stream.
Does: nothing to most. Of MPEG-4 in AVI, takes packed pictures apart and works the times out from the order.
Output: packets in decoding order.

AVI numbers its chunks, and nothing more. Where pictures are shown in another order than they are decoded in, a picture
that others refer to is shown when the next of that kind is decoded, and those in between (B) at once. *Packed*
streams, as of DivX and Xvid, hold such a picture and the first B in one chunk, and pay the debt with a chunk that
holds no picture. FFmpeg's decoder takes these apart, which shifts them by a chunk each; times that its demuxer makes
up do not follow, and frames come out as 3, 4, 6, 5. Here the same filter takes them apart before they are timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.bitstream import BitStreamFilterContext

from pipelines.errors import BadVideoError
from pipelines.nal_units import Bits

MAX_HELD = 256  # packets until the next picture that others refer to; encoders write up to 16
_PICTURE, _LAYER_NUMBERS = b"\0\0\1\xb6", range(0x20, 0x30)  # behind start codes (6.2 of MPEG-4 part 2)
_INTRA, _REFERS_BACK, _BIDIRECTIONAL = 0, 1, 2  # kinds of pictures (VOPs), 6.3.5
_UNCODED_BYTES = 32  # a picture that is not coded is a header of some 6 bytes
_WIDE_PIXELS, _GREY_SHAPE, _BUFFER_BITS = 15, 3, 79


class ShownPackets:
    """The packets of a stream from where its container stands on, and last an empty one, as `container.demux` has it.

    Raises:
        BadVideoError: unreliable_timestamps.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self._is_timed = container.format.name != "avi" or stream.codec_context.codec.canonical_name != "mpeg4"
        self._is_reordered = bool(stream.codec_context.has_b_frames)
        self.first_dts: int | None = None  # of the first packet: where a seek has led
        self.holds_picture = True  # the packet that came last
        self.is_late = False  # a keyframe came a chunk after its own: a decoder that begins there shows other times

    def __iter__(self) -> Iterator[Any]:
        for packet, holds_picture in self._as_they_are() if self._is_timed else self._timed():
            self.holds_picture = holds_picture
            yield packet

    def _as_they_are(self) -> Iterator[tuple[Any, bool]]:
        for packet in self._container.demux(self._stream):
            self.first_dts = packet.dts if self.first_dts is None else self.first_dts
            yield packet, True

    def _timed(self) -> Iterator[tuple[Any, bool]]:
        """Each packet once it is known when it is shown, and whether it holds a picture."""
        held: list[tuple[Any, bool]] = []  # a picture that others refer to, and what is shown before it
        end: int | None = None
        for packet, kind, is_coded in self._taken_apart():
            if not packet.size:  # the last
                yield from _shown(held, end)
                yield packet, True
                return
            end = None if packet.dts is None else packet.dts + (packet.duration or 1)
            packet.pts, packet.is_keyframe = packet.dts, kind == _INTRA and is_coded
            is_between = kind == _BIDIRECTIONAL and is_coded
            if is_between and (not self._is_reordered or len(held) >= MAX_HELD):
                what = "more than its header says" if not self._is_reordered else f"{MAX_HELD} in a row"
                raise BadVideoError(
                    "unreliable_timestamps",
                    f"pictures of it are shown before those that they refer to, {what}; write it again: "
                    "ffmpeg -i IN OUT.mp4",
                )
            if not is_between:
                yield from _shown(held, packet.dts)
                held = []
            if self._is_reordered and (held or not is_between):
                held.append((packet, is_coded))
            else:
                yield packet, is_coded

    def _taken_apart(self) -> Iterator[tuple[Any, int, bool]]:
        """Packets of one picture each, its kind, and whether it is coded."""
        split = BitStreamFilterContext("mpeg4_unpack_bframes", self._stream)
        increment_bits = _increment_bits(bytes(self._stream.codec_context.extradata or b""))
        for packet in self._container.demux(self._stream):
            if not packet.size:
                yield packet, _REFERS_BACK, False
                continue
            self.first_dts = packet.dts if self.first_dts is None else self.first_dts
            own = _picture(bytes(packet), increment_bits)
            for each in split.filter(packet):
                each.stream, each.time_base = self._stream, self._stream.time_base
                kind, is_coded = _picture(bytes(each), increment_bits)
                self.is_late |= own == (_INTRA, True) and kind != _INTRA
                yield each, kind, is_coded


def _shown(held: list[tuple[Any, bool]], dts: int | None) -> list[tuple[Any, bool]]:
    """What was held, now that the next picture that others refer to is there."""
    if held:
        held[0][0].pts = dts
    return held


def _picture(data: bytes, increment_bits: int) -> tuple[int, bool]:
    """(kind, whether it is coded) of the first picture in a packet; of one without any, as of one that is not coded."""
    at = data.find(_PICTURE) + len(_PICTURE)
    if at < len(_PICTURE) or at >= len(data):
        return _REFERS_BACK, False
    kind = data[at] >> 6
    if len(data) - at > _UNCODED_BYTES or not increment_bits:
        return kind, True
    bits = Bits(data[at:])
    try:
        bits.take(2)
        while bits.take(1):  # whole seconds
            pass
        bits.take(1 + increment_bits + 1)
        return kind, bool(bits.take(1))
    except IndexError:
        return kind, True


def _increment_bits(header: bytes) -> int:
    """How many bits of a picture's header say its time (6.2.3); 0 if the layer's header does not say."""
    at = header.find(b"\0\0\1")
    while 0 <= at < len(header) - 4 and header[at + 3] not in _LAYER_NUMBERS:
        at = header.find(b"\0\0\1", at + 3)
    if not 0 <= at < len(header) - 4:
        return 0
    bits = Bits(header[at + 4 : at + 64])
    try:
        bits.take(1 + 8)  # random access, type
        version = bits.take(7) >> 3 if bits.take(1) else 1
        if bits.take(4) == _WIDE_PIXELS:
            bits.take(8 + 8)
        if bits.take(1):
            bits.take(2 + 1)
            bits.take(_BUFFER_BITS if bits.take(1) else 0)
        if bits.take(2) == _GREY_SHAPE and version != 1:
            bits.take(4)
        bits.take(1)
        return max(1, (bits.take(16) - 1).bit_length())
    except IndexError:
        return 0
