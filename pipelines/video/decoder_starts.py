"""Where a decoder that knows only a stream's header may begin.

For each packet in decoding order, this module reads what comes before the picture's first slice: parameter sets,
headers of sequences, recovery points. The result is whether a decoder that begins at this packet shows what a player
shows. All functions are pure.

Two things that containers call keyframes are not keyframes for such a decoder. One is a *recovery point* of periodic
intra refresh: pictures are complete only some frames later. The other is a keyframe that needs *parameter sets of
earlier packets*: the header holds others, and the packet does not bring its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from adaptfocus.pipelines.video.bitstream import SEI_RECOVERY_POINT, UNIT_BYTES, sei_messages
from adaptfocus.pipelines.video.nal_units import Bits, Bytes

_H264_SLICES, _H264_IDR, _H264_SEI, _H264_SPS, _H264_PPS = range(1, 6), 5, 6, 7, 8
_HEVC_SLICES, _HEVC_IRAP, _HEVC_VPS, _HEVC_SPS, _HEVC_PPS = range(32), range(16, 24), 32, 33, 34
# Codecs whose headers follow start codes: where the picture begins, and what the decoder remembers.
_MPEG12_PICTURE, _MPEG12_SEQUENCE, _MPEG12_EXTENSION = 0x00, 0xB3, 0xB5
_MPEG4_PICTURE, _MPEG4_LAYERS = 0xB6, range(0x20, 0x30)
_VC1_PICTURES, _VC1_HEADERS = (0x0D, 0x0C, 0x0B), (0x0E, 0x0F)
_NAL_CODECS, _MPEG12 = frozenset({"h264", "hevc"}), frozenset({"mpeg1video", "mpeg2video"})
_CODECS = _NAL_CODECS | _MPEG12 | {"mpeg4", "vc1"}
FOLLOWED_CODECS = _CODECS - {"vc1"}  # codecs for which all that a decoder remembers is known
# Packets that begin, at most after a delimiter, with a slice of a picture that is not random access. Most do, and a
# closer look at them took a tenth of indexing. (A unit's first byte, two for HEVC), after start codes or lengths.
_PLAIN = {
    ("h264", False): re.compile(rb"\x00?\x00\x00\x01(?:\x09.\x00?\x00\x00\x01)?([\x01\x21\x41\x61])", re.DOTALL),
    ("h264", True): re.compile(rb"(?:\x00\x00\x00\x02\x09.)?...[^\x00]([\x01\x21\x41\x61])", re.DOTALL),
    ("hevc", False): re.compile(rb"\x00?\x00\x00\x01(?:\x46..\x00?\x00\x00\x01)?([\x00-\x1f])", re.DOTALL),
    ("hevc", True): re.compile(rb"(?:\x00\x00\x00\x03\x46..)?...[^\x00]([\x00-\x1f])", re.DOTALL),
}

SetKey = tuple[int, int]  # (kind, number)

NO_START = -1
MAX_RECOVERY_FRAMES = 1 << 16


class DecoderStarts:
    """Follows a stream packet by packet, and tells at which packets a decoder may begin."""

    def __init__(self, codec: str, extradata: bytes) -> None:
        self.codec, self.extradata = codec, extradata
        self._first = _sets_of_header(codec, extradata)
        self._now = self._first
        self.is_changed = False  # the current parameter sets are not those of the header
        self.is_referenced = True  # whether others may refer to the last packet's picture; True if unknown
        self.brings_all = False  # whether the last packet brings all parameter sets
        self._plain = _plain_of(codec, extradata)

    def add(self, packet: Bytes) -> int:
        """Add the next packet -> the wait of a decoder that begins here, in pictures that others refer to, until a
        picture is complete; NO_START if it does not know the current parameter sets. It does not matter whether the
        container calls the packet a keyframe."""
        self.is_referenced = True
        if self.codec not in _CODECS:
            return 0
        if self._plain and (found := self._plain.match(packet)):
            self.is_referenced, self.brings_all = self.codec != "h264" or bool(found[1][0] & 0x60), False
            return NO_START if self.is_changed else 0
        own: dict[SetKey, bytes] = {}
        wait, is_refresh = 0, False
        for unit in _opening_units(self.codec, self.extradata, packet):
            if (key := _set_key(self.codec, unit)) is not None:
                own[key] = unit
            elif self.codec in _NAL_CODECS:
                wait = max(wait, _recovery_frames(self.codec, unit))
                is_refresh |= _is_refresh(self.codec, unit)
                self.is_referenced = self.codec != "h264" or bool(unit[0] & 0x60)  # the first slice decides
        self.brings_all = bool(own) and own.keys() >= self._first.keys()
        if own and not own.items() <= self._now.items():
            self._now = self._now | own
            self.is_changed = self._now != self._first
        is_known = not self.is_changed or self._now == self._first | own
        if not is_known or (wait and not is_refresh and self.codec != "h264"):
            return NO_START  # FFmpeg's HEVC decoder shows pictures that are not complete yet
        return 0 if is_refresh else wait


def _plain_of(codec: str, extradata: bytes) -> re.Pattern[bytes] | None:
    has_lengths = extradata[:1] == b"\1"
    at = 4 if codec == "h264" else 21
    is_usual = not has_lengths or (len(extradata) > at and extradata[at] & 3 == 3)  # lengths of four bytes
    return _PLAIN.get((codec, has_lengths)) if is_usual else None


def brings_sets(codec: str, extradata: bytes, packet: Bytes) -> bool:
    """Whether a packet brings all parameter sets that a decoder needs. Encoders that repeat them do so in each
    keyframe."""
    starts = DecoderStarts(codec, extradata)
    starts.add(packet)
    return starts.brings_all


def starts_whole(codec: str, extradata: bytes, packet: Bytes, are_repeated: bool) -> bool:
    """Whether the picture of a keyframe is complete at once, as far as its packet tells: it has no recovery point that
    takes more frames, and no parameter sets except the header's, unless all `are_repeated` in each keyframe."""
    starts = DecoderStarts(codec, extradata)
    return starts.add(packet) == 0 and (not starts.is_changed or (are_repeated and starts.brings_all))


