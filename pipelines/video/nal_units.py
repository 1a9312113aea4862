"""Which packets a decoder can do without.

Input: the packets of a run in decoding order, and which of their pictures are wanted.
Does: reads the headers of their NAL units (one or two bytes each), not the pictures.
Output: for each packet, whether it has to be decoded. What is left out is neither wanted nor referred to by anything
that is: the other pictures come out bit for bit as they would from all packets.

Left out are H.264 and HEVC pictures that are marked as not referred to, and what no wanted picture follows before the
next IDR picture. Where that cannot be known (other codecs, Annex B, H.264 that may be coded in fields, whose two
halves need not be in one packet), everything is decoded; also where numbers show that a picture was lost: what a
decoder shows in its place depends on all that it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

Bytes = bytes | memoryview

_INTRA_ONLY = frozenset({"mjpeg", "png", "prores"})  # every packet is a picture of its own

_H264_SLICE, _H264_IDR, _H264_SPS, _H264_PPS = 1, 5, 7, 8
_H264_REMARKS = frozenset({6, 9, 12})  # SEI, delimiter, filler: they say nothing about other pictures
_H264_PROFILES_WITH_CHROMA = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})

_HEVC_FIRST_IRAP, _HEVC_FIRST_NON_VCL, _HEVC_HIGHEST_SUBLAYER = 16, 32, 6
_HEVC_IDR = frozenset({19, 20})
_HEVC_PARAMETERS = frozenset({32, 33, 34})
_HEVC_REMARKS = frozenset({35, 38, 39, 40, 62})  # delimiter, filler, SEI, Dolby Vision's metadata


class _Facts(NamedTuple):
    """What a packet is to those after it; the default is a picture of which nothing is known."""

    is_referenced: bool = True
    refreshes: bool = False  # no packet after it refers to one before it
    has_parameters: bool = False  # parameter sets: later packets may need them whatever becomes of the picture
    number: int = -1  # frame_num of H.264; -1 if unknown


def find_needed(
    codec: str, extradata: bytes, packets: Sequence[Bytes], is_wanted: Sequence[bool], goes_on: bool = False
) -> list[bool]:
    """Which packets of a run have to be decoded for the wanted ones: [packets].

    Args:
        goes_on: packets that follow these are decoded as well.
    """
    keep: list[bool] = []
    needs_earlier = goes_on  # a picture kept so far, going backwards, may refer to what comes before it
    all_facts = _facts(codec, extradata, packets, goes_on)
    for facts, wanted in zip(reversed(all_facts), reversed(is_wanted), strict=True):
        keep.append(wanted or facts.has_parameters or (needs_earlier and facts.is_referenced))
        needs_earlier = (needs_earlier or keep[-1]) and not facts.refreshes
    return keep[::-1]


def lacks_a_picture(codec: str, extradata: bytes, packets: Sequence[Bytes]) -> bool:
    """Whether the numbers of a run of H.264 packets show that a picture which others refer to was lost."""
    length_bytes, number_bits = _h264_record(extradata) if codec == "h264" else (0, 0)
    return _lacks_one([_h264_facts(packet, length_bytes, number_bits) for packet in packets], number_bits)


def _facts(codec: str, extradata: bytes, packets: Sequence[Bytes], goes_on: bool) -> list[_Facts]:
    if codec == "h264":
        length_bytes, number_bits = _h264_record(extradata)
        facts = [_h264_facts(packet, length_bytes, number_bits) for packet in packets] if length_bytes else []
        return facts if facts and not _lacks_one(facts, number_bits) else [_Facts()] * len(packets)
    if codec == "hevc" and (length_bytes := _hevc_length_bytes(extradata)):
        # The record's number of sub-layers, 0 if it does not say.
        highest = ((extradata[21] >> 3 & 7) or _HEVC_HIGHEST_SUBLAYER + 1) - 1 if goes_on else -1
        return _hevc_facts(packets, length_bytes, highest)
    return [_Facts(is_referenced=False, refreshes=True) if codec in _INTRA_ONLY else _Facts()] * len(packets)


def _lacks_one(facts: Sequence[_Facts], number_bits: int) -> bool:
    """Whether a picture that others refer to is missing: each is numbered one after the last referred to (7.4.3)."""
    last = -1
    for each in facts:
        if each.number >= 0 <= last and not each.refreshes and (last + 1) % (1 << number_bits) != each.number:
            return True
        last = each.number if each.is_referenced else last
    return False


def _h264_facts(packet: Bytes, length_bytes: int, number_bits: int) -> _Facts:
    slices: set[tuple[bool, bool]] = set()  # (is_referenced, refreshes)
    parameters, number = False, -1
    for at in _nal_starts(packet, length_bytes):
        kind, is_reference = packet[at] & 31, bool(packet[at] & 0x60)
        if kind in (_H264_SLICE, _H264_IDR):
            number = number if slices or not number_bits else _frame_number(packet, at + 1, number_bits)
            slices.add((is_reference, kind == _H264_IDR))
        elif kind in (_H264_SPS, _H264_PPS):
            parameters = True
        elif kind not in _H264_REMARKS:
            return _Facts()  # layers, data partitions, ends of sequences
    return _Facts(*slices.pop(), parameters, number) if len(slices) == 1 else _Facts(has_parameters=parameters)


def _frame_number(packet: Bytes, start: int, number_bits: int) -> int:
    """frame_num of a slice (7.3.3), which follows three Exp-Golomb codes; -1 if they are longer than any encoder's."""
    data = bytes(packet[start : start + 12]).replace(b"\0\0\3", b"\0\0")
    value, left = int.from_bytes(data, "big"), 8 * len(data)
    for _ in range(3):
        left -= 2 * (left - value.bit_length()) + 1
        if left < number_bits:
            return -1
        value &= (1 << left) - 1
    return value >> (left - number_bits)


