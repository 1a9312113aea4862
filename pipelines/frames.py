"""Bytes to pixels: the frames of a bag's clips.

Input: a bag of a plan and the bytes of its spans (or, where a container has no usable table, the member itself).
Does: decodes what the clips need, each frame once (packet_decoder, member_decoders); cuts out, scales, converts and
turns it (pictures).
Output: uint8 [clips, frames, C, H, W], written in place: the very frames that a sequential decode shows then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import av
import numpy as np
import pydantic

from pipelines.config import Settings
from pipelines.errors import BadVideoError, ConfigError
from pipelines.member_decoders import decord_frames, demuxed_frames
from pipelines.packet_decoder import frames_of_span
from pipelines.pictures import write_picture


class DecodeConfig(Settings):
    """How bytes become frames.

    `backend`: "packets" feeds fetched packets to a bare decoder; "demux" (PyAV) and "decord" read the whole member.
    `pixel_format`: "rgb" gives [3, S, S]; "yuv420p" gives the planes Y, U, V below each other as [1, S * 3 / 2, S],
    half the bytes, to be converted on the device.
    `crop_fraction`: side of the centred square that is cut out, as a fraction of the picture's short side.
    """

    backend: Literal["packets", "demux", "decord"] = "packets"
    pixel_format: Literal["rgb", "yuv420p"] = "rgb"
    crop_fraction: float = pydantic.Field(default=1.0, gt=0, le=1)

    def frame_shape(self, size_pixels: int) -> tuple[int, int, int]:
        """[C, H, W] of a frame. Raises ConfigError: planes of YUV need an even size."""
        if self.pixel_format == "rgb":
            return (3, size_pixels, size_pixels)
        if size_pixels % 2:
            raise ConfigError(
                f"clip.size_pixels is {size_pixels}; decode.pixel_format=yuv420p needs an even size, because its "
                f"chroma has half of it: take {size_pixels + 1}"
            )
        return (1, size_pixels * 3 // 2, size_pixels)


Place = tuple[int, int]  # (clip, frame) in a bag


def decode_clips(
    bag: Mapping[str, Any], data: Sequence[bytes], size_pixels: int, decode: DecodeConfig, out: np.ndarray
) -> None:
    """Decode all clips of a bag into `out` uint8 [clips, frames, C, H, W], which is contiguous.

    Args:
        bag: a row of PLAN_SCHEMA.
        data: the bytes of each of the bag's spans, as fetched; not used by the backends that read the member.

    Raises:
        BadVideoError: the packets do not decode, or not to whole pictures, or a wanted frame does not come.
        ConfigError: `decode` asks for what is not installed, or cannot be had at this size.
        StorageError: the member cannot be read.
    """
    shape = (len(bag["clips"]), len(bag["clips"][0]["frame_pts"]), *decode.frame_shape(size_pixels))
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}; wanted contiguous uint8 {shape}")
    places: dict[int, list[Place]] = {}
    for number, clip in enumerate(bag["clips"]):
        for at, pts in enumerate(clip["frame_pts"]):
            places.setdefault(pts, []).append((number, at))
    left = dict(places)
    for pts, frame, rotation_degrees in _frames(bag, data, decode.backend, places):
        first, *others = left.pop(pts)
        write_picture(frame, decode.crop_fraction, decode.pixel_format, rotation_degrees, out[first])
        for other in others:
            out[other] = out[first]
    if left:
        text = f"{len(left)} of {len(places)} frames did not decode: pts {sorted(left)[:4]}"
        raise BadVideoError("missing_frame", text)


def _frames(
    bag: Mapping[str, Any], data: Sequence[bytes], backend: str, wanted: Mapping[int, Any]
) -> Iterator[tuple[int, av.VideoFrame, int]]:
    """(pts, frame, how many degrees to turn it counter-clockwise) of the frames wanted, each once."""
    if backend != "packets" or bag["access"] != "packets":
        yield from member_frames(bag, backend, wanted)
        return
    for span, part in zip(bag["spans"], data, strict=True):
        for frame in frames_of_span(bag["codec"], bag["extradata"] or b"", span, part, wanted):
            yield int(frame.pts or 0), frame, bag["rotation_degrees"]


def member_frames(
    bag: Mapping[str, Any], backend: str, wanted_pts: Collection[int], *blocks: int
) -> Iterator[tuple[int, av.VideoFrame, int]]:
    """The same of a member that is read as a file, by decord or through PyAV's demuxer, in order of time.

    Args:
        bag: or a row of the index.
        blocks: size in bytes and number of the blocks that the demuxer reads through.
    """
    if backend == "decord":
        for pts, frame in decord_frames(bag, wanted_pts):
            yield pts, frame, 0  # decord turns frames itself
    else:
        for frame in demuxed_frames(bag, wanted_pts, *blocks):
            yield int(frame.pts or 0), frame, bag["rotation_degrees"]


def to_square_rgb(
    frame: av.VideoFrame, size_pixels: int, rotation_degrees: int, crop_fraction: float = 1.0
) -> np.ndarray:
    """One decoded frame as the clips show it: uint8 [3, size, size], RGB, upright."""
    out = np.empty((3, size_pixels, size_pixels), np.uint8)
    write_picture(frame, crop_fraction, "rgb", rotation_degrees, out)
    return out
