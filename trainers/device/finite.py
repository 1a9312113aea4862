"""Finds weights that hold NaN or infinity. Such weights are neither kept nor started from.

Each tensor is read once, without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from adaptfocus.pipelines.errors import InputError

SHOWN = 3


def not_finite(tree: Any, place: str = "") -> Iterator[str]:
    """The places in a state (nested dicts and lists of tensors on the CPU) that hold a number that is not finite."""
    if isinstance(tree, torch.Tensor):
        if tree.numel() and (tree.is_floating_point() or tree.is_complex()) and not _is_finite(tree):
            yield place
    elif isinstance(tree, Mapping):
        for name, each in tree.items():
            yield from not_finite(each, f"{place}.{name}" if place else str(name))
    elif isinstance(tree, list | tuple):
        for number, each in enumerate(tree):
            yield from not_finite(each, f"{place}.{number}" if place else str(number))


def _is_finite(values: torch.Tensor) -> bool:
    """Whether all values are finite, in one pass without a copy: the minimum or the maximum shows any that is not."""
    if values.is_complex() or values.is_sparse:
        return bool(torch.isfinite(values.to_dense()).all())
    least, most = torch.aminmax(values)
    return math.isfinite(least) and math.isfinite(most)


def list_places(places: Sequence[str]) -> str:
    """The first places by name, and how many more there are."""
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return ", ".join(places[:SHOWN]) + more


def check_weights(state: Any, url: str, fix: str) -> None:
    """Refuse weights that a run cannot start from.

    Raises:
        InputError: a number in them is not finite; the message says where.
    """
    if places := list(not_finite(state)):
        raise InputError(f"{url} holds numbers that are not finite (NaN or infinite) in {list_places(places)}. {fix}")