def _hevc_facts(packets: Sequence[Bytes], length_bytes: int, highest: int) -> list[_Facts]:
    """A picture of an even type below 16 may be referred to by those of higher sub-layers: are there any later?

    Args:
        highest: sub-layer of what follows these packets; -1 if nothing does.
    """
    found: list[_Facts] = []
    for packet in reversed(packets):
        facts, sublayer = _hevc_picture(packet, length_bytes)
        found.append(facts._replace(is_referenced=facts.is_referenced or highest > sublayer))
        highest = max(highest, sublayer)
    return found[::-1]


def _hevc_picture(packet: Bytes, length_bytes: int) -> tuple[_Facts, int]:
    """(facts, sub-layer); `is_referenced` is about pictures of the same sub-layer here."""
    slices: set[tuple[bool, bool]] = set()
    parameters, sublayer = False, 0
    for at in _nal_starts(packet, length_bytes, header_bytes=2):
        kind, layer = packet[at] >> 1 & 63, (packet[at] & 1) << 5 | packet[at + 1] >> 3
        if kind < _HEVC_FIRST_NON_VCL and layer == 0:
            sublayer = (packet[at + 1] & 7) - 1
            slices.add((kind >= _HEVC_FIRST_IRAP or kind % 2 == 1, kind in _HEVC_IDR))
        elif kind in _HEVC_PARAMETERS:
            parameters = True
        elif kind not in _HEVC_REMARKS:
            return _Facts(), _HEVC_HIGHEST_SUBLAYER
    if len(slices) != 1:
        return _Facts(has_parameters=parameters), _HEVC_HIGHEST_SUBLAYER
    return _Facts(*slices.pop(), parameters), sublayer


def _nal_starts(packet: Bytes, length_bytes: int, header_bytes: int = 1) -> list[int]:
    """Where each NAL unit's header is; none if lengths and packet disagree."""
    starts, at, end = [], 0, len(packet)
    while at < end:
        start = at + length_bytes
        at = start + int.from_bytes(packet[at:start], "big")
        if not start + header_bytes <= at <= end:
            return []
        starts.append(start)
    return starts


@lru_cache(maxsize=64)
def _hevc_length_bytes(extradata: bytes) -> int:
    """Bytes of a NAL unit's length, from an hvcC record; 0 if it is none."""
    return (extradata[21] & 3) + 1 if len(extradata) > 22 and extradata[0] == 1 else 0


@lru_cache(maxsize=64)
def _h264_record(extradata: bytes) -> tuple[int, int]:
    """(bytes of a NAL unit's length, bits of a frame number), from an avcC record; 0 if it is none, or allows pictures
    that are fields, and 0 where parameter sets differ in it."""
    try:
        if extradata[0] != 1:
            return 0, 0
        sets, at = [], 6
        for _ in range(extradata[5] & 31):
            start = at + 2
            at = start + int.from_bytes(extradata[at:start], "big")
            sets.append(extradata[start:at])
        bits = set(map(_number_bits_of_frames, sets))
        if not bits or None in bits:
            return 0, 0
        return (extradata[4] & 3) + 1, bits.pop() or 0 if len(bits) == 1 else 0
    except IndexError:
        return 0, 0


def _number_bits_of_frames(sequence_parameters: bytes) -> int | None:
    """Bits of a frame number by an H.264 sequence parameter set (7.3.2.1.1), 0 if planes are slices of their own; None
    unless all pictures are frames. Raises IndexError if it is cut off."""
    profile = sequence_parameters[1]
    bits = Bits(sequence_parameters[4:].replace(b"\0\0\3", b"\0\0"))
    bits.skip("u")  # its id
    has_planes = False
    if profile in _H264_PROFILES_WITH_CHROMA:
        if bits.exp_golomb() == 3:  # 4:4:4
            has_planes = bool(bits.take(1))
        bits.skip("uu1")  # bit depths, lossless
        if bits.take(1):
            return None  # scaling matrices: too rare to be read here
    number_bits = bits.exp_golomb() + 4
    order = bits.exp_golomb()  # how the order of presentation is coded
    if order == 0:
        bits.skip("u")
    elif order == 1:
        bits.skip("1uu")
        frames_in_cycle = bits.exp_golomb()
        if frames_in_cycle > 255:
            return None  # no encoder's: a standard's limit
        bits.skip("u" * frames_in_cycle)
    bits.skip("u1uu")  # references, gaps, width, height
    return (0 if has_planes else number_bits) if bits.take(1) else None


class Bits:
    """Bits of a byte string, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.text, self.at = "".join(f"{byte:08b}" for byte in data), 0

    def take(self, count: int) -> int:
        self.at += count
        if self.at > len(self.text):
            raise IndexError("the parameter set is cut off")
        return int(self.text[self.at - count : self.at] or "0", 2)

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip(self, fields: str) -> None:
        """Pass over fields: "1" is a bit, "u" an Exp-Golomb code."""
        for field in fields:
            self.take(1) if field == "1" else self.exp_golomb()
