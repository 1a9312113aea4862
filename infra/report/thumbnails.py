"""Pictures of moments of a video, as small JPEGs. They are read and decoded as in training."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.index.packets import video_with_packets
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts

SIZE_PIXELS = 192  # shown at 140 CSS pixels; a page of 40 pictures stays below half a MiB
STRIP_PIXELS = 96  # size of a frame in a strip along a timeline


def frames_jpeg(video: dict, seconds: Sequence[float], size_pixels: int = SIZE_PIXELS) -> list[bytes]:
    """The frames on display at some times, cut to the square that the model sees, as JPEG; read and decoded together.

    Args:
        video: a row of a loaded index.

    Raises:
        BadVideoError: it does not decode. StorageError: it cannot be read. InputError: its packets are damaged.
    """
    video = video_with_packets(video)
    packets = packets_of(video)
    times = [np.array([each]) for each in seconds]
    frame_pts, spans = find_clips(video, packets, shown_pts(video, packets), times)
    ((bag, data, _),) = read_ahead([bare_bag(video, frame_pts, spans)])
    out = np.empty((len(times), 1, 3, size_pixels, size_pixels), np.uint8)
    decode_clips(bag, data, size_pixels, DecodeConfig(), out)
    return [encode_picture(clip[0].transpose(1, 2, 0), "mjpeg", "yuvj420p") for clip in out]


def encode_picture(pixels_HWC: np.ndarray, codec: str, pixel_format: str) -> bytes:
    """uint8 RGB [H, W, 3] as a file of one picture: ("mjpeg", "yuvj420p") or ("png", "rgb24")."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HWC), format="rgb24")
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, pixel_format  # type: ignore[attr-defined]
    encoder.time_base = Fraction(1, 25)
    packets = [*encoder.encode(frame.reformat(format=pixel_format)), *encoder.encode(None)]  # type: ignore[attr-defined]
    return b"".join(bytes(p) for p in packets)
