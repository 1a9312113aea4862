"""One model on several ranks: each has all of it (DDP), or a part of every weight (FSDP2); its state is the same.

Input: a model, and how its ranks share it.
Does: wraps it; tells it when gradients are added up; makes whole tensors of parts, and parts of whole ones.
Output: a module to call, and states that do not know how many ranks wrote them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from adaptfocus.trainers.backbones import Backbone

# What of an optimiser's groups says how it computes: this run's own, whatever a state was written with.
_HOW = ("fused", "foreach", "capturable")


def wrap_model(model: nn.Module, sharding: str, device: torch.device, workers: int) -> nn.Module:
    """The model as a group of ranks trains it, gradients averaged. With `fsdp2` its weights are replaced by parts.

    Batch norms are frozen, so no rank's buffers differ from another's, and none are sent.
    """
    if workers == 1:
        return model
    if sharding == "ddp":
        trained = DistributedDataParallel(model, gradient_as_bucket_view=True)
        trained.broadcast_buffers = False  # as an argument it warns in torch 2.13, and its successor is not in 2.10
        return trained
    mesh = init_device_mesh(device.type, (workers,))
    for block in model.layers() if isinstance(model, Backbone) else []:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def add_up_last(trained: nn.Module, last: bool) -> contextlib.AbstractContextManager:
    """For a forward and backward pass of several before a step: ranks add up gradients in the last one alone."""
    if isinstance(trained, FSDPModule):
        trained.set_requires_gradient_sync(last)
    elif isinstance(trained, DistributedDataParallel) and not last:
        return trained.no_sync()
    return contextlib.nullcontext()


def is_sharded(model: nn.Module) -> bool:
    """Whether this rank has only a part of the weights: then every rank must take part in making a state."""
    return isinstance(model, FSDPModule)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor of which ranks hold parts, on each of them. Every rank asks at once."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a whole optimiser's state, whoever wrote it: each moment in the layout and the part that its weight has.

    A kernel over all weights reads memory in its order: a moment that lies in another order than its weight
    (`step.channels_last`) would be taken for another's, and nothing would say so.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    groups = [
        saved | {how: own[how] for how in _HOW}
        for saved, own in zip(state["param_groups"], optimiser.param_groups, strict=True)
    ]
    moments = {
        at: {name: _as_weight(value, weights[at]) for name, value in values.items()}
        for at, values in state["state"].items()
    }
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _as_weight(value: Any, weight: torch.Tensor) -> Any:
    if not isinstance(value, torch.Tensor) or value.shape != weight.shape:
        return value
    if isinstance(weight, DTensor):
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)