def _is_refresh(codec: str, unit: bytes) -> bool:
    """Whether a slice belongs to a picture that needs nothing before it: IDR, or any random access picture of HEVC."""
    return unit[0] & 31 == _H264_IDR if codec == "h264" else unit[0] >> 1 & 63 in _HEVC_IRAP


def _recovery_frames(codec: str, unit: bytes) -> int:
    """Frames that an SEI unit's recovery point takes (D.2.8 of H.264, D.3.8 of HEVC); 0 if it has none."""
    kind, header_bytes = (unit[0] & 31, 1) if codec == "h264" else (unit[0] >> 1 & 63, 2)
    if kind != (_H264_SEI if codec == "h264" else 39):
        return 0
    for message, payload in sei_messages(unit[header_bytes:]):
        if message == SEI_RECOVERY_POINT and payload:
            try:
                number = Bits(payload[:8]).exp_golomb()
            except IndexError:
                return MAX_RECOVERY_FRAMES
            return min(number if codec == "h264" else (number + 1) // 2, MAX_RECOVERY_FRAMES)  # HEVC's is signed
    return 0


def _set_key(codec: str, unit: bytes) -> SetKey | None:
    """(kind, number) of a unit that a decoder remembers beyond its packet; None for other units."""
    try:
        if codec == "h264":
            kind = unit[0] & 31
            if kind not in (_H264_SPS, _H264_PPS):
                return None
            return kind, _bits(unit[4:] if kind == _H264_SPS else unit[1:]).exp_golomb()
        if codec == "hevc":
            kind = unit[0] >> 1 & 63
            return None if kind not in (_HEVC_VPS, _HEVC_SPS, _HEVC_PPS) else (kind, _hevc_number(kind, unit[2:]))
        code = unit[0]
        if codec in _MPEG12 and code == _MPEG12_EXTENSION:
            number = unit[1] >> 4  # sequence, its display, quantiser matrices; others belong to one picture
            return (code, number) if number in (1, 3) else None
        remembered = (
            code == _MPEG12_SEQUENCE if codec in _MPEG12
            else code in _MPEG4_LAYERS if codec == "mpeg4"
            else code in _VC1_HEADERS
        )  # fmt: skip
        return (code, 0) if remembered else None
    except IndexError:
        return (-1, 0)  # cut off: its changes are unknown


def _hevc_number(kind: int, data: bytes) -> int:
    """The number of a parameter set (7.3.2.1 to 7.3.2.3 of HEVC)."""
    bits = _bits(data)
    if kind == _HEVC_VPS:
        return bits.take(4)
    if kind == _HEVC_SPS:
        bits.take(4)
        sub_layers = bits.take(3)
        bits.take(1 + 96)  # nesting; profile, tier and level of the whole
        flags = [bits.take(2) for _ in range(8 if sub_layers else 0)][:sub_layers]
        bits.take(sum(88 * (flag >> 1) + 8 * (flag & 1) for flag in flags))
    return bits.exp_golomb()


def _bits(data: bytes) -> Bits:
    return Bits(data[:96].replace(b"\0\0\3", b"\0\0"))  # the number is at the start


@lru_cache(maxsize=16)
def _sets_of_header(codec: str, extradata: bytes) -> dict[SetKey, bytes]:
    if codec not in _CODECS or not extradata:
        return {}
    if codec in _NAL_CODECS and extradata[0] == 1:
        units = _units_of_avcc(extradata) if codec == "h264" else _units_of_hvcc(extradata)
    else:
        units = _behind_start_codes(extradata)
    return {key: unit for unit in units if unit and (key := _set_key(codec, unit)) is not None}


def _units_of_avcc(record: bytes) -> Iterator[bytes]:
    at = 5
    for mask in (31, 255):
        count = record[at] & mask if at < len(record) else 0
        at += 1
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            yield record[at + 2 : at + 2 + size]
            at += 2 + size


def _units_of_hvcc(record: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(record[22] if len(record) > 22 else 0):
        count = int.from_bytes(record[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            yield record[at + 2 : at + 2 + size]
            at += 2 + size


def _opening_units(codec: str, extradata: bytes, packet: Bytes) -> Iterator[bytes]:
    """The units of a packet up to the first unit of its picture, of which only the start is given."""
    if codec in _NAL_CODECS and extradata[:1] == b"\1":
        at = 4 if codec == "h264" else 21
        units = _behind_lengths(packet, (extradata[at] & 3) + 1 if len(extradata) > at else 4)
    else:
        units = _behind_start_codes(packet)
    for unit in units:
        if unit:
            yield unit
            if _begins_picture(codec, unit[0]):
                return


def _begins_picture(codec: str, first: int) -> bool:
    if codec == "h264":
        return first & 31 in _H264_SLICES
    if codec == "hevc":
        return first >> 1 & 63 in _HEVC_SLICES
    if codec in _MPEG12:
        return 1 <= first <= 0xAF  # a slice: extensions of a picture come between its header and the slice
    return first == _MPEG4_PICTURE if codec == "mpeg4" else first in _VC1_PICTURES


def _behind_lengths(packet: Bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes < len(packet):
        size = int.from_bytes(packet[at : at + length_bytes], "big")
        at += length_bytes
        yield bytes(packet[at : at + min(size, UNIT_BYTES)])
        at += size


def _behind_start_codes(packet: Bytes) -> Iterator[bytes]:
    data = bytes(packet)
    at = data.find(b"\0\0\1")
    while at >= 0:
        start = at + 3
        at = data.find(b"\0\0\1", start, start + UNIT_BYTES)
        if at < 0 and len(data) > start + UNIT_BYTES:
            yield data[start : start + UNIT_BYTES]
            at = data.find(b"\0\0\1", start + UNIT_BYTES - 2)
        else:
            yield data[start : at if at >= 0 else len(data)].rstrip(b"\0")
