"""Dropout and stochastic depth whose draws are those of a clip's id.

Input: a backbone, the ids of the clips that it is about to see.
Does: draws what is left out for each clip (`device/draws.py`) and sets it on the model as factors: 0, or 1 over the
share that stays.
Output: none; `Backbone.forward` and the blocks read the factors while the model trains.

Factors are values, not draws inside a layer: a forward pass that is repeated for its activations gives the same, and a
clip loses the same on every number of workers. Nothing is waited for. docs/decisions/0019 has the reasons.
"""

from __future__ import annotations

import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.device.draws import DROP_PATH, DROPOUT, uniforms


def check(model: nn.Module, dropout: float, drop_path: float) -> None:
    """Whether a backbone has what is to be left out.

    Raises:
        ConfigError: it has not.
    """
    if (dropout or drop_path) and not isinstance(model, Backbone):
        raise ConfigError(f"{type(model).__name__} is no backbone of the contract; leave dropout and drop_path out")
    if drop_path and isinstance(model, Backbone) and not model.paths():
        raise ConfigError(
            f"drop_path is {drop_path:g}, and {type(model).__name__} has no branches that can be left out here: only "
            "MViT has; leave drop_path out, and use dropout"
        )


def leave_out(model: nn.Module, clip_id: torch.Tensor, seed: int, dropout: float, drop_path: float) -> None:
    """Set what the next forward pass leaves out.

    Args:
        clip_id: int64 [B], of that pass's clips, on the model's device.
        seed: the run's.
        dropout: share of the features that the head does not see.
        drop_path: share of the clips for which the last block's branches are left out; from the first block on it
            grows from 0 in equal steps (stochastic depth, arXiv 1603.09382).
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
