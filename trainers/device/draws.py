"""Random numbers of a clip: functions of its id and the run's seed, never of worker, order or time.

The ids are hashed on their device, with the same result on every device. So a run draws the same for a clip however a
global batch is split, wherever the run is resumed, and where a forward pass is repeated to save memory. No generator
has a state that a checkpoint would have to hold.
"""

from __future__ import annotations

import torch

# The kinds of draws. Numbers of different kinds are independent of each other.
AUGMENT, DROPOUT, DROP_PATH, ORDER = 1, 2, 3, 4

_GOLDEN = 0x9E3779B97F4A7C15  # the constants of splitmix64, whose last step `_mixed` is
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PLACE = 0xD1342543DE82EF95  # not the golden one, or the second number of a clip would be the first of the next
_BITS = 24  # what a float32 in [0, 1) can hold


def uniforms(clip_id: torch.Tensor, seed: int, kind: int, count: int) -> torch.Tensor:
    """`count` numbers for each clip, float32 [B, count] in [0, 1), on the device of `clip_id`, without waiting for it.

    Args:
        clip_id: int64 [B].
        seed: that of the run.
        kind: AUGMENT, DROPOUT, DROP_PATH or ORDER.
    """
    key = _signed(_mixed_int(seed * _GOLDEN + kind))
    places = torch.arange(count, device=clip_id.device) * _signed(_PLACE)
    mixed = _mixed(clip_id[:, None] * _signed(_GOLDEN) + places + key)
    return ((mixed >> (64 - _BITS)) & ((1 << _BITS) - 1)).float() / (1 << _BITS)


def _mixed(x: torch.Tensor) -> torch.Tensor:
    """The finaliser of splitmix64. Products wrap around, and shifts bring in zeros."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(_FIRST)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(_SECOND)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _mixed_int(x: int) -> int:
    """The same for one number, in Python's integers."""
    x &= (1 << 64) - 1
    x = (x ^ (x >> 30)) * _FIRST & ((1 << 64) - 1)
    x = (x ^ (x >> 27)) * _SECOND & ((1 << 64) - 1)
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    """The int64 with the same 64 bits."""
    return x - (1 << 64) if x >= 1 << 63 else x
