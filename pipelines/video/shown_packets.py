"""Packets with the times at which their pictures are shown, even if the container has no such times.

Most packets are passed on unchanged. For MPEG-4 in AVI, this module works out which picture comes from which packet,
and when it is shown. Packets come in decoding order.

AVI only numbers its chunks. If pictures are not shown in decoding order, a picture that others refer to is shown when
the next of that kind is decoded, and those in between (B) at once. *Packed* streams, as of DivX and Xvid, hold such a
picture and the first B in one chunk, and later a chunk without a picture. FFmpeg's decoder delays the second picture to
the next packet, and so on. The times that its demuxer invents do not reflect this, and frames come out as 3, 4, 6, 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.nal_units import Bits

MAX_HELD = 256  # packets until the next picture that others refer to; encoders write up to 16
MAX_UNCODED_BYTES = 19  # FFmpeg's limit for a packet with an uncoded picture
MIN_PUT_OFF_BYTES = 7  # pictures up to this size are not delayed
HEADER_BYTES = 16  # start of a picture that tells whether it is coded
_SEQUENCE, _PICTURE, _LAYER_NUMBERS = b"\0\0\1\xb0", b"\0\0\1\xb6", range(0x20, 0x30)  # 6.2 of MPEG-4 part 2
_WRITER = re.compile(rb"\x00\x00\x01\xb2DivX\d+(?:Build|b)\d+(p?)")
_INTRA, _REFERS_BACK, _BIDIRECTIONAL = 0, 1, 2  # kinds of pictures (VOPs), 6.3.5
_WIDE_PIXELS, _GREY_SHAPE, _BUFFER_BITS = 15, 3, 79


class _Picture(NamedTuple):
    kind: int
    is_coded: bool  # False: the previous picture is shown again

    @property
    def is_key(self) -> bool:
        return self.kind == _INTRA and self.is_coded


_NO_PICTURE = _Picture(_REFERS_BACK, False)


class ShownPackets:
    """The packets of a stream from the container's current position, with an empty one last, as in `container.demux`.

    Raises:
        BadVideoError: unreliable_timestamps.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self._is_timed = container.format.name != "avi" or stream.codec_context.codec.canonical_name != "mpeg4"
        self._is_reordered = bool(stream.codec_context.has_b_frames)
        self.first_dts: int | None = None  # dts of the first packet, where a seek has led
        self.holds_picture = True  # whether the last packet has a picture
        self.is_late = False  # a keyframe came one chunk late: a decoder that begins there shows other times

    def __iter__(self) -> Iterator[Any]:
        for packet, holds_picture in self._as_they_are() if self._is_timed else self._timed():
            self.holds_picture = holds_picture
            yield packet

    def _as_they_are(self) -> Iterator[tuple[Any, bool]]:
        for packet in self._container.demux(self._stream):
            self.first_dts = packet.dts if self.first_dts is None else self.first_dts
            yield packet, True

    def _timed(self) -> Iterator[tuple[Any, bool]]:
        """Each packet once its time is known, and whether it holds a picture."""
        held: list[tuple[Any, bool]] = []  # a picture that others refer to, and those shown before it
        end: int | None = None
        for packet, picture in self._pictured():
            if not packet.size:  # the last packet
                yield from _shown(held, end)
                yield packet, True
                return
            end = None if packet.dts is None else packet.dts + (packet.duration or 1)
            packet.pts, packet.is_keyframe = packet.dts, picture.is_key
            is_between = picture.kind == _BIDIRECTIONAL and picture.is_coded
            if is_between and (not self._is_reordered or len(held) >= MAX_HELD):
                what = f"{MAX_HELD} pictures in a row are shown before the one that they refer to"
                if not self._is_reordered:
                    what = "its header says that no picture is shown before one that it refers to, but some are"
                raise BadVideoError("unreliable_timestamps", f"{what}; write it again: ffmpeg -i IN OUT.mp4")
            if not is_between:
                yield from _shown(held, packet.dts)
                held = []
            if self._is_reordered and (held or not is_between):
                held.append((packet, picture.is_coded))
            else:
                yield packet, picture.is_coded

    def _pictured(self) -> Iterator[tuple[Any, _Picture]]:
        """Packets, and the picture that a decoder makes from each."""
        header = bytes(self._stream.codec_context.extradata or b"")
        unpacking = _Unpacking(header)
        for packet in self._container.demux(self._stream):
            if packet.size:
                self.first_dts = packet.dts if self.first_dts is None else self.first_dts
                own, picture = unpacking.add(bytes(packet))
                self.is_late |= own.is_key and not picture.is_key
            else:
                picture = _NO_PICTURE
            yield packet, picture


