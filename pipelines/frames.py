"""Bytes to pixels: the frames of a bag's clips.

Input: a bag of a plan and the bytes of its spans (or, where a container has no usable table, the member itself).
Does: says how they are to be decoded, and decodes them in this process (clip_decoder). `isolated` does the same in
another one.
Output: uint8 [clips, frames, C, H, W], written in place: the very frames that a sequential decode shows then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import av
import numpy as np
import pydantic

from adaptfocus.pipelines.clip_decoder import How, decode_into
from adaptfocus.pipelines.clip_reader import version_of
from adaptfocus.pipelines.config import Settings
from adaptfocus.pipelines.display import Display
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.pictures import write_picture
from adaptfocus.pipelines.range_file import RangeFile


class DecodeConfig(Settings):
    """How bytes become frames.

    `backend`: "packets" feeds fetched packets to a bare decoder; "demux" (PyAV) and "decord" read the whole member.
    `pixel_format`: "rgb" gives [3, S, S]; "yuv420p" gives the planes Y, U, V below each other as [1, S * 3 / 2, S],
    half the bytes, to be converted on the device.
    `crop_fraction`: side of the square that is cut out, as a fraction of the picture's short side.
    `crop_place`: where along the long side. "centre"; "drawn" by the clip's id, one of nine places from end to end;
    "in_turn": the clips of a bag at the beginning, in the middle and at the end, as `evaluate --crops 3` has it.
    """

    backend: Literal["packets", "demux", "decord"] = "packets"
    pixel_format: Literal["rgb", "yuv420p"] = "rgb"
    crop_fraction: float = pydantic.Field(default=1.0, gt=0, le=1)
    crop_place: Literal["centre", "drawn", "in_turn"] = "centre"

    @property
    def how(self) -> How:
        return How(self.backend, self.pixel_format, self.crop_fraction, self.crop_place)

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


def decode_clips(
    bag: Mapping[str, Any], data: Sequence[bytes], size_pixels: int, decode: DecodeConfig, out: np.ndarray
) -> None:
    """Decode all clips of a bag into `out` uint8 [clips, frames, C, H, W], which is contiguous, in this process.

    Args:
        bag: a row of PLAN_SCHEMA.
        data: the bytes of each of the bag's spans, as fetched; not used by the backends that read the member.

    Raises:
        BadVideoError: the packets do not decode, or not to whole pictures, or a wanted frame does not come.
        ConfigError: `decode` asks for what is not installed, or cannot be had at this size.
        StorageError: the member cannot be read.
    """
    check_out(bag, size_pixels, decode, out)
    decode_into(bag, data, decode.how, out, partial(open_member, bag))


def check_out(bag: Mapping[str, Any], size_pixels: int, decode: DecodeConfig, out: np.ndarray) -> None:
    """Raises ValueError if `out` is not where a bag's clips fit."""
    shape = (len(bag["clips"]), len(bag["clips"][0]["frame_pts"]), *decode.frame_shape(size_pixels))
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}; wanted contiguous uint8 {shape}")


def open_member(bag: Mapping[str, Any], block_bytes: int = 256 * 1024, max_blocks: int = 64) -> RangeFile:
    """The member of a bag, or of a row of the index, as a file that is fetched in blocks, of which some are kept."""
    place = (bag["shard_url"], bag["member_offset_bytes"], bag["member_size_bytes"])
    return RangeFile(*place, block_bytes, max_blocks, version_of(bag))


def to_square_rgb(
    frame: av.VideoFrame, size_pixels: int, rotation_degrees: int, crop_fraction: float = 1.0
) -> np.ndarray:
    """One decoded frame as the clips show it: uint8 [3, size, size], RGB, upright."""
    out = np.empty((3, size_pixels, size_pixels), np.uint8)
    write_picture(frame, crop_fraction, "rgb", Display(rotation_degrees), out)
    return out
