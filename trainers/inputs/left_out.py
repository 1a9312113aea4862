"""Dropout and stochastic depth that depend only on the id of each clip and the seed of the run.

What is left out is drawn for each clip (`device/draws.py`) and set on the model as factors: 0, or 1 divided by the
share that stays. `Backbone.forward` and the blocks read the factors while the model trains.

The factors are fixed before the forward pass. So a pass that is repeated for its activations gives the same result, and
a clip loses the same features on any number of workers. Nothing waits for the GPU. docs/decisions/0019 has the reasons.
"""

from __future__ import annotations

import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.device.draws import DROP_PATH, DROPOUT, uniforms


def check(model: nn.Module, dropout: float, drop_path: float) -> None:
    """Check that a backbone has the parts that are to be left out.

    Raises:
        ConfigError: it does not.
    """
    if (dropout or drop_path) and not isinstance(model, Backbone):
        raise ConfigError(f"{type(model).__name__} is not a Backbone; leave dropout and drop_path out")
    if drop_path and isinstance(model, Backbone) and not model.paths():
        raise ConfigError(
            f"drop_path is {drop_path:g}, and {type(model).__name__} has no branches that can be left out here: only "
            "MViT has; leave drop_path out, and use dropout"
        )


def leave_out(model: nn.Module, clip_id: torch.Tensor, seed: int, dropout: float, drop_path: float) -> None:
    """Set what the next forward pass leaves out.

    Args:
        clip_id: int64 [B], the ids of that pass's clips, on the model's device.
        seed: that of the run.
        dropout: share of the features that the head does not see.
        drop_path: share of the clips for which the last block's branches are left out. The share grows in equal steps
            from 0 at the first block (stochastic depth, arXiv 1603.09382).
    """
    assert isinstance(model, Backbone)
    if dropout:
        drawn = uniforms(clip_id, seed, DROPOUT, model.head.in_features)
        model.feature_scale = (drawn >= dropout) / (1 - dropout)
    if drop_path:
        paths = model.paths()
        drawn = uniforms(clip_id, seed, DROP_PATH, 2 * len(paths)).unflatten(1, (len(paths), 2))
        for number, block in enumerate(paths):
            share = drop_path * number / max(len(paths) - 1, 1)
            block.path_scale = (drawn[:, number] >= share) / (1 - share)