class _Unpacking:
    """Which picture FFmpeg's decoder makes from each packet, like its `h263dec.c` and `mpeg4videodec.c`."""

    def __init__(self, header: bytes) -> None:
        self._layer: _Layer | None = None
        self._put_off, self._is_packed = _NO_PICTURE, False
        self._read(header)

    def add(self, data: bytes) -> tuple[_Picture, _Picture]:
        """(the first picture in a packet, the picture decoded from it). Raises BadVideoError: unreliable_timestamps."""
        at = data.find(_PICTURE)
        if at > 0:
            self._read(data[:at])
        own = self._picture(data, at)
        put_off, self._put_off = self._put_off, _NO_PICTURE
        first_code = data.find(b"\0\0\1")
        if put_off is not _NO_PICTURE and data[first_code : first_code + 4] == _SEQUENCE:
            put_off = _NO_PICTURE
        if put_off is not _NO_PICTURE and (self._is_packed or len(data) <= MAX_UNCODED_BYTES):
            found, behind = put_off, 0
        else:
            found, behind = own, data.find(_PICTURE, at + len(_PICTURE)) if at >= 0 else -1
        if self._is_packed and found.is_coded and behind >= 0 and len(data) - behind > MIN_PUT_OFF_BYTES:
            following = self._picture(data, data.find(_PICTURE, behind))
            if following.kind in (_INTRA, _BIDIRECTIONAL):
                self._put_off = following
        return own, found

    def _read(self, header: bytes) -> None:
        said = _WRITER.search(header)
        self._is_packed = bool(said[1]) if said else self._is_packed
        layer = _layer(header)
        if layer and self._layer and layer != self._layer:
            raise BadVideoError(
                "unreliable_timestamps",
                "its headers change how times are written or pictures are ordered, as if recordings were joined; "
                "write it again: ffmpeg -i IN OUT.mp4; or cut it there",
            )
        self._layer = layer or self._layer

    def _picture(self, data: bytes, at: int) -> _Picture:
        """The picture whose start code is at `at`; an empty one if there is none."""
        at += len(_PICTURE)
        if not len(_PICTURE) <= at < len(data):
            return _NO_PICTURE
        kind, bits = data[at] >> 6, int.from_bytes(data[at : at + HEADER_BYTES].ljust(HEADER_BYTES, b"\0"), "big")
        behind_kind = 8 * HEADER_BYTES - 2
        ones = (1 << behind_kind) - 1
        seconds = behind_kind - (bits & ones ^ ones).bit_length()  # ones, a zero, a mark, the time, a mark
        place = behind_kind - seconds - 1 - 1 - (self._layer.increment_bits if self._layer else 0) - 1 - 1
        return _Picture(kind, not self._layer or place < 0 or bool(bits >> place & 1))


def _shown(held: list[tuple[Any, bool]], dts: int | None) -> list[tuple[Any, bool]]:
    """The held packets with their times, once the next picture that others refer to has come."""
    if held:
        held[0][0].pts = dts
    return held


class _Layer(NamedTuple):
    """The content of a layer's header (6.2.3)."""

    increment_bits: int  # bits of the time in a picture's header
    is_in_order: bool | None  # no picture is shown before one that it refers to; None if unknown


def _layer(header: bytes) -> _Layer | None:
    """The first layer of a header; None if there is none."""
    at = header.find(b"\0\0\1")
    while 0 <= at < len(header) - 4 and header[at + 3] not in _LAYER_NUMBERS:
        at = header.find(b"\0\0\1", at + 3)
    if not 0 <= at < len(header) - 4:
        return None
    bits, is_in_order = Bits(header[at + 4 : at + 64]), None
    try:
        bits.take(1 + 8)  # random access, type
        version = bits.take(7) >> 3 if bits.take(1) else 1
        if bits.take(4) == _WIDE_PIXELS:
            bits.take(8 + 8)
        if bits.take(1):
            is_in_order = bool(bits.take(2 + 1) & 1)
            bits.take(_BUFFER_BITS if bits.take(1) else 0)
        if bits.take(2) == _GREY_SHAPE and version != 1:
            bits.take(4)
        bits.take(1)
        return _Layer(max(1, (bits.take(16) - 1).bit_length()), is_in_order)
    except IndexError:
        return None
