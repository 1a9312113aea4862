"""One model on several ranks: each rank holds all of it (DDP), or a part of every weight (FSDP2).

The state that is saved is the same in both cases: whole tensors, whatever the number of ranks that wrote them.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adaptfocus.trainers.backbones import Backbone
from adaptfocus.trainers.device.transfer import Leaving

# Keys of an optimiser's groups that say how it computes. They are this run's own, whatever a saved state says.
_HOW = ("fused", "foreach", "capturable")
# These take 0.6 s to import, in every process of a run. If they are not loaded, nothing is sharded.
_FSDP, _PARTS = "torch.distributed.fsdp", "torch.distributed.tensor"


def wrap_model(model: nn.Module, sharding: str, device: torch.device, workers: int) -> nn.Module:
    """The model in the form that a group of ranks trains: gradients are averaged. `fsdp2` replaces weights by parts.

    Batch norms are frozen, so buffers are the same on all ranks, and none are sent.
    """
    if workers == 1:
        return model
    if sharding == "ddp":
        trained = DistributedDataParallel(model, gradient_as_bucket_view=True)
        trained.broadcast_buffers = False  # as an argument it warns in torch 2.13; torch 2.10 lacks its successor
        return trained
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (workers,))
    for block in model.layers() if isinstance(model, Backbone) else []:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def add_up_last(trained: nn.Module, last: bool) -> contextlib.AbstractContextManager:
    """For one of several forward and backward passes before a step: ranks add up gradients only in the last one."""
    fsdp = sys.modules.get(_FSDP)
    if fsdp and isinstance(trained, fsdp.FSDPModule):
        fsdp.FSDPModule.set_requires_gradient_sync(trained, last)
    elif isinstance(trained, DistributedDataParallel) and not last:
        return trained.no_sync()
    return contextlib.nullcontext()


def state_on_rank_zero(
    model: nn.Module, optimiser: torch.optim.Optimizer, rank: int, leaving: Leaving
) -> dict[str, Any]:
    """Whole copies of the weights ("model") and the optimiser's state ("optimiser") on rank 0's CPU; {} on other ranks.

    The copies are complete after `leaving.wait()`. Every rank must call this at the same time. If ranks hold parts, one
    tensor at a time is put together, and ranks other than 0 free it before the next.
    `torch.distributed.checkpoint.state_dict` does that too, but it waits for a GPU's copies, does not copy tensors that
    are on the CPU already, and names an optimiser's moments differently from the states on disk.
    """
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    if rank == 0:
        return on_cpu(state, leaving)
    _map_tensors(_put_together, state)
    return {}


def on_cpu(value: Any, leaving: Leaving) -> Any:
    """A copy of a state that shares no memory with it: whole tensors on the CPU, complete after `leaving.wait()`.

    A GPU makes the copies before its next step, while the host continues.
    """
    return _map_tensors(partial(_copied, leaving), value)


def _copied(leaving: Leaving, tensor: torch.Tensor) -> torch.Tensor:
    full = _whole(tensor.detach())
    return full.clone() if full.device.type == "cpu" else leaving.take(full)


def _put_together(tensor: torch.Tensor) -> None:
    """Do this rank's part in making a tensor whole for another rank."""
    _whole(tensor)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor, on every rank, if ranks hold parts of it. Every rank must call this at the same time."""
    return tensor.full_tensor() if _is_part(tensor) else tensor  # type: ignore[attr-defined]


def _is_part(tensor: torch.Tensor) -> bool:
    """Whether a rank holds only a part of this tensor."""
    parts = sys.modules.get(_PARTS)
    return bool(parts and isinstance(tensor, parts.DTensor))


def _map_tensors(make: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """A state (nested dicts and lists) with `make` of each of its tensors, in the same order on every rank."""
    if isinstance(value, torch.Tensor):
        return make(value)
    if isinstance(value, dict):
        made = copy.copy(value)  # a state_dict has attributes of its own
        made.update({key: _map_tensors(make, each) for key, each in value.items()})
        return made
    if isinstance(value, list | tuple):
        return type(value)(_map_tensors(make, each) for each in value)
    return value


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimiser's state from whole tensors. Each moment gets the memory layout and the part of its weight.

    A kernel over all weights reads memory in its own order. Values of a moment that lies in another order than its
    weight (`step.channels_last`) would be used for the wrong weights, without any error.
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
    if _is_part(weight):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)  # type: ignore[attr-defined]
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)
