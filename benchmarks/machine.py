"""What a machine can do at most, and what a step asks of it.

Input: a device and a precision; a backbone and its clips.
Does: times products of large matrices; counts the operations of a forward pass, without doing them.
Output: FLOP/s and FLOPs, a multiply-add being two.
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def matrix_flops_per_second(device: torch.device, precision: str, repeats: int = 10) -> float:
    """The best of some products of square matrices, of 1024 rows on a CPU and 8192 on a GPU."""
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
    """Three times those of the forward pass, as usual; pixels, loss and optimiser are left out.

    torch's counter takes the backward pass of a depthwise convolution for that of a full one, 50 times too much.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.to("meta")(torch.empty(clips, 3, frames, size, size, device="meta"))
    return 3.0 * counter.get_total_flops()
