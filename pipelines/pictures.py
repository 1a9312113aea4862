"""Decoded frames to what a model is shown: cut out, scaled, converted, turned upright, in that order.

Input: a decoded frame of any size and pixel format.
Does: cuts a square out of the planes (no copy), scales and converts it in one pass of swscale.
Output: uint8 [3, S, S], RGB; or [1, S * 3 / 2, S], the planes Y, U and V of I420 one below the other.

Cutting before scaling: 155 us a frame of 456 x 256 to 224, against 321 the other way round. It gives other pixels, so a
crop is defined in the source: a square of `crop_fraction` of the short side, its side and corner on even pixels so that
subsampled chroma is cut where luma is (on multiples of four in interlaced frames, whose fields are scaled apart). It is
centred along the short side; along the long side it may lie anywhere. Scaling is bilinear.
"""

from __future__ import annotations

import threading
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

# Accurate rounding changes no pixel of what is scaled, at no cost. Where nothing is scaled it keeps swscale from its
# fast way, which leaves up to 8 columns at the right unwritten in widths that are no multiple of 16 (FFmpeg 8).
# PyAV names the flag (SWS_ACCURATE_RND) since 18, which Python 3.10 does not get.
_RGB = int(Interpolation.BILINEAR) | 0x40000
_MAX_KEPT_CROPS = 32


def write_picture(
    frame: av.VideoFrame,
    crop_fraction: float,
    pixel_format: str,
    rotation_degrees: int,
    out: np.ndarray,
    place: float = 0.0,
) -> None:
    """Write a frame into `out`.

    Args:
        pixel_format: "rgb" or "yuv420p". Planes of YUV are BT.601 in limited range, whatever the video's are.
        rotation_degrees: counter-clockwise, a multiple of 90.
        out: uint8 [C, H, W], contiguous: [3, S, S] or [1, S * 3 / 2, S].
        place: where along the long side the square is cut: -1 at the left or top of the upright picture, 0 in the
            middle, 1 at the right or bottom.
    """
    quarter_turns, size = rotation_degrees // 90 % 4, out.shape[2]
    square = _cropped(frame, crop_fraction, place if _keeps_ends(frame, quarter_turns) else -place)
    if pixel_format == "rgb":
        made = _kept.reformatter.reformat(square, width=size, height=size, format="gbrp", interpolation=_RGB, threads=1)
        green, blue, red = made.planes
        targets = ((red, out[0]), (green, out[1]), (blue, out[2]))
    else:
        made = _kept.reformatter.reformat(
            square, width=size, height=size, format="yuv420p", threads=1,
            dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG,
        )  # fmt: skip
        targets = tuple(zip(made.planes, planes_of_yuv420p(out), strict=True))
    for plane, target in targets:
        source = np.ndarray(target.shape, np.uint8, memoryview(plane), strides=(plane.line_size, 1))
        target[:] = np.rot90(source, quarter_turns) if quarter_turns else source


def planes_of_yuv420p(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of Y [S, S], U and V [S / 2, S / 2] of a contiguous [1, S * 3 / 2, S]."""
    size, half = picture.shape[2], picture.shape[2] // 2
    flat = picture.reshape(-1)
    y, u, v = np.split(flat, (size * size, size * size + half * half))
    return y.reshape(size, size), u.reshape(half, half), v.reshape(half, half)


def square_in(width: int, height: int, crop_fraction: float, step: int = 2, place: float = 0.0) -> tuple[int, int, int]:
    """(left, top, side) of a square, all multiples of `step` where the picture is not smaller than that.

    `place`: along the long side, from -1 at its beginning to 1 at its end; of two equal sides, the width.
    """
    short = min(width, height)
    side = round(short * crop_fraction)
    side = max(side - side % step, min(step, short))
    left, top = (
        int((length - side) * (1 + (place if is_long else 0)) / 2)
        for length, is_long in ((width, width >= height), (height, width < height))
    )
    return left - left % step, top - top % step, side


def _keeps_ends(frame: av.VideoFrame, quarter_turns: int) -> bool:
    """Whether the long side begins at the left or top after counter-clockwise turns too, and not at its other end."""
    return quarter_turns in ((0, 3) if frame.width >= frame.height else (0, 1))


def _cropped(frame: av.VideoFrame, crop_fraction: float, place: float) -> av.VideoFrame:
    step = 4 if frame.interlaced_frame else 2
    left, top, side = square_in(frame.width, frame.height, crop_fraction, step, place)
    if (side, side) == (frame.width, frame.height):
        return frame
    key = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range), left, top, side)
    crop = _kept.crops.get(key)
    if crop is None:
        if len(_kept.crops) >= _MAX_KEPT_CROPS:
            _kept.crops.clear()
        crop = _kept.crops[key] = _Crop(*key)
    crop.source.push(frame)
    return crop.sink.pull()


class _Crop:
    """A filter graph that cuts a rectangle out of frames of one kind: 5 us a frame, and no pixel is copied.

    The graph is kept here because filters point into it without keeping it alive.
    """

    def __init__(
        self, width: int, height: int, format: str, colorspace: int, color_range: int, left: int, top: int, side: int
    ) -> None:
        self.graph = Graph()
        self.graph.threads = 1
        self.source: Any = self.graph.add(
            "buffer", video_size=f"{width}x{height}", pix_fmt=format, time_base="1/1", pixel_aspect="1/1",
            colorspace=str(colorspace), range=str(color_range),
        )  # fmt: skip
        self.sink: Any = self.graph.add("buffersink")
        self.graph.link_nodes(self.source, self.graph.add("crop", f"{side}:{side}:{left}:{top}"), self.sink)
        self.graph.configure()


class _Kept(threading.local):
    """What one thread keeps between frames: scaling tables, filter graphs."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.crops: dict[tuple, _Crop] = {}


_kept = _Kept()
