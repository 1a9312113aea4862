"""Changes training clips at random, on the device: crops, mirror images and colours.

The changes to a clip depend on its id (`device/draws.py`) and are the same for all of its frames. All clips of a batch
are changed at once. Nothing waits for the device or loops over clips. Only training does this; docs/decisions/0019 has
the reasons.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch.nn import functional

from adaptfocus.trainers.backbones.colour import is_yuv420p, rgb_of_yuv420p
from adaptfocus.trainers.device.draws import AUGMENT, uniforms
from adaptfocus.trainers.settings.parts import AugmentConfig

LUMA = (0.299, 0.587, 0.114)  # of BT.601
# All numbers of a clip are drawn, even those not used. So a switch changes only what it is about.
AREA, ASPECT, LEFT, TOP, FLIP, BRIGHTNESS, CONTRAST, SATURATION, HUE = range(9)


def augment_clips(
    frames: torch.Tensor, clip_id: torch.Tensor, config: AugmentConfig, size_pixels: int, seed: int
) -> torch.Tensor:
    """uint8 [B, T, 3, D, D] (or planes of YUV) -> float32 [B, T, 3, S, S], 0 to 255, on the same device.

    Args:
        clip_id: int64 [B], on that device.
        size_pixels: S. D is the same unless `decode_size_pixels` says otherwise.
        seed: that of the run.
    """
    drawn = uniforms(clip_id, seed, AUGMENT, HUE + 1)
    x = rgb_of_yuv420p(frames) if is_yuv420p(frames) else frames.float()
    flips = drawn[:, FLIP] < config.flip_probability
    if config.crop_area:
        x = cut_and_scaled(x, rectangles(drawn, config, x.shape[-1]), flips, size_pixels)
    elif config.flip_probability:
        x = torch.where(flips[:, None, None, None, None], x.flip(-1), x)
    return recolour(x, drawn, config) if config.colours else x


def rectangles(drawn: torch.Tensor, config: AugmentConfig, side: int) -> torch.Tensor:
    """Left, top, width and height of each clip's part of a square of `side` pixels: whole numbers, float [B, 4].

    The area is uniform, and so is the logarithm of the aspect ratio, as in Inception's crops. Large areas allow few
    ratios, so the ratio is drawn only from those that fit the square. Nothing is drawn twice.
    """
    assert config.crop_area is not None
    least, most = config.crop_area
    area = least + (most - least) * drawn[:, AREA]
    widest = torch.clamp(-torch.log(area), max=math.log(config.crop_aspect))  # a rectangle of ratio 1 / area fills it
    half = torch.exp((2 * drawn[:, ASPECT] - 1) * widest / 2)
    width, height = (torch.round(side * area.sqrt() * each).clamp(1, side) for each in (half, 1 / half))
    left = torch.floor(drawn[:, LEFT] * (side - width + 1))
    top = torch.floor(drawn[:, TOP] * (side - height + 1))
    return torch.stack([left, top, width, height], dim=1)


def cut_and_scaled(x: torch.Tensor, parts: torch.Tensor, flips: torch.Tensor, size_pixels: int) -> torch.Tensor:
    """float [B, T, C, D, D] -> [B, T, C, S, S]: each clip's part, bilinear, mirrored where `flips`, bool [B].

    The result is that of a crop and `interpolate(..., mode="bilinear")`: pixels outside the part have no effect.
    """
    left, top, width, height = parts.unbind(dim=1)
    across, down = _places(left, width, size_pixels), _places(top, height, size_pixels)
    across = torch.where(flips[:, None], across.flip(1), across)
    side = x.shape[-1]
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=3)  # [B, S, S, 2]
    made = functional.grid_sample(
        x.flatten(1, 2), (2 * grid + 1) / side - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return made.unflatten(1, x.shape[1:3])


def _places(start: torch.Tensor, width: torch.Tensor, size: int) -> torch.Tensor:
    """The places in the source of `size` pixels that show [start, start + width): float [B, size], in pixels."""
    steps = torch.arange(size, device=start.device) + 0.5
    inside = (steps * (width / size)[:, None] - 0.5).clamp(min=0)
    return start[:, None] + torch.minimum(inside, width[:, None] - 1)


def recolour(x: torch.Tensor, drawn: torch.Tensor, config: AugmentConfig) -> torch.Tensor:
    """float [B, T, 3, H, W], 0 to 255 -> the same in other colours.

    Contrast is relative to the mean luma of the whole clip, so that nothing flickers. Saturation and hue keep luma. So
    one matrix and one offset for each clip are enough, and the order does not matter. Hue rotates the plane of YIQ.
    """
    strengths = _strengths(config.brightness, config.contrast, config.saturation, x.device)
    factors = 1 + (2 * drawn - 1) * strengths
    angle = (2 * drawn[:, HUE] - 1) * (2 * math.pi * config.hue)
    bright, contrast, saturation = (factors[:, k, None, None] for k in (BRIGHTNESS, CONTRAST, SATURATION))
    to_luma, to_chroma, quarter_turn = _matrices(x.device)
    turned = torch.cos(angle)[:, None, None] * to_chroma + torch.sin(angle)[:, None, None] * quarter_turn
    matrix = bright * contrast * (to_luma + saturation * turned)  # [B, 3, 3]
    grey = (x.mean(dim=(1, 3, 4)) @ to_luma[0])[:, None, None]
    offset = bright * (1 - contrast) * grey
    made = torch.matmul(matrix[:, None], x.flatten(3)) + offset[:, None]
    return made.clamp_(0, 255).view(x.shape)


@lru_cache
def _matrices(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three [3, 3]: the luma as grey; the rest; the rest turned by a quarter. Cached, because a copy would wait."""
    luma = torch.tensor(LUMA, dtype=torch.float64)
    to_yiq = torch.stack(
        [luma, torch.tensor([0.5959, -0.2746, -0.3213]).double(), torch.tensor([0.2115, -0.5227, 0.3112]).double()]
    )
    to_rgb = torch.linalg.inv(to_yiq)
    to_luma = luma.expand(3, 3)
    turn = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]]).double()
    made = (to_luma, torch.eye(3).double() - to_luma, to_rgb @ turn @ to_yiq)
    return tuple(each.float().to(device) for each in made)  # type: ignore[return-value]


@lru_cache
def _strengths(brightness: float, contrast: float, saturation: float, device: torch.device) -> torch.Tensor:
    """The strength for each of the numbers drawn, float [9]; 0 where the number is not a factor."""
    strengths = {BRIGHTNESS: brightness, CONTRAST: contrast, SATURATION: saturation}
    return torch.tensor([strengths.get(k, 0.0) for k in range(HUE + 1)], device=device)
