"""How much a video deserves to be seen again: the scores of `plan.priority`, from saliency and ledger.

A score is a number of at least 0. A video that was never trained counts as 1, whatever the score.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.columns import ListColumn
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import NEVER_VISITED

BUILT_IN = ("stale", "unsure", "rare")
MOST = 1000.0  # larger scores count as this


@dataclass(frozen=True)
class Seen:
    """What is known of V videos after an epoch, for scores that a user writes."""

    video_row: np.ndarray  # [V] int64, ascending
    labels: ListColumn  # ascending label ids of each
    saliency: SaliencyTable  # of their pairs
    ledger: pa.Table  # LEDGER_SCHEMA: bags of these videos that the epoch trained
    rarity: np.ndarray  # [C]: the number of videos of the rarest class over that of each; 0 for a class without any


def scores_of(priority: str, seen: Seen) -> np.ndarray:
    """The score of each video, float64 [V], for a priority other than `stale`.

    Args:
        priority: `unsure`, `rare`, or "package.module:function" of a function that takes `Seen`.

    Raises:
        ConfigError: the function cannot be imported, or gives something else than V numbers of at least 0.
    """
    if priority == "unsure":
        return unsure(seen)
    if priority == "rare":
        return rare(seen)
    found = np.asarray(function_at(priority)(seen), np.float64)
    if found.shape != seen.video_row.shape or not np.isfinite(found).all() or (found < 0).any():
        raise ConfigError(
            f"plan.priority={priority} gave {found.ravel()[:3].tolist()} ... of shape {list(found.shape)} for "
            f"{len(seen.video_row)} videos; it must give one finite number of at least 0 for each"
        )
    return np.minimum(found, MOST)


def function_at(
    path: str, setting: str = "plan.priority", others: Sequence[str] = BUILT_IN
) -> Callable[[Any], np.ndarray]:
    """The function at "package.module:function".

    Args:
        setting: that names it, and `others`: what it may be instead; both only for messages.

    Raises:
        ConfigError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), name) if module and name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{setting}={path} cannot be imported ({error}); every process must find it") from None
    if not callable(function):
        raise ConfigError(
            f"{setting}={path} is none of {', '.join(others)} and no function; give package.module:function"
        )
    return cast("Callable[[Any], np.ndarray]", function)


def unsure(seen: Seen) -> np.ndarray:
    """The mean of 4 p (1 - p) over the visited bins of the video's actions; 0 for a video without actions."""
    bins = seen.saliency.bins
    visited = bins.epoch.numpy() != NEVER_VISITED
    p = bins.score.numpy().astype(np.float64)
    of_pair = (4 * p * (1 - p) * visited).sum(axis=1)
    video = np.searchsorted(seen.video_row, seen.saliency.video_row)
    count = len(seen.video_row)
    sums = np.bincount(video, of_pair, count)
    return sums / np.maximum(np.bincount(video, visited.sum(axis=1), count), 1)


def rare(seen: Seen) -> np.ndarray:
    """How rare the rarest of the video's classes is: 1 for the rarest of the corpus; 0 for a video without labels."""
    found = np.zeros(len(seen.video_row))
    some = np.flatnonzero(seen.labels.lengths)
    if len(some):
        found[some] = np.maximum.reduceat(seen.rarity[seen.labels.values], seen.labels.begins[some])
    return found


def rarity_of(videos_of_label: np.ndarray) -> np.ndarray:
    """`Seen.rarity` from the number of videos of each class, float64 [C]."""
    counts = np.asarray(videos_of_label, np.float64)
    some = counts[counts > 0]
    return np.divide(some.min() if len(some) else 0.0, counts, out=np.zeros(len(counts)), where=counts > 0)
