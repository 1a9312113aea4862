"""The tracks of a moov: which is the video, what decodes it, how it is turned.

Input: the bytes of a moov.
Does: picks the track that FFmpeg would, reads its headers and its one sample entry.
Output: VideoTrack; NotPlainError where FFmpeg's choice or what it would make of the headers cannot be told from here.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

from adaptfocus.pipelines.video.mp4_boxes import Box, NotPlainError, children, only, require_box
from adaptfocus.pipelines.video.mp4_samples import Edits, read_edits

MAX_TRACKS = 64
ENTRY_BYTES = 86  # of a video sample entry before its boxes
QUARTER_TURNS = (16, 16, 30)  # fraction bits of a matrix's columns

# Sample entries whose packets decode with what one box beside them holds.
_CODECS = {
    b"avc1": ("h264", b"avcC"),
    b"avc3": ("h264", b"avcC"),
    b"hvc1": ("hevc", b"hvcC"),
    b"hev1": ("hevc", b"hvcC"),
    b"av01": ("av1", b"av1C"),
    b"vp09": ("vp9", b""),  # its frames carry everything
    b"mp4v": ("mpeg4", b"esds"),
}
_PROTECTION = frozenset([b"sinf", b"senc", b"schm"])
_SECOND_LAYERS = frozenset([b"lhvC"])


@dataclass(frozen=True)
class VideoTrack:
    """The main video track's headers; `stbl` are its sample tables, as places in the moov."""

    codec: str
    extradata: bytes
    width: int
    height: int
    matrix: tuple[int, int, int, int]  # x' = a x + c y, y' = b x + d y, 16.16, y downwards
    pixel_aspect: Fraction | None  # width by height of a pixel; None if the container does not say
    ticks_a_second: int
    edits: Edits | None
    stbl: list[Box]


def read_video_track(moov: bytes) -> VideoTrack:
    """The track that `main_video_stream` takes.

    Raises:
        NotPlainError: there is none, several come into question, it is encrypted, or its entry is of another kind.
    """
    boxes = children(moov, 0, len(moov))
    if any(box.kind in (b"mvex", b"cmov", b"pssh") for box in boxes):
        raise NotPlainError("a fragmented, compressed or encrypted file")
    mvhd = require_box(boxes, b"mvhd", 96)
    traks = [box for box in boxes if box.kind == b"trak"]
    if len(traks) > MAX_TRACKS:
        raise NotPlainError(f"{len(traks)} tracks")
    if traks and traks[0].start < mvhd.start:
        raise NotPlainError("its mvhd lies behind its tracks, whose edit lists FFmpeg then cannot read")
    trak = _main(moov, [children(moov, box.start, box.end) for box in traks])
    mdia = _inside(moov, trak, b"mdia")
    stbl = _inside(moov, _inside(moov, mdia, b"minf"), b"stbl")
    codec, extradata, width, height, pasp = _entry(moov, require_box(stbl, b"stsd", 8 + ENTRY_BYTES))
    rate = _ticks_a_second(moov, require_box(mdia, b"mdhd", 20))
    edts = only(trak, b"edts")
    elst = only(children(moov, edts.start, edts.end), b"elst") if edts else None
    edits = read_edits(moov, elst, _ticks_a_second(moov, mvhd), rate)
    tkhd = require_box(trak, b"tkhd", 84)
    matrix = _matrix(moov, tkhd, mvhd)
    aspect = _pixel_aspect(pasp, _shown_size(moov, tkhd), (width, height), matrix)
    return VideoTrack(codec, extradata, width, height, matrix, aspect, rate, edits, stbl)


def _inside(moov: bytes, boxes: list[Box], kind: bytes) -> list[Box]:
    box = require_box(boxes, kind, 0)
    return children(moov, box.start, box.end)


def _main(moov: bytes, tracks: list[list[Box]]) -> list[Box]:
    """The only video track, or the only one that is enabled: FFmpeg prefers it to whatever else there is."""
    videos = [trak for trak in tracks if _is_video(moov, trak)]
    if len(videos) > 1:
        enabled = [trak for trak in videos if moov[require_box(trak, b"tkhd", 84).start + 3] & 1]
        if len(enabled) != 1 or any(only(trak, b"tref") for trak in tracks):
            raise NotPlainError("several video tracks come into question")
        return enabled[0]
    if not videos:
        raise NotPlainError("there is no video track")
    return videos[0]


def _is_video(moov: bytes, trak: list[Box]) -> bool:
    mdia = _inside(moov, trak, b"mdia")
    hdlr = require_box(mdia, b"hdlr", 12)
    if moov[hdlr.start + 8 : hdlr.start + 12] in (b"soun", b"text", b"sbtl", b"subt", b"tmcd", b"hint", b"meta"):
        return False
    if moov[hdlr.start + 8 : hdlr.start + 12] != b"vide":
        raise NotPlainError("a track that is neither video nor audio nor text")
    return True


