"""Random numbers of a clip: functions of its id and the run's seed, never of worker, order or time.

Input: ids of clips. Does: hashes them, on their device. Output: uniform numbers, the same on every device.

So a run draws the same for a clip however a global batch is split, wherever it is resumed, and again where a forward
pass is repeated to save memory. No generator has a state that a checkpoint would have to hold.
"""

from __future__ import annotations

import torch

# What is drawn: numbers of different kinds have nothing to do with each other.
AUGMENT, DROPOUT, DROP_PATH, ORDER = 1, 2, 3, 4

_GOLDEN = 0x9E3779B97F4A7C15  # the constants of splitmix64, whose last step `_mixed` is
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PLACE = 0xD1342543DE82EF95  # apart from the golden one: the second number of a clip is not the first of the next
_BITS = 24  # what a float32 in [0, 1) can hold


def uniforms(clip_id: torch.Tensor, seed: int, kind: int, count: int) -> torch.Tensor:
    """`count` numbers for each clip, float32 [B, count] in [0, 1), on the device of `clip_id`, which is not waited for.

    Args:
        clip_id: int64 [B].
        seed: the run's.
        kind: AUGMENT, DROPOUT, DROP_PATH or ORDER.
    """
    key = _signed(_mixed_int(seed * _GOLDEN + kind))
    places = torch.arange(count, device=clip_id.device) * _signed(_PLACE)
    mixed = _mixed(clip_id[:, None] * _signed(_GOLDEN) + places + key)
    return ((mixed >> (64 - _BITS)) & ((1 << _BITS) - 1)).float() / (1 << _BITS)


def _mixed(x: torch.Tensor) -> torch.Tensor:
    """splitmix64's finaliser; products wrap around, and the shifts bring in zeros."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(_FIRST)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(_SECOND)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _mixed_int(x: int) -> int:
    """The same of one number, in Python's integers."""
    x &= (1 << 64) - 1
    x = (x ^ (x >> 30)) * _FIRST & ((1 << 64) - 1)
    x = (x ^ (x >> 27)) * _SECOND & ((1 << 64) - 1)
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    """The int64 of the same 64 bits."""
    return x - (1 << 64) if x >= 1 << 63 else x
