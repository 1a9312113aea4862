"""Whether a packet is complete, and whether it is a keyframe, by its own bytes.

The lengths of a packet's units are followed, and the type of the picture's first unit is checked, given the codec and
its decoder settings. Packets are as they lie in an mp4. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterator

H264_IDR, H264_SLICE, H264_SEI = 5, 1, 6
HEVC_SLICES, HEVC_RANDOM_ACCESS = range(0, 32), range(16, 24)  # BLA, IDR, CRA and two reserved
AV1_SEQUENCE_HEADER, AV1_TEMPORAL_DELIMITER = 1, 2
SEI_RECOVERY_POINT = 6
UNIT_BYTES = 2048  # x264 writes 700 bytes of settings before the units that matter


def starts_decoding(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Whether a decoder can start at this packet: an instantaneous refresh, or an intra picture that says so."""
    if codec == "h264":
        return _h264(packet, length_bytes=(extradata[4] & 3) + 1)
    if codec == "hevc":
        kinds = (unit[0] >> 1 & 63 for unit in _units(packet, (extradata[21] & 3) + 1))
        return next((kind in HEVC_RANDOM_ACCESS for kind in kinds if kind in HEVC_SLICES), False)
    if codec == "av1":
        kinds = [byte >> 3 & 15 for byte in packet[:1] + packet[2:3]]
        return AV1_SEQUENCE_HEADER in (kinds if kinds[:1] == [AV1_TEMPORAL_DELIMITER] else kinds[:1])
    if codec == "vp9":
        is_profile_3 = packet[0] & 0x30 == 0x30
        return not packet[0] & (0x06 if is_profile_3 else 0x0C)  # neither shows an existing frame nor is an inter frame
    if codec == "mpeg4":
        at = packet.find(b"\0\0\1\xb6")
        return 0 <= at < len(packet) - 4 and packet[at + 4] >> 6 == 0
    return False


def is_whole(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Whether a packet ends where its last unit does, which reveals tables with wrong offsets. True without units."""
    if codec not in ("h264", "hevc"):
        return True
    at, length_bytes = 0, (extradata[4 if codec == "h264" else 21] & 3) + 1
    while at + length_bytes <= len(packet):
        at += length_bytes + int.from_bytes(packet[at : at + length_bytes], "big")
    return at == len(packet)


def _h264(packet: bytes, length_bytes: int) -> bool:
    """Whether it is an IDR picture, or one after a recovery point (H.264's open GOP)."""
    recovers = False
    for unit in _units(packet, length_bytes):
        kind = unit[0] & 31
        if kind == H264_SEI and any(each == SEI_RECOVERY_POINT for each, _ in sei_messages(unit[1:])):
            recovers = True
        if kind in range(H264_SLICE, H264_IDR + 1):
            return recovers or kind == H264_IDR
    return False


def _units(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """The first bytes of each unit after its length, which are enough here."""
    at = 0
    while at + length_bytes < len(packet):
        size = int.from_bytes(packet[at : at + length_bytes], "big")
        at += length_bytes
        if size:
            yield packet[at : at + min(size, UNIT_BYTES)]
        at += size


def sei_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of the messages of one SEI unit after its header, without emulation prevention bytes."""
    data = data.replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 <= len(data) and data[at] != 0x80:
        numbers = []
        for _ in range(2):
            number = 0
            while at < len(data) and data[at] == 255:
                number, at = number + 255, at + 1
            if at >= len(data):
                return
            numbers.append(number + data[at])
            at += 1
        yield numbers[0], data[at : at + numbers[1]]
        at += numbers[1]