def _ticks_a_second(moov: bytes, box: Box) -> int:
    """The time scale of a `mvhd` or `mdhd`."""
    version = moov[box.start]
    at = box.start + (20 if version == 1 else 12)
    rate = struct.unpack_from(">I", moov, at)[0]
    if version > 1 or not 0 < rate < 1 << 31:
        raise NotPlainError(f"a time scale of {rate}")
    return rate


def _matrix(moov: bytes, tkhd: Box, mvhd: Box) -> tuple[int, int, int, int]:
    """The track's matrix and then the movie's, as 32-bit numbers, with FFmpeg's rounding."""

    def nine(box: Box, at: int) -> tuple[int, ...]:
        at += 12 if moov[box.start] == 1 else 0
        if box.start + at + 36 > box.end:
            raise NotPlainError(f"its {box.kind!r} is cut off")
        return struct.unpack_from(">9i", moov, box.start + at)

    track, movie = nine(tkhd, 40), nine(mvhd, 36)

    def product(row: int, column: int) -> int:
        total = sum(track[3 * row + e] * movie[3 * e + column] >> QUARTER_TURNS[e] for e in range(3))
        return (total + (1 << 31)) % (1 << 32) - (1 << 31)

    return product(0, 0), product(0, 1), product(1, 0), product(1, 1)


def _shown_size(moov: bytes, tkhd: Box) -> tuple[int, int]:
    """The width and height in which a track is shown, whole pixels."""
    at = tkhd.start + (88 if moov[tkhd.start] == 1 else 76)
    if at + 8 > tkhd.end:
        raise NotPlainError("its track header is cut off")
    width, height = struct.unpack_from(">II", moov, at)
    return width >> 16, height >> 16


def _pixel_aspect(
    pasp: tuple[int, int] | None, shown: tuple[int, int], stored: tuple[int, int], matrix: tuple[int, int, int, int]
) -> Fraction | None:
    """What FFmpeg takes for the shape of a pixel: that of `pasp`, else what makes the picture as large as the track."""
    a, b, c, d = matrix
    across, down = math.hypot(a, c), math.hypot(b, d)
    if across > 1 and down > 1 and abs(across / down - 1) > 0.01:
        raise NotPlainError("a matrix that stretches")
    if pasp and all(pasp):
        return Fraction(*pasp)
    if all(shown) and all(stored) and shown != stored:  # a size of 0 is the codec's to say
        return Fraction(stored[1] * shown[0], stored[0] * shown[1])
    return None


def _entry(moov: bytes, stsd: Box) -> tuple[str, bytes, int, int, tuple[int, int] | None]:
    """(codec, extradata, width, height, what its pasp box says) of the only sample entry."""
    if struct.unpack_from(">I", moov, stsd.start + 4)[0] != 1:
        raise NotPlainError("several sample descriptions")
    entry = children(moov, stsd.start + 8, stsd.end)[0]
    known = _CODECS.get(entry.kind)
    if known is None or entry.end - entry.start < ENTRY_BYTES - 8:
        raise NotPlainError(f"sample entries of kind {entry.kind!r}")
    width, height = struct.unpack_from(">HH", moov, entry.start + 24)
    depth = struct.unpack_from(">H", moov, entry.start + 74)[0]
    if depth & 31 in (1, 2, 4, 8):
        raise NotPlainError("a palette")
    boxes = children(moov, entry.start + ENTRY_BYTES - 8, entry.end)
    if any(box.kind in _PROTECTION | _SECOND_LAYERS for box in boxes):
        raise NotPlainError("encrypted, or in layers")
    codec, settings = known
    box = only(boxes, b"pasp")
    pasp = struct.unpack_from(">ii", moov, require_box(boxes, b"pasp", 8).start) if box else None
    if not settings:
        return codec, b"", width, height, pasp
    box = require_box(boxes, settings, 4)
    payload = moov[box.start : box.end]
    if payload[4:8] == b"fiel" or only(boxes, b"glbl"):
        raise NotPlainError("decoder settings wrapped in others")
    return codec, _decoder_settings(payload) if settings == b"esds" else payload, width, height, pasp


def _decoder_settings(esds: bytes) -> bytes:
    """MPEG-4's decoder settings out of nested descriptors (ISO 14496-1): tag, length in groups of 7 bits, payload."""
    at, end = 4, len(esds)
    for wanted, skipped in ((3, 3), (4, 13), (5, 0)):
        tag, length, at = _descriptor(esds, at)
        if tag != wanted or at + max(length, skipped) > end:
            raise NotPlainError("an unusual esds")
        if (wanted == 3 and esds[at + 2] & 0xE0) or (wanted == 4 and esds[at] != 0x20):
            raise NotPlainError("an unusual esds")
        end = at + length
        at += skipped
    return esds[at:end]


def _descriptor(data: bytes, at: int) -> tuple[int, int, int]:
    """(tag, length, where its payload starts)."""
    length, last = 0, at + 1
    for last in range(at + 1, at + 5):
        length = length << 7 | data[last] & 0x7F
        if not data[last] & 0x80:
            break
    return data[at], length, last + 1
