"""What a machine can do at most, and what a step demands of it.

Products of large matrices are timed for the FLOP/s of the device. The operations and the memory of a forward pass are
counted without running it. A multiply-add counts as two FLOPs.
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adaptfocus.trainers.backbones import Backbone


def matrix_flops_per_second(device: torch.device, precision: str, repeats: int = 10) -> float:
    """The best rate of some products of square matrices, of 1024 rows on a CPU and 8192 on a GPU."""
    rows, dtype = (8192 if device.type == "cuda" else 1024), torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(rows, rows, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        _ = left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * rows**3 / best


def step_flops(model: nn.Module, clips: int, frames: int, size: int) -> float:
    """FLOPs of a step: three times those of the forward pass, as usual. Pixels, loss and optimiser are left out.

    torch's own counter counts the backward pass of a depthwise convolution like that of a full one, 50 times too many.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.to("meta")(torch.empty(clips, 3, frames, size, size, device="meta"))
    return 3.0 * counter.get_total_flops()


def held_bytes(model: nn.Module, frames: int, size: int) -> int:
    """Bytes that the graph of one clip holds for the backward pass, without weights; counted on the "meta" device.

    Where activations are recomputed, these are the inputs of each layer, and what lies between layers.
    """
    held: dict[int, torch.UntypedStorage] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage._cdata] = storage
        return tensor

    def hold_inputs(layer: nn.Module, given: tuple) -> None:
        for tensor in given:
            if isinstance(tensor, torch.Tensor):
                hold(tensor)

    model.to("meta")
    for layer in model.layers() if isinstance(model, Backbone) else []:
        layer.register_forward_pre_hook(hold_inputs)
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        model(torch.empty(1, 3, frames, size, size, device="meta"))
    weights = {weight.untyped_storage()._cdata for weight in [*model.parameters(), *model.buffers()]}
    return sum(storage.nbytes() for key, storage in held.items() if key not in weights)
