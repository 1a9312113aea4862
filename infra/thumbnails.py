"""A picture of a moment of a video.

Input: a row of the index and a time. Does: the same range read and decode as training. Output: a small JPEG.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from pipelines import storage
from pipelines.clip_stream import ClipShape, bare_bag, decode_bag
from pipelines.errors import BadVideoError
from pipelines.packets import clip_packets, shown_pts
from pipelines.records import decode_error

SIZE_PIXELS = 192  # shown at 140 CSS pixels; a page of 40 pictures stays below half a MiB


def frame_jpeg(video: dict, seconds: float, size_pixels: int = SIZE_PIXELS) -> bytes:
    """The frame on display at `seconds`, cut to the square that the model sees, as JPEG.

    Args:
        video: a row of INDEX_SCHEMA.

    Raises:
        BadVideoError: it does not decode. StorageError: it cannot be read.
    """
    clip = clip_packets(video, shown_pts(video), np.array([seconds]))
    bag = bare_bag(video, [clip])
    data = {}
    if video["access"] == "packets":
        data[0] = storage.read_ranges([video["shard_url"]], [clip["offset_bytes"]], [clip["size_bytes"]])[0]
    made = decode_bag(bag, data, ClipShape(clips=1, frames=1, size_pixels=size_pixels, max_labels=1, bins=1))
    if not made.ok[0]:
        kind, _, message = decode_error(made.error[0]).partition(": ")
        raise BadVideoError(kind, message)
    return _jpeg(made.frames[0, 0, 0])


def _jpeg(frame_CHW: np.ndarray) -> bytes:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_CHW.transpose(1, 2, 0)), format="rgb24")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"  # type: ignore[attr-defined]
    encoder.time_base = Fraction(1, 25)
    packets = [*encoder.encode(frame.reformat(format="yuvj420p")), *encoder.encode(None)]  # type: ignore[attr-defined]
    return b"".join(bytes(p) for p in packets)
