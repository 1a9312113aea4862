"""A clip that is decoded and encoded again: it begins and ends with exactly the wanted frames."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType

from adaptfocus.pipelines.cutting.copying import timescale_of
from adaptfocus.pipelines.decode.member import demux_frames
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.store.range_file import RangeFile

# Constant quality that is hard to tell from the source. Without `cpu-independent`, x264 with SIMD gave
# 5 different sizes (2,280 to 2,437 bytes) in 12 encodings of the same 20 frames; with it, one.
OPTIONS = {"crf": "18", "preset": "fast", "x264-params": "cpu-independent=1"}
_MATRIX_AFTER_NAME_BYTES = 4 + 40  # in a track header of version 0, after the four letters of its name
_TURNS = {0: (1, 0), 90: (0, -1), 180: (-1, 0), 270: (0, 1)}  # degrees counter-clockwise -> a and b of the matrix


def encode_moment(video: Mapping[str, Any], wanted_pts: np.ndarray, member: RangeFile) -> bytes:
    """An H.264 mp4 of these frames, shown as the source is shown. Pixels have 8 bits in 4:2:0.

    Raises:
        BadVideoError: decode_error, no_video_stream, unknown_codec. StorageError: the member cannot be read.
    """
    out = io.BytesIO()
    frames = demux_frames(wanted_pts.tolist(), member, from_start=video["access"] == "sequential")
    try:
        with av.open(out, "w", format="mp4", options=timescale_of(video)) as muxer:
            done = _encode(muxer, frames, video, wanted_pts)
    except (FFmpegError, ValueError) as error:
        raise BadVideoError("decode_error", str(error)) from error
    if done < len(wanted_pts):
        raise BadVideoError("decode_error", f"{len(wanted_pts)} frames are wanted, and {done} came")
    return with_turn(out.getvalue(), video["rotation_degrees"], video["is_mirrored"])


def with_turn(clip: bytes, rotation_degrees: int, is_mirrored: bool) -> bytes:
    """An mp4 of one track whose header says how to turn and mirror its pictures."""
    if not rotation_degrees and not is_mirrored:
        return clip
    a, b = _TURNS[rotation_degrees]
    c, d = -b, a
    if is_mirrored:
        a, c = -a, -c
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    at = clip.rindex(b"tkhd") + _MATRIX_AFTER_NAME_BYTES  # the headers are behind the pictures
    return clip[:at] + matrix + clip[at + len(matrix) :]


def _encode(muxer: Any, frames: Iterable[Any], video: Mapping[str, Any], wanted_pts: np.ndarray) -> int:
    """Encode frames into the muxer -> their number."""
    time_base = Fraction(video["time_base_numerator"], video["time_base_denominator"])
    stream, done = None, 0
    for frame in frames:
        if stream is None:
            stream = _stream_for(muxer, frame, video, time_base, wanted_pts)
        pts = int(frame.pts) - int(wanted_pts[0])
        picture = frame.reformat(stream.width, stream.height, stream.pix_fmt)
        picture.pts, picture.time_base, picture.pict_type = pts, time_base, PictureType.NONE
        muxer.mux(stream.encode(picture))
        done += 1
    if stream is not None:
        muxer.mux(stream.encode())
    return done


def _stream_for(muxer: Any, frame: Any, video: Mapping[str, Any], time_base: Fraction, wanted_pts: np.ndarray) -> Any:
    steps = [b - a for a, b in pairwise(wanted_pts.tolist())]
    rate = 1 / (time_base * sorted(steps)[len(steps) // 2]) if steps else Fraction(video["frame_rate_hz"])
    stream: Any = muxer.add_stream("libx264", rate=rate.limit_denominator(1001), options=dict(OPTIONS))
    # 4:2:0 needs even sides.
    stream.width, stream.height = max(frame.width // 2 * 2, 2), max(frame.height // 2 * 2, 2)
    stream.pix_fmt = frame.format.name if frame.format.name in ("yuv420p", "yuvj420p") else "yuv420p"
    context = stream.codec_context
    context.time_base = time_base
    context.thread_count = 1  # the same bytes on any machine; other cores cut other videos
    context.color_range, context.colorspace = frame.color_range, frame.colorspace
    context.sample_aspect_ratio = Fraction(video["pixel_aspect_numerator"], video["pixel_aspect_denominator"])
    return stream
