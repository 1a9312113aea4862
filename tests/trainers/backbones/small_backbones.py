"""Each backbone at a size that takes under two seconds of a core: the same code with smaller clips or fewer layers.

Convolutional ones are complete, on small pictures. Transformers of the library have two narrow layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from adaptfocus.trainers.backbones import BACKBONES, MAKERS

NAMES = tuple(BACKBONES)
TINY: dict[str, dict[str, Any]] = {
    **{name: {"width": 8} for name in BACKBONES if name.startswith("mvit")},
    **{name: {"width": 16} for name in ("i3d_r50", "nonlocal_i3d_r50", "slowfast_r50")},
    **{name: {"depths": (1, 2, 2, 1)} for name in ("x3d_s", "x3d_m", "x3d_l")},
    "videomae_b": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96},
    "timesformer_b": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96},
    "efficientnet_lite0": {"width_coefficient": 0.25, "depth_coefficient": 0.3},
    "vjepa2_l": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
}
SHAPE = {
    "small3d": (8, 20),
    "r2plus1d_tiny": (8, 24),
    "slowfast_r50": (8, 32),
}  # frames and pixels; the others take 4 and 32


def needs_library(name: str) -> None:
    """Skip where the backbone's library is not installed; CI has it, and forbids skipping."""
    if not BACKBONES[name].installed:
        pytest.skip(f"not installed: {BACKBONES[name].extra} (pip install 'adaptfocus[{BACKBONES[name].extra}]')")


def small(name: str, num_classes: int = 5, fresh: bool = False) -> nn.Module:
    """A small backbone by name, ready to train. Unless `fresh`, its weights are shaken so that every layer matters."""
    needs_library(name)
    entry, (frames, size) = BACKBONES[name], SHAPE.get(name, (4, 32))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MAKERS[name].make(
            num_classes, spec=replace(entry.spec, frames=frames, size_pixels=size), **TINY.get(name, {})
        )
        model.key_styles = MAKERS[name].styles
        return (model if fresh else shaken(model)).train()


def clips_for(model: nn.Module, count: int = 2, seed: int = 0) -> torch.Tensor:
    """Clips as the backbone wants them, float [count, 3, T, S, S]."""
    spec = model.input_spec
    shape = (count, 3, spec.frames, spec.size_pixels, spec.size_pixels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """Move norms and positions away from their first values: statistics are neither 0 nor 1, and no branch is zero."""
    generator = torch.Generator().manual_seed(1)

    def noise(value: torch.Tensor, scale: float) -> torch.Tensor:
        return scale * torch.randn(value.shape, generator=generator)

    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(0.75 + 0.5 * torch.rand(value.shape, generator=generator))
        elif name.endswith("running_mean") or name.endswith("bias"):
            value.copy_(noise(value, 0.1))
        elif value.is_floating_point() and value.ndim == 1:
            value.copy_(0.7 + noise(value, 0.1))
        elif value.is_floating_point() and not value.any():
            value.copy_(noise(value, 0.05))
        elif name.endswith(tuple(getattr(model, "embeddings", ())) or ("\0",)):
            value.copy_(noise(value, 0.02))
    return model
