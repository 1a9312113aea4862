"""What a backbone sees: the clip as it is, changed at random, or without its static picture.

This normalises decoded frames, takes differences, applies the random draws of each clip, and widens or constrains the
backbone's first convolution.

None of this is part of AdaptFocus. From scratch, a still background is the easiest thing to learn of a weakly labelled
video, and the wrong one. An input without it lets saliency start (docs/results.md). Actions that differ in looks and
not in movement get worse scores with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.backbones import Backbone, build, input_spec_of, normalise
from adaptfocus.trainers.inputs.augment import augment_clips
from adaptfocus.trainers.inputs.left_out import leave_out
from adaptfocus.trainers.settings.parts import InputConfig

if TYPE_CHECKING:
    from adaptfocus.trainers.settings.run import TrainConfig


DIFFERENCE_GAIN = 2.0  # differences are about half as large as normalised pixels


def adapt_backbone(model: nn.Module, config: InputConfig) -> nn.Module:
    """Change a backbone for the input, in place. Its pre-trained weights stay, and added ones start from them.

    Raises:
        ConfigError: the backbone has no 3D convolution to adapt, or none that spans time.
    """
    if config.motion == "rgb_and_difference":
        for convolution in _first_convolutions(model, config):
            _widen(convolution)
    after_step(model, config)
    return model


def build_adapted(name: str, num_classes: int, config: InputConfig) -> nn.Module:
    """A fresh backbone in the shape that `adapt_backbone` gives, for weights that a run has saved."""
    return adapt_backbone(build(name, num_classes), config)


@torch.no_grad()
def after_step(model: nn.Module, config: InputConfig) -> None:
    """Impose the constraint of `zero_mean_kernels` again, because training would undo it."""
    if config.motion == "zero_mean_kernels":
        for convolution in _first_convolutions(model, config):
            convolution.weight -= convolution.weight.mean(dim=2, keepdim=True)


def apply_draws(frames: torch.Tensor, model: nn.Module, config: TrainConfig, clip_id: torch.Tensor) -> torch.Tensor:
    """Apply the random draws of each clip: `augment` changes its frames, and the model is told what to leave out.

    Call it before each forward pass in training if `config.draws_by_clip`.

    Args:
        frames: uint8 [B, T, 3, D, D] (or planes of YUV), of `config.decode_size_pixels`.
        clip_id: int64 [B], on the same device.

    Returns:
        Frames for `to_model_input`: float [B, T, 3, S, S], 0 to 255, or as they came where `augment` is off.
    """
    if config.dropout or config.drop_path:
        leave_out(model, clip_id, config.seed, config.dropout, config.drop_path)
    if config.augment.on:
        return augment_clips(frames, clip_id, config.augment, config.clip.size_pixels, config.seed)
    return frames


def to_model_input(
    frames: torch.Tensor, model: nn.Module, config: InputConfig, clip_id: torch.Tensor | None = None
) -> torch.Tensor:
    """Clips -> float [B, C, T, S, S] as the backbone wants them, on the same device.

    Args:
        frames: uint8 [B, T, 3, S, S] (or planes of YUV), or the result of `apply_draws`; as `normalise` takes them.
        clip_id: int64 [B], only in training. It decides which clips are faded, so that the choice does not depend on
            how a batch is split over workers.
    """
    x = normalise(frames, input_spec_of(model))
    if config.fade_background and clip_id is not None:
        x = _faded(x, choose_share(clip_id, config.fade_background))
    if config.motion == "difference":
        return DIFFERENCE_GAIN * _moving(x)
    if config.motion == "rgb_and_difference":
        return torch.cat([x, DIFFERENCE_GAIN * _moving(x)], dim=1)
    return x


def choose_share(clip_id: torch.Tensor, share: float) -> torch.Tensor:
    """Choose a random share of clips: bool [B]. The choice for a clip only depends on its id."""
    mixed = clip_id * -7046029254386353131  # 0x9E3779B97F4A7C15, of splitmix64; products wrap around
    mixed = (mixed ^ ((mixed >> 29) & 0x7FFFFFFFF)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    return ((mixed >> 33) & 0x3FFFFFFF).double() < share * (1 << 30)


def _moving(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(dim=2, keepdim=True)


def _faded(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Replace the static picture of some clips by its mean colour, in place."""
    still = x.mean(dim=2, keepdim=True)
    colour = still.mean(dim=(3, 4), keepdim=True)
    return x.sub_(which[:, None, None, None, None] * (still - colour))


def _widen(convolution: nn.Conv3d) -> None:
    """Double the input channels. The second half starts as the first minus its mean over time, at half the size.

    A kernel of one frame equals its mean, so its second half starts at zero.
    """
    old = convolution.weight.detach()
    added = (old - old.mean(dim=2, keepdim=True)) / DIFFERENCE_GAIN
    convolution.weight = nn.Parameter(torch.cat([old, added], dim=1))
    convolution.in_channels *= 2


def _first_convolutions(model: nn.Module, config: InputConfig) -> list[nn.Conv3d]:
    found = model.first_convolutions() if isinstance(model, Backbone) else []
    if not found:
        raise ConfigError(
            f"input.motion={config.motion} changes a backbone's first 3D convolution, and {type(model).__name__} has "
            "none; use rgb or difference"
        )
    if config.motion == "zero_mean_kernels" and any(each.kernel_size[0] == 1 for each in found):
        raise ConfigError(
            f"input.motion=zero_mean_kernels needs a first convolution that spans time, and one of "
            f"{type(model).__name__} sees single frames: minus its mean it would be zero. Use rgb or difference"
        )
    return found
