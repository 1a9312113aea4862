"""Of which index each slot of an epoch is, if a run is trained on several (`mixture`).

Every global batch has its share of each index, as near as whole bags allow: the slots of an index are spread evenly,
and then put in a drawn order inside each batch. Everything here is a pure function of weights, seed and epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from adaptfocus.pipelines.plan.order import hashes

# Of which a window of a mixture has at least so many, unless the epoch ends: a small index may have many short windows.
LEAST_BAGS = 8192


def sources_of_slots(weights: Sequence[float], bags: int, bags_per_batch: int, seed: int, epoch: int) -> np.ndarray:
    """The number of the index of each slot of an epoch, uint8 [bags].

    Up to any slot t, an index with the share p of all weights has p t slots, give or take one; inside a batch, give or
    take a batch more.

    Args:
        weights: of each index, at least 0 and not all 0.
        bags: a multiple of `bags_per_batch`.
    """
    total = math.fsum(weights)
    counts = [math.ceil(bags * each / total) + 1 if each else 0 for each in weights]
    number = np.repeat(np.arange(len(weights), dtype=np.uint8), counts)
    # Slot j of an index with weight w would be the best at (j + 1/2) / w.
    at = np.concatenate([(np.arange(n) + 0.5) / (each or 1.0) for n, each in zip(counts, weights, strict=True)])
    even = number[np.lexsort((number, at))[:bags]]
    keys = hashes(f"{seed}/{epoch}/mixture", [str(slot) for slot in range(bags)])
    order = np.lexsort((keys, np.arange(bags) // bags_per_batch))
    return even[order]


def cut_windows(ends: Sequence[int], slots: np.ndarray, bags: int) -> list[int]:
    """Where the windows of a mixture end: at ends of windows of the index that has the most bags.

    Args:
        ends: of the windows of that index, counted in its own bags; the last is all of them.
        slots: int64, the slots of that index, ascending.
        bags: of the epoch.

    Returns:
        Slots, ascending; the last is `bags`.
    """
    found = [0]
    for end in ends[:-1]:
        slot = int(slots[end])
        if slot - found[-1] >= LEAST_BAGS and bags - slot >= LEAST_BAGS:
            found.append(slot)
    return [*found[1:], bags]
