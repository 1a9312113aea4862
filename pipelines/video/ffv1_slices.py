"""Whether a packet of FFV1 is complete, by the sizes and check sums that its encoder wrote (RFC 9043, 4.6 to 4.9).

The packet's slices are walked from its end to its start, and each check sum is verified. The result says in words what
is damaged.

FFmpeg covers a damaged slice with what was decoded before it, without an error or a flag: the picture then depends on
where decoding began. Versions 0 to 2 have no check sums, so their damage cannot be found.

A slice of version 3 and later ends with its size (3 bytes) and, if the stream has check sums, a status (1 byte) and a
CRC-32 (4 bytes). Whether a stream has them is coded deep in its global header (extradata). Here the walk tells: it
reaches the packet's first byte with one of the two kinds of trailer. 50 MB of packets take 0.4 s.

Only code that reads through a demuxer needs this: no decoder of FFV1 opens without the size from the container.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

from adaptfocus.pipelines.errors import BadVideoError

_SIZE_BYTES = 3
_TRAILER_BYTES = _SIZE_BYTES, _SIZE_BYTES + 1 + 4  # without and with check sums
# The start value and the result of a CRC, in zlib's order of bits: 0, or 0x79408C7A (only in streams with check sums).
_PLAIN_CRC, _SEEDED_CRC = 0, int(f"{0x79408C7A:032b}"[::-1], 2)
_BITS_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))  # FFV1 takes the highest bit first


def refuse_damaged(codec: str, extradata: bytes | None, data: bytes | memoryview, pts: int | None) -> None:
    """Refuse a damaged packet, which a wanted frame may refer to. Does nothing for other codecs.

    Raises:
        BadVideoError: decode_error.
    """
    if codec != "ffv1":
        return
    damage = damage_of(extradata or b"", bytes(data))
    if damage:
        raise BadVideoError("decode_error", f"the FFV1 packet at pts {pts} is damaged: {damage}; get the file again")


def damage_of(extradata: bytes, packet: bytes) -> str:
    """What is damaged in a packet of FFV1; empty if nothing is, or if that cannot be known."""
    crc = _crc_of_header(extradata)
    if crc is None or not packet:
        return ""
    checked = _slices(packet, _TRAILER_BYTES[1])
    wrong = [number for number, part in enumerate(checked) if _crc(packet[part], crc) != crc]
    if checked and not wrong:
        return ""
    # A stream without check sums, whose trailers may look like the longer ones by chance.
    if crc == _PLAIN_CRC and _slices(packet, _TRAILER_BYTES[0]):
        return ""
    if wrong:
        return f"the check sum of slice {wrong[0] + 1} of {len(checked)} is wrong"
    return f"the sizes of its slices do not add up to its {len(packet)} bytes"


@lru_cache(maxsize=64)
def _crc_of_header(extradata: bytes) -> int | None:
    """The CRC of complete slices; None if the header is not of version 3 or later.

    The header itself ends with a CRC, with the same start value as those of the slices. If it is wrong, FFmpeg refuses
    the stream.
    """
    known = [crc for crc in (_PLAIN_CRC, _SEEDED_CRC) if len(extradata) >= 4 and _crc(extradata, crc) == crc]
    return known[0] if known else None


def _slices(packet: bytes, trailer_bytes: int) -> list[slice]:
    """The slices of a packet, trailers included; none if they do not fill it exactly."""
    found: list[slice] = []
    end = len(packet)
    while end:
        at = end - trailer_bytes
        size_bytes = int.from_bytes(packet[at : at + _SIZE_BYTES], "big") if at > 0 else 0
        if not 0 < size_bytes <= at:  # an empty slice has no header: it was overwritten with zeros
            return []
        found.append(slice(at - size_bytes, end))
        end = at - size_bytes
    return found[::-1]


def _crc(data: bytes, start: int) -> int:
    """CRC-32 with polynomial 0x04C11DB7, highest bit first; `start` and the result in zlib's order of bits."""
    return zlib.crc32(data.translate(_BITS_REVERSED), start ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
