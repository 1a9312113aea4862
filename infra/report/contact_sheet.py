"""The frames of a clip as one picture."""

from __future__ import annotations

import math

import numpy as np

from adaptfocus.infra.report.thumbnails import encode_picture

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
    return encode_picture(sheet, "png", "rgb24")
