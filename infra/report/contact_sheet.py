"""The frames of a clip as one picture."""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np

COLUMNS = 8
GAP_PIXELS = 2


def contact_sheet(frames: np.ndarray) -> bytes:
    """Frames, row by row in their order of time, as a PNG.

    Args:
        frames: uint8 RGB [F, 3, H, W].
    """
    count, _, height, width = frames.shape
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    tall, wide = height + GAP_PIXELS, width + GAP_PIXELS
    sheet = np.full((rows * tall - GAP_PIXELS, columns * wide - GAP_PIXELS, 3), 255, np.uint8)
    for number, frame in enumerate(frames):
        y, x = number // columns * tall, number % columns * wide
        sheet[y : y + height, x : x + width] = frame.transpose(1, 2, 0)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = sheet.shape[1], sheet.shape[0], "rgb24"  # type: ignore[attr-defined]
    encoder.time_base = Fraction(1, 25)
    picture = av.VideoFrame.from_ndarray(sheet, format="rgb24")
    packets = [*encoder.encode(picture), *encoder.encode(None)]  # type: ignore[attr-defined]
    return b"".join(bytes(packet) for packet in packets)
