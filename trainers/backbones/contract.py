"""What every backbone promises.

x is clips, float [B, C, T, H, W], normalised as the InputSpec says. Every backbone has

    input_spec                     InputSpec: how the clip is sampled, sized and normalised
    feature_maps(x) -> float [B, C', T', H', W']   features along time and space, before the head
    forward_features(x) -> float [B, T', C']   features along time, before the head
    pooled(x) -> float [B, C']     what the head reads; the mean over T' unless the family pools otherwise
    forward(x) -> float [B, K]     logits: head(pooled(x))
    head                           the only part whose shape depends on K
    layers()                       the modules that it repeats along its depth

The result must not depend on how a global batch is split over workers (docs/decisions/0017). So no backbone lets one
sample see another, and none draws at random. What dropout and stochastic depth leave out of each clip is set from
outside (`left_out.py`), and only has an effect in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.backbones.specs import InputSpec


class Backbone(nn.Module):
    """The part of the contract that is the same for all families."""

    input_spec: InputSpec
    head: nn.Linear
    key_styles: tuple[Any, ...] = ()  # the names that its public weights have (key_styles.py)
    # Beginnings of the names of weights that no public file has, besides the head's. They stay new where a file lacks
    # them, and are trained where the rest is frozen.
    fresh: tuple[str, ...] = ()
    # Names of weights for places and times. Weight decay would pull them to zero for no gain.
    embeddings: tuple[str, ...] = ()
    # Whether norms, biases and `embeddings` are decayed like all other weights.
    decays_all = False
    # Batch norms use the statistics of their weights file, in training as well.
    freezes_batch_norm = True
    # Factors on the pooled features of this pass, float [B, C]: 0 leaves a feature out. None: nothing is left out.
    feature_scale: torch.Tensor | None = None
    # The classes of the modules that the family repeats along its depth.
    layer_kinds: tuple[type[nn.Module], ...] = ()

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, C', T', H', W']; `forward_features` reduces them over space.

        Raises:
            ConfigError: the family has no such maps.
        """
        raise ConfigError(f"{type(self).__name__} has no maps over space; extract its pooled features")

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T', C']."""
        raise NotImplementedError

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> what the head reads, float [B, C']."""
        return self.forward_features(x).mean(dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> logits float [B, K]."""
        seen = self.pooled(x)
        if self.training and self.feature_scale is not None:
            seen = seen * self.feature_scale.to(seen.dtype)
        return self.head(seen)

    def paths(self) -> list[Any]:
        """The blocks, in order, whose two residual branches may be left out (`path_scale`, float [B, 2])."""
        return []

    def train(self, mode: bool = True) -> Backbone:
        """Like `nn.Module.train`, but frozen batch norms stay as they are; their scale and shift are trained."""
        super().train(mode)
        if self.freezes_batch_norm:
            for module in batch_norms(self):
                module.eval()
        return self

    def first_convolutions(self) -> list[nn.Conv3d]:
        """The 3D convolutions that see pixels; an empty list where these are not plain 3D convolutions."""
        found = next((m for m in self.modules() if isinstance(m, nn.Conv3d)), None)
        return [found] if found is not None and found.groups == 1 else []

    def layers(self) -> list[nn.Module]:
        """The modules that the backbone repeats along its depth; none lies inside another.

        They are the units in which activations are recomputed, and weights are sharded among ranks.
        """
        return [module for module in self.modules() if isinstance(module, self.layer_kinds)]

    def optional_weights(self) -> tuple[str, ...]:
        """Names in `state_dict` of weights that some upstream projects have in this family, and others do not."""
        return ()

    def take_form(self, shapes: Mapping[str, torch.Size]) -> None:
        """Take the form that weights of these names and shapes need: upstreams build some families in two forms.

        Parts whose shape changes are fresh afterwards, so call this before weights are loaded, and before an optimiser
        is made. Names that say nothing about the form change nothing.
        """

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Like `nn.Module.load_state_dict`, after taking the form that the weights need."""
        self.take_form({name: value.shape for name, value in state_dict.items() if isinstance(value, torch.Tensor)})
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def fitted(self, name: str, value: torch.Tensor, wanted: torch.Size) -> torch.Tensor:
        """A pre-trained weight changed to the wanted shape, where the family knows how (positions along time)."""
        return value


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """All batch norms of a model. If they were not frozen, one sample would see another."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def freeze(model: nn.Module) -> nn.Module:
    """Stop training, in place, all weights that public weights have: all but the head and what else is `fresh`."""
    trained = ("head.", *getattr(model, "fresh", ()))
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(trained))
    return model


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """A model's weights in groups for the optimiser: first those that are decayed, then those that are not.

    Norms, biases and positions are not decayed, as in the recipes of the families. `small3d` decays all weights, and so
    has one group. Every weight that needs a gradient is in exactly one group.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if getattr(model, "decays_all", True):
        return [{"params": [p for _, p in named], "weight_decay": weight_decay}]
    embeddings = getattr(model, "embeddings", ())
    free = {name for name, p in named if p.ndim <= 1 or name.endswith(tuple(embeddings) or ("\0",))}
    groups = [
        {"params": [p for name, p in named if name not in free], "weight_decay": weight_decay},
        {"params": [p for name, p in named if name in free], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
