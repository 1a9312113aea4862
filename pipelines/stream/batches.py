"""Batches as they leave the stream: of clips, and of windows.

A bad video's error is bytes in a row of its own, so that a batch is arrays only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from adaptfocus.pipelines.errors import RETRY_REASONS

ERROR_BYTES = 512  # an error's text crosses to the workers as this many bytes of UTF-8


@dataclass(frozen=True)
class ClipBatch:
    """B bags as arrays of fixed shape: N clips, T frames, L label places (padded with -1), n saliency bins."""

    slot: np.ndarray  # [B] int64
    video_row: np.ndarray  # [B] int64
    ok: np.ndarray  # [B] bool; a bag that could not be decoded keeps its slot, with black frames
    error: np.ndarray  # [B, ERROR_BYTES] uint8
    frames: np.ndarray  # [B, N, T, C, H, W] uint8: RGB, or planes of YUV as one channel (see frames.py); or float32
    # [B, N, T, D, 1, 1]: steps of features (see features/clips.py)
    clip_id: np.ndarray  # [B, N] int64
    tau: np.ndarray  # [B, N] float64
    explores: np.ndarray  # [B, N] bool; drawn anywhere in the video, and not around a salient time
    duration_seconds: np.ndarray  # [B] float64
    label_ids: np.ndarray  # [B, L] int64
    clip_positive: np.ndarray  # [B, N, L] bool; all true in weak regimes, but for padding
    saliency_score: np.ndarray  # [B, L, n] float32
    saliency_tau: np.ndarray  # [B, L, n] float32
    saliency_epoch: np.ndarray  # [B, L, n] int32
    read_bytes: np.ndarray  # [B] int64, fetched for the bag's clips
    read_requests: np.ndarray  # [B] int64
    wait_seconds: np.ndarray  # [B] float64: the decoder stood still for the store
    decode_seconds: np.ndarray  # [B] float64
    read_retries: np.ndarray  # [B, RETRY_REASONS] int64: what went wrong with the requests, by reason

    def __post_init__(self) -> None:
        shapes = {f.name: getattr(self, f.name).shape for f in fields(self)}
        if len(shapes["frames"]) != 6 or len(shapes["clip_positive"]) != 3 or len(shapes["saliency_score"]) != 3:
            raise ValueError(f"frames must be [B, N, T, C, H, W]: {shapes}")
        b, n = shapes["frames"][:2]
        labels, bins = shapes["saliency_score"][1:]
        wanted = {
            "slot": (b,), "video_row": (b,), "ok": (b,), "error": (b, ERROR_BYTES), "clip_id": (b, n), "tau": (b, n),
            "explores": (b, n),
            "duration_seconds": (b,), "read_bytes": (b,), "read_requests": (b,), "wait_seconds": (b,),
            "decode_seconds": (b,), "read_retries": (b, len(RETRY_REASONS)),
            "label_ids": (b, labels), "clip_positive": (b, n, labels), "saliency_score": (b, labels, bins),
            "saliency_tau": (b, labels, bins), "saliency_epoch": (b, labels, bins),
        }  # fmt: skip
        wrong = {name: shapes[name] for name, shape in wanted.items() if shapes[name] != shape}
        if wrong:
            raise ValueError(f"these columns disagree with frames {shapes['frames']}: {wrong}")
        is_features = self.frames.dtype == np.float32 and shapes["frames"][4:] == (1, 1)
        if self.frames.dtype != np.uint8 and not is_features:
            raise ValueError(f"frames must be uint8, or float32 of one pixel, are {self.frames.dtype}")

    @property
    def num_bags(self) -> int:
        return len(self.slot)

    def head(self, bags: int) -> ClipBatch:
        """The first `bags` bags."""
        return ClipBatch(**{name: values[:bags] for name, values in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        """As a dict of arrays: what crosses Ray Data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def encode_error(text: str) -> np.ndarray:
    """Text -> [ERROR_BYTES] uint8, cut at a character, padded with zeros."""
    data = text.encode()[:ERROR_BYTES].decode(errors="ignore").encode()
    return np.frombuffer(data.ljust(ERROR_BYTES, b"\0"), dtype=np.uint8)


def decode_error(data: np.ndarray) -> str:
    """The inverse of `encode_error`."""
    return data.tobytes().rstrip(b"\0").decode(errors="replace")


BAD_VIDEO = -1  # the step of the row that says why a video has none


@dataclass(frozen=True)
class WindowBatch:
    """B windows. The counts of a row are what was spent since the row before it, so that their sums are a video's."""

    video_row: np.ndarray  # int64 [B]
    step: np.ndarray  # int64 [B]; BAD_VIDEO: this row is no window, but says why its video is refused
    center_seconds: np.ndarray  # float64 [B]
    packets_decoded: np.ndarray  # int64 [B]
    frames_converted: np.ndarray  # int64 [B]
    read_bytes: np.ndarray  # int64 [B]
    error: np.ndarray  # uint8 [B, ERROR_BYTES]
    frames: np.ndarray  # uint8 [B, T, C, H, W]

    def columns(self) -> dict[str, np.ndarray]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def head(self, windows: int) -> WindowBatch:
        """The first rows."""
        return WindowBatch(**{name: column[:windows] for name, column in self.columns().items()})
