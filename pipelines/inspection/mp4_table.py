"""The packet table of an mp4 or mov from its headers, with a proof that the start decodes.

The moov is read, the video track chosen, and its tables expanded. Then the first keyframe is fetched and decoded. The
table equals what demuxing the whole file gives. If only demuxing can tell, NotPlainError gives the reason.

Requests: none for the file's start if the tar's walk has fetched it, one for the moov unless it lies there too, and one
for the proof unless the first two packets do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.inspection.middle_proof import check_middle_packet, middle_key
from adaptfocus.pipelines.inspection.table_checks import wrong_times
from adaptfocus.pipelines.video import table
from adaptfocus.pipelines.video.bitstream import is_whole, starts_decoding
from adaptfocus.pipelines.video.decoder_starts import brings_sets, starts_whole
from adaptfocus.pipelines.video.display import shown_aspect, turn_of
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError, Spans, read_moov
from adaptfocus.pipelines.video.mp4_samples import Samples, read_samples
from adaptfocus.pipelines.video.mp4_tracks import VideoTrack, read_video_track
from adaptfocus.pipelines.video.side_data import SideDataType
from adaptfocus.pipelines.video.table import (
    ABSURD_PIXELS,
    ENDS_EARLY,
    MAX_EXTRADATA_BYTES,
    SOFTWARE_DECODER,
    PacketTable,
    bare_start,
    decodable,
    proof_context,
    shown_span,
)

# One request gets the first keyframe and this many bytes after it: a few packets of usual video. They serve a decoder
# that waits for more packets, and reveal false keyframes.
PROOF_BYTES = 128 * 1024
MAX_PROOF_BYTES = 32 << 20  # size of a first keyframe; 8K at quantizer 1 stays below


def read_mp4_table(spans: Spans) -> PacketTable:
    """The table of a plain mp4.

    Raises:
        NotPlainError: the headers do not say enough, or are wrong.
        BadVideoError: too_many_packets, cut_off.
        StorageError: the file cannot be fetched.
    """
    try:
        moov = read_moov(spans)
        track = read_video_track(moov)
        _check(track)
        samples = read_samples(moov, track.stbl, track.edits, spans.size_bytes, track.codec == "hevc")
        if not len(samples.pts):
            text = f"it was cut off: none of its {samples.cut_off:,} frames is complete in the file; get the whole file"
            raise BadVideoError("cut_off", text)
        return _proved(track, samples, spans)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise NotPlainError(f"its headers cannot be read: {error}") from None


def _check(track: VideoTrack) -> None:
    if not (0 < track.width <= table.MAX_SIDE_PIXELS and 0 < track.height <= table.MAX_SIDE_PIXELS):
        raise NotPlainError(f"frames of {track.width} x {track.height}")
    if len(track.extradata) > MAX_EXTRADATA_BYTES:
        raise NotPlainError(f"decoder settings of {len(track.extradata)} bytes")


def _proved(track: VideoTrack, samples: Samples, spans: Spans) -> PacketTable:
    """The table, once its first frame has come out of a bare decoder at the right time and size."""
    shown = decodable(samples.pts, samples.is_key)
    pts, dts, offsets, sizes, is_key = (
        array[shown] for array in (samples.pts, samples.dts, samples.offset_bytes, samples.size_bytes, samples.is_key)
    )
    codec = SOFTWARE_DECODER.get(track.codec, track.codec)
    middle = middle_key(is_key, sizes)
    packets = _first_packets(spans, offsets, sizes, middle)
    are_repeated = brings_sets(track.codec, track.extradata, packets[0])
    _check_packets(track, samples, is_key, packets, are_repeated)
    first_packet = [(packets[0], int(pts[0]), int(dts[0]))]
    context = proof_context(codec, track.extradata)
    frame, codec_aspect = bare_start(codec, track.extradata, first_packet, context)
    _check_frame(frame, int(pts[0]), track)
    if middle is not None:
        packet, at = spans.read(int(offsets[middle]), int(sizes[middle])), (int(pts[middle]), int(dts[middle]))
        frame = check_middle_packet(track.codec, track.extradata, packet, at, are_repeated, context)
        _check_frame(frame, at[0], track)
    first, end = shown_span(pts, samples.durations[shown])
    if samples.durations[shown][np.argmax(pts)] <= 0:
        raise NotPlainError("its last frame has no duration")
    duration_seconds = float((end - first) * Fraction(1, track.ticks_a_second))
    if why := wrong_times(pts, is_key, track.codec, 1 / track.ticks_a_second):
        raise NotPlainError(why)
    degrees, is_mirrored = turn_of(*track.matrix)
    pixel_aspect, slip = shown_aspect(track.pixel_aspect, codec_aspect)
    return PacketTable(
        codec=codec,
        extradata=track.extradata,
        width=track.width,
        height=track.height,
        rotation_degrees=degrees,
        is_mirrored=is_mirrored,
        pixel_aspect=pixel_aspect,
        time_base_numerator=1,
        time_base_denominator=track.ticks_a_second,
        duration_seconds=duration_seconds,
        frame_rate_hz=float(len(pts)) / duration_seconds,
        access="packets",
        indexed_by="header",
        offset_bytes=offsets,
        size_bytes=sizes.astype(np.int32),
        pts=pts,
        dts=dts,
        is_key=is_key,
        notes=tuple(_notes(samples, slip, spans.size_bytes)),
    )


def _notes(samples: Samples, slip: str | None, file_bytes: int) -> Iterator[tuple[str, str]]:
    if slip:
        yield ABSURD_PIXELS, slip
    if samples.cut_off:
        here = len(samples.pts)
        yield (
            ENDS_EARLY,
            f"it was cut off: of {here + samples.cut_off:,} frames the file of {file_bytes:,} bytes holds the first "
            f"{here:,} completely; these are used",
        )


def _first_packets(spans: Spans, offsets: np.ndarray, sizes: np.ndarray, middle: int | None) -> list[bytes]:
    """The first packet and those close after it, from what the tar's walk has fetched or by one request.

    The packet `middle` is fetched at the same time.
    """
    ends = offsets + sizes
    start, limit = int(offsets[0]), int(max(ends[0], offsets[0] + PROOF_BYTES))
    if ends[:2].max() <= spans.known_end(start):
        limit = spans.known_end(start)
    if sizes[0] > MAX_PROOF_BYTES:
        raise NotPlainError(f"a first keyframe of {sizes[0]} bytes")
    outside = np.flatnonzero((offsets < start) | (ends > limit))
    count = int(outside[0]) if len(outside) else len(offsets)
    size_bytes = int(ends[:count].max()) - start
    if middle is not None:
        spans.bring((start, size_bytes), (int(offsets[middle]), int(sizes[middle])))
    data = spans.read(start, size_bytes)
    return [data[o : o + s] for o, s in zip((offsets[:count] - start).tolist(), sizes[:count].tolist(), strict=True)]


def _check_packets(
    track: VideoTrack, samples: Samples, is_key: np.ndarray, packets: list[bytes], are_repeated: bool
) -> None:
    """Raises NotPlainError if fetched packets are incomplete, or are keyframes only according to the tables.

    Muxers that forget the table of keyframes declare every packet to be a keyframe.
    """
    if samples.all_key and len(packets) < min(2, len(is_key)):
        raise NotPlainError("there is no table of keyframes, and no second packet to see what that means")
    for packet, key in zip(packets, is_key.tolist(), strict=False):
        if not is_whole(track.codec, track.extradata, packet):
            raise NotPlainError("its tables cut packets in the wrong places")
        if key and not starts_decoding(track.codec, track.extradata, packet):
            raise NotPlainError("its table of keyframes names other packets too")
        if key and not starts_whole(track.codec, track.extradata, packet, are_repeated):
            raise NotPlainError("it is refreshed in parts, or its packets bring other parameter sets than its header")


def _check_frame(frame: Any, pts: int, track: VideoTrack) -> None:
    if frame is None or frame.is_corrupt:
        raise NotPlainError("its packets do not decode without the container")
    if frame.pts != pts:
        raise NotPlainError(f"a frame comes out at {frame.pts}, not at {pts}")
    if (frame.width, frame.height) != (track.width, track.height):
        raise NotPlainError(f"frames of {frame.width} x {frame.height} after a header of another size")
    if frame.side_data.get(SideDataType.DISPLAYMATRIX) is not None:
        raise NotPlainError("its packets themselves say how it is turned")
