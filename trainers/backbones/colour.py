"""Converts planes of YUV to RGB, on the device that holds them.

The planes are I420 in BT.601 limited range, as `decode.pixel_format=yuv420p` sends them. The chroma planes are doubled
in both directions, and one matrix does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

# ITU-R BT.601: R = Y + 1.402 V, B = Y + 1.772 U, and G follows from 0.299 R + 0.587 G + 0.114 B = Y. The whole range
# is 16 to 235 for Y and 16 to 240 for chroma.
_LUMA, _CHROMA = 255 / 219, 255 / 224
_MATRIX = (
    (_LUMA, 0.0, 1.402 * _CHROMA),
    (_LUMA, -1.772 * 0.114 / 0.587 * _CHROMA, -1.402 * 0.299 / 0.587 * _CHROMA),
    (_LUMA, 1.772 * _CHROMA, 0.0),
)


def is_yuv420p(frames: torch.Tensor) -> bool:
    """Whether [..., C, H, W] are planes of YUV: one channel, and a height of 1.5 times the width."""
    channels, height, width = frames.shape[-3:]
    return channels == 1 and 2 * height == 3 * width


def rgb_of_yuv420p(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 1, 3 S / 2, S] -> float32 [..., 3, S, S], 0 to 255, on the same device.

    Raises:
        ValueError: the frames have another shape.
    """
    if not is_yuv420p(frames) or frames.shape[-1] % 2:
        raise ValueError(f"planes of YUV are [..., 1, 3 S / 2, S] of an even S, not {tuple(frames.shape)}")
    size, leading = frames.shape[-1], frames.shape[:-3]
    half = size // 2
    flat = frames.reshape(-1, size * size * 3 // 2)
    luma = flat[:, : size * size].reshape(-1, 1, size, size).float() - 16
    chroma = flat[:, size * size :].reshape(-1, 2, half, half).float() - 128
    wide = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    matrix = constant([each for row in _MATRIX for each in row], frames.device).view(3, 3)
    rgb = torch.einsum("rc,ncyx->nryx", matrix, torch.cat([luma, wide], dim=1))
    return rgb.clamp_(0, 255).reshape(*leading, 3, size, size)


def constant(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """Some numbers as float32 on a device. A GPU fills them in, because a copy would wait for all of its work."""
    if device.type == "cpu":
        return torch.tensor(values)
    return torch.stack([torch.full((), value, device=device) for value in values])
