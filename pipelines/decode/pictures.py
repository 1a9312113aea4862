"""Decoded frames to what a model is shown: cut out, scaled, converted, turned upright, mirrored, in that order.

Input: a decoded frame of any size and pixel format.
Does: cuts what is shown as a square out of the planes (no copy), scales and converts it in one pass of swscale.
Output: uint8 [3, S, S], RGB; or [1, S * 3 / 2, S], the planes Y, U and V of I420 one below the other.

Cutting before scaling: 155 us a frame of 456 x 256 to 224, against 321 the other way round. It gives other pixels, so a
crop is defined in the source: a square of `crop_fraction` of the short side, its side and corner on even pixels so that
subsampled chroma is cut where luma is (on multiples of four in interlaced frames, whose fields are scaled apart). It is
centred along the short side; along the long side it may lie anywhere. Scaling is bilinear. Where pixels are not square,
the square is one of what a viewer sees: a rectangle of stored pixels, which scaling makes square in the same pass.
"""

from __future__ import annotations

import threading
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from adaptfocus.pipelines.video.display import Display

# Accurate rounding changes no pixel of what is scaled, at no cost. Where nothing is scaled it keeps swscale from its
# fast way, which leaves up to 8 columns at the right unwritten in widths that are no multiple of 16 (FFmpeg 8).
# PyAV names the flag (SWS_ACCURATE_RND) since 18, which Python 3.10 does not get.
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
        pixel_format: "rgb" or "yuv420p". Planes of YUV are BT.601 in limited range, whatever the video's are.
        display: the shape of its pixels, how it is turned and mirrored.
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
    """(left, top, width, height) of stored pixels that are shown as a square, all multiples of `step`, where the
    picture is not smaller than that.

    `place`: along the long side, from -1 at its beginning to 1 at its end; of two equal sides, the width.
    `pixel_aspect`: the width of a pixel by its height.
    """
    is_wide = width * pixel_aspect >= height
    short = min(width * pixel_aspect, height)
    left, across = _cut(width, short * crop_fraction / pixel_aspect, step, place if is_wide else 0)
    top, down = _cut(height, short * crop_fraction, step, 0 if is_wide else place)
    return left, top, across, down


def _cut(length: int, wanted: float, step: int, place: float) -> tuple[int, int]:
    """(where it begins, how long it is) of a part of one side."""
    part = round(wanted)
    part = max(part - part % step, min(step, length))
    start = int((length - part) * (1 + place) / 2)
    return start - start % step, part


def _keeps_ends(frame: av.VideoFrame, display: Display) -> bool:
    """Whether the long side begins at the left or top in what a viewer sees too, and not at its other end."""
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
    """A filter graph that cuts a rectangle out of frames of one kind: 5 us a frame, and no pixel is copied.

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
