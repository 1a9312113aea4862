"""Batches as they leave the stream: of clips, and of windows.

The error of a bad video is stored as bytes in an array, so that a batch holds only arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from adaptfocus.pipelines.errors import RETRY_REASONS, BadVideoError

B = TypeVar("B", bound="DecodedBatch")
KIND_BYTES = 32  # a kind crosses to the workers as this many bytes of ASCII
ERROR_BYTES = 512  # an error's text crosses to the workers as this many bytes of UTF-8


@dataclass(frozen=True)
class DecodedBatch:
    """B decoded bags as arrays of fixed shape: N clips, T frames. The plan says under `slot` what each bag shows."""

    slot: np.ndarray  # [B] int64
    ok: np.ndarray  # [B] bool; a bag that could not be decoded keeps its slot, with black frames
    kind: np.ndarray  # [B, KIND_BYTES] uint8: the short stable word of an error, if not ok
    error: np.ndarray  # [B, ERROR_BYTES] uint8: its message
    # [B, N, T, C, H, W] uint8: RGB, or planes of YUV as one channel (decode/pictures.py). Or [B, N, T, D, 1, 1]
    # float32: steps of features (features/clips.py).
    frames: np.ndarray
    read_bytes: np.ndarray  # [B] int64, fetched for the bag's clips
    read_requests: np.ndarray  # [B] int64
    wait_seconds: np.ndarray  # [B] float64: how long the decoder waited for the store
    decode_seconds: np.ndarray  # [B] float64
    read_retries: np.ndarray  # [B, RETRY_REASONS] int64: retried requests, by reason

    def __post_init__(self) -> None:
        self._check({})

    def _check(self, more: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ValueError if the shapes of frames, these columns and `more` do not agree."""
        shapes = {each.name: getattr(self, each.name).shape for each in fields(self)}
        if len(shapes["frames"]) != 6:
            raise ValueError(f"frames must be [B, N, T, C, H, W]: {shapes}")
        b = shapes["frames"][0]
        wanted = {
            "slot": (b,), "ok": (b,), "kind": (b, KIND_BYTES), "error": (b, ERROR_BYTES), "read_bytes": (b,),
            "read_requests": (b,), "wait_seconds": (b,), "decode_seconds": (b,),
            "read_retries": (b, len(RETRY_REASONS)), **more,
        }  # fmt: skip
        wrong = {name: shapes[name] for name, shape in wanted.items() if shapes[name] != shape}
        if wrong:
            raise ValueError(f"these columns disagree with frames {shapes['frames']}: {wrong}")
        is_features = self.frames.dtype == np.float32 and shapes["frames"][4:] == (1, 1)
        if self.frames.dtype != np.uint8 and not is_features:
            raise ValueError(f"frames must be uint8, or float32 of one pixel, and are {self.frames.dtype}")

    @property
    def num_bags(self) -> int:
        return len(self.slot)

    def reason(self, place: int) -> str:
        """Why a bag could not be decoded, for people: "kind: message"."""
        return f"{decode_text(self.kind[place])}: {decode_text(self.error[place])}"

    def head(self: B, bags: int) -> B:
        """The first `bags` bags."""
        return type(self)(**{name: values[:bags] for name, values in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        """The batch as a dict of arrays, as it passes through Ray Data."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def encode_error(error: BadVideoError) -> tuple[np.ndarray, np.ndarray]:
    """A bad video's kind [KIND_BYTES] and message [ERROR_BYTES], both uint8."""
    return encode_text(error.kind, KIND_BYTES), encode_text(str(error), ERROR_BYTES)


def encode_text(text: str, size_bytes: int) -> np.ndarray:
    """Text -> [size_bytes] uint8, cut at a character, padded with zeros."""
    data = text.encode()[:size_bytes].decode(errors="ignore").encode()
    return np.frombuffer(data.ljust(size_bytes, b"\0"), dtype=np.uint8)


def decode_text(data: np.ndarray) -> str:
    """The inverse of `encode_text`."""
    return data.tobytes().rstrip(b"\0").decode(errors="replace")


BAD_VIDEO = -1  # the step of the row that says why a video has no windows


@dataclass(frozen=True)
class WindowBatch:
    """B windows. A row counts the work since the previous row, so that the rows of a video add up to its total."""

    video_row: np.ndarray  # int64 [B]
    step: np.ndarray  # int64 [B]; BAD_VIDEO: this row is not a window; it says why its video is refused
    center_seconds: np.ndarray  # float64 [B]
    packets_decoded: np.ndarray  # int64 [B]
    frames_converted: np.ndarray  # int64 [B]
    read_bytes: np.ndarray  # int64 [B]
    kind: np.ndarray  # uint8 [B, KIND_BYTES]
    error: np.ndarray  # uint8 [B, ERROR_BYTES]
    frames: np.ndarray  # uint8 [B, T, C, H, W]

    def columns(self) -> dict[str, np.ndarray]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def head(self, windows: int) -> WindowBatch:
        """The first rows."""
        return WindowBatch(**{name: column[:windows] for name, column in self.columns().items()})
