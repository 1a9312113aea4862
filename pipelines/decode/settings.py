"""Settings of decoding, and of the process in which it may run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pydantic

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.settings import Settings

# Along the long side (`pictures.write_picture`). A drawn place is one of nine, so that its cutter can be reused.
IN_TURN = (-1.0, 0.0, 1.0)
DRAWN = tuple(number / 4 - 1 for number in range(9))


class DecodeConfig(Settings):
    """How bytes become frames.

    `backend`: "packets" feeds fetched packets to a bare decoder; "demux" (PyAV) reads parts of the member as a file;
    "decord" reads all of it.
    `pixel_format`: "rgb" gives [3, S, S]; "yuv420p" gives the planes Y, U, V below each other as [1, S * 3 / 2, S],
    half the bytes, to be converted on the device.
    `crop_fraction`: side of the square crop as a fraction of the picture's short side.
    `crop_place`: where along the long side. "centre"; "drawn" by the clip's id, one of nine places from end to end;
    "in_turn": the clips of a bag take the start, the middle and the end in turn, as in `evaluate --crops 3`.
    """

    backend: Literal["packets", "demux", "decord"] = "packets"
    pixel_format: Literal["rgb", "yuv420p"] = "rgb"
    crop_fraction: float = pydantic.Field(default=1.0, gt=0, le=1)
    crop_place: Literal["centre", "drawn", "in_turn"] = "centre"

    def place_of(self, number: int, clip_id: int) -> float:
        """Where clip `number` of a bag is cut along the long side, from -1 to 1."""
        if self.crop_place == "in_turn":
            return IN_TURN[number % len(IN_TURN)]
        if self.crop_place == "drawn":  # the middle bits of a product are random enough for nine places
            return DRAWN[(clip_id * 0x9E3779B97F4A7C15 >> 32 & 0xFFFFFFFF) * len(DRAWN) >> 32]
        return 0.0

    def frame_shape(self, size_pixels: int) -> tuple[int, int, int]:
        """[C, H, W] of a frame. Raises ConfigError: planes of YUV need an even size."""
        if self.pixel_format == "rgb":
            return (3, size_pixels, size_pixels)
        if size_pixels % 2:
            raise ConfigError(
                f"clip.size_pixels is {size_pixels}; decode.pixel_format=yuv420p needs an even size, because its "
                f"chroma has half the size: take {size_pixels + 1}"
            )
        return (1, size_pixels * 3 // 2, size_pixels)


@dataclass(frozen=True)
class Isolation:
    """Limits for one bag or video.

    Its time limit is `deadline_seconds` plus PACKET_SECONDS for each packet. `memory_bytes` comes on top of what the
    libraries take: an 8K decoder holds 17 frames of 100 MB.
    """

    deadline_seconds: float = 60.0
    memory_bytes: int = 2 << 30


DEFAULT_ISOLATION = Isolation()
