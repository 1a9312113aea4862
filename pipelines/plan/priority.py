"""Which videos get the share of an epoch that goes by priority (`plan.priority_share`).

Two stages of systematic sampling: partitions in proportion to the sums of their videos' weights, then videos of each in
proportion to their own. The expected number of bags of a video is exactly its share of all weights, and only the chosen
partitions are read. Weights are integers, so that sums are the same in any order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from adaptfocus.pipelines.plan.order import hashes

BAGS_PER_PARTITION = 4096  # that one chosen partition gets at least, so that few are read; with at least 8 partitions
LEAST_PARTITIONS = 8
FIRST_OCCURRENCE = 1 << 16  # of bags drawn by priority: those of passes count from 0


def ticks_and_bags(wanted: int, partitions: int) -> tuple[int, int]:
    """How often a partition is chosen, and the number of bags of each time; their product is at most `wanted`.

    Each time has the same number of bags, or videos of some partitions would be drawn more often than others.
    """
    most = min(max(-(-wanted // BAGS_PER_PARTITION), LEAST_PARTITIONS), partitions, wanted)
    if not most:
        return 0, 0
    ticks = max(range(most // 2 + 1, most + 1), key=lambda each: (wanted // each * each, each))
    return ticks, wanted // ticks


def pick_partitions(weights: Mapping[int, int], ticks: int, seed: int, epoch: int) -> dict[int, int]:
    """uid -> how often a partition is chosen, of those that are. The expectation is in proportion to `weights`.

    Args:
        weights: uid -> the sum of the weights of the partition's videos.
    """
    uids = sorted(weights)
    prefix = f"{seed}/{epoch}/priority"
    order = np.argsort(hashes(f"{prefix}/partition", [str(uid) for uid in uids]), kind="stable").tolist()
    ordered = [uids[place] for place in order]
    return _systematic(ordered, [weights[uid] for uid in ordered], ticks, _uniform(f"{prefix}/offset", ""))


def pick_rows(
    video_ids: Sequence[str], rows: Sequence[int], weights: Sequence[int], bags: int, seed: int, epoch: int, uid: int
) -> list[tuple[int, int]]:
    """The bags of a chosen partition: (row, copy) in the epoch's order. The expectation is in proportion to `weights`.

    Args:
        video_ids, rows, weights: of the partition's usable videos. If all weights are 0, they count as equal.
    """
    prefix = f"{seed}/{epoch}/priority/{uid}"
    order = np.argsort(hashes(f"{prefix}/video", video_ids), kind="stable").tolist()
    chosen = [weights[place] for place in order] if any(weights) else [1] * len(order)
    copies = _systematic([*range(len(order))], chosen, bags, _uniform(f"{prefix}/offset", ""))
    names = {rows[order[at]]: video_ids[order[at]] for at in copies}
    drawn = [(rows[order[at]], copy) for at, count in copies.items() for copy in range(count)]
    keys = hashes(f"{prefix}/order", [f"{copy}/{names[row]}" for row, copy in drawn])
    return [drawn[at] for at in np.argsort(keys, kind="stable").tolist()]


def mix(first: Sequence[tuple[int, int]], second: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Both lists in their orders, the second spread evenly over the first."""
    places = [(at + 0.5) / len(first) for at in range(len(first))] + [at / len(second) for at in range(len(second))]
    both = [*first, *second]
    return [both[at] for at in np.argsort(np.array(places), kind="stable").tolist()]


def _systematic(names: Sequence[int], weights: Sequence[int], draws: int, offset: float) -> dict[int, int]:
    """name -> its number of draws: those of the ticks (k + offset) / draws that fall into its share of all weights."""
    total = sum(weights)
    if not total or not draws:
        return {}
    found: Counter[int] = Counter()
    begin, tick = 0, 0
    for name, weight in zip(names, weights, strict=True):
        begin += weight
        # Ticks below the end of the share: integers are exact at any size.
        end = min(max(math.ceil(begin * draws / total - offset), tick), draws) if begin < total else draws
        if end > tick:
            found[name] = end - tick
        tick = end
    return dict(found)


def _uniform(prefix: str, name: str) -> float:
    """A number in [0, 1) that is drawn by a hash."""
    return float(hashes(prefix, [name])[0] >> np.uint64(11)) / 2**53
