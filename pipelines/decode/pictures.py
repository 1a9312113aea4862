"""Decoded frames to what a model is shown: cut, scaled, converted, turned upright and mirrored, in that order.

A frame may have any size and pixel format. The result is uint8: [3, S, S] for RGB, or [1, S * 3 / 2, S] for the planes
Y, U and V of I420, one below the other. The shown square is cut out of the planes without a copy, then scaled and
converted in one pass of swscale.

Cutting before scaling takes 155 us for a frame of 456 x 256 to 224, against 321 us in the opposite order. It gives
different pixels, so a crop is defined in the source: a square of `crop_fraction` of the short side. Its side and corner
are on even pixels, so that subsampled chroma is cut where luma is (on multiples of four in interlaced frames, whose
fields are scaled separately). It is centred along the short side; along the long side it may lie anywhere. Scaling is
bilinear. If pixels are not square, the square is one that a viewer sees: a rectangle of stored pixels, which scaling
makes square in the same pass.
"""

from __future__ import annotations

import threading
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from adaptfocus.pipelines.video.display import Display

# Accurate rounding changes no pixel of a scaled frame and costs nothing. Without scaling, it keeps swscale from a fast
# path that leaves up to 8 columns at the right unwritten if the width is not a multiple of 16 (FFmpeg 8).
# PyAV names the flag (SWS_ACCURATE_RND) since version 18, which does not support Python 3.10.
_RGB = int(Interpolation.BILINEAR) | 0x40000
_MAX_KEPT_CROPS = 32


def write_picture(
    frame: av.VideoFrame,
    crop_fraction: float,
    pixel_format: str,
    display: Display,
    out: np.ndarray,
    place: float = 0.0,
) -> None:
    """Write a frame into `out`.

    Args:
        pixel_format: "rgb" or "yuv420p". YUV planes are BT.601 in limited range, whatever the video uses.
        display: the shape of the frame's pixels, and how it is turned and mirrored.
        out: uint8 [C, H, W], contiguous: [3, S, S] or [1, S * 3 / 2, S].
        place: where along the long side the square is cut: -1 at the left or top of the upright picture, 0 in the
            middle, 1 at the right or bottom.
    """
    quarter_turns, size = display.rotation_degrees // 90 % 4, out.shape[2]
    place = place if not place or _keeps_ends(frame, display) else -place
    square = _cropped(frame, crop_fraction, display.pixel_aspect, place)
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
        upright = np.rot90(source, quarter_turns) if quarter_turns else source
        target[:] = upright[:, ::-1] if display.is_mirrored else upright


def planes_of_yuv420p(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of Y [S, S], U and V [S / 2, S / 2] of a contiguous [1, S * 3 / 2, S]."""
    size, half = picture.shape[2], picture.shape[2] // 2
    flat = picture.reshape(-1)
    y, u, v = np.split(flat, (size * size, size * size + half * half))
    return y.reshape(size, size), u.reshape(half, half), v.reshape(half, half)


def square_in(
    width: int, height: int, crop_fraction: float, step: int = 2, place: float = 0.0, pixel_aspect: float = 1.0
) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the stored pixels that are shown as a square. All are multiples of `step`, unless
    the picture is smaller than that.

    `place`: along the long side, from -1 at its start to 1 at its end; with equal sides, the width is the long side.
    `pixel_aspect`: the width of a pixel divided by its height.
    """
    is_wide = width * pixel_aspect >= height
    short = min(width * pixel_aspect, height)
    left, across = _cut(width, short * crop_fraction / pixel_aspect, step, place if is_wide else 0)
    top, down = _cut(height, short * crop_fraction, step, 0 if is_wide else place)
    return left, top, across, down


def _cut(length: int, wanted: float, step: int, place: float) -> tuple[int, int]:
    """(start, length) of a part of one side."""
    part = round(wanted)
    part = max(part - part % step, min(step, length))
    start = int((length - part) * (1 + place) / 2)
    return start - start % step, part


def _keeps_ends(frame: av.VideoFrame, display: Display) -> bool:
    """Whether the start of the long side is also at the left or top for a viewer, and not at the opposite end."""
    quarter_turns = display.rotation_degrees // 90 % 4
    is_wide = frame.width * display.pixel_aspect >= frame.height
    keeps = quarter_turns in ((0, 3) if is_wide else (0, 1))
    lies_flat = is_wide == (quarter_turns % 2 == 0)
    return keeps != (display.is_mirrored and lies_flat)


def _cropped(frame: av.VideoFrame, crop_fraction: float, pixel_aspect: float, place: float) -> av.VideoFrame:
    step = 4 if frame.interlaced_frame else 2
    cut = square_in(frame.width, frame.height, crop_fraction, step, place, pixel_aspect)
    if cut[2:] == (frame.width, frame.height):
        return frame
    key = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range), *cut)
    crop = _kept.crops.get(key)
    if crop is None:
        if len(_kept.crops) >= _MAX_KEPT_CROPS:
            _kept.crops.clear()
        crop = _kept.crops[key] = _Crop(*key)
    crop.source.push(frame)
    return crop.sink.pull()


class _Crop:
    """A filter graph that cuts a rectangle out of frames of one kind. It takes 5 us a frame and copies no pixel.

    The graph is kept here because filters point into it without keeping it alive.
    """

    def __init__(
        self, width: int, height: int, format: str, colorspace: int, color_range: int,
        left: int, top: int, across: int, down: int,
    ) -> None:  # fmt: skip
        self.graph = Graph()
        self.graph.threads = 1
        self.source: Any = self.graph.add(
            "buffer", video_size=f"{width}x{height}", pix_fmt=format, time_base="1/1", pixel_aspect="1/1",
            colorspace=str(colorspace), range=str(color_range),
        )  # fmt: skip
        self.sink: Any = self.graph.add("buffersink")
        self.graph.link_nodes(self.source, self.graph.add("crop", f"{across}:{down}:{left}:{top}"), self.sink)
        self.graph.configure()


class _Kept(threading.local):
    """What one thread keeps between frames: scaling tables, filter graphs."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.crops: dict[tuple, _Crop] = {}


_kept = _Kept()
