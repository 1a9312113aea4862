"""Draws by priority: in proportion to weights, whatever the partitions."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.plan.priority import mix, pick_partitions, pick_rows, ticks_and_bags

EPOCHS, WANTED = 400, 60


def drawn(weights: dict[int, list[int]], wanted: int, epoch: int) -> Counter[tuple[int, int]]:
    """(uid, place) -> bags of an epoch."""
    ticks, bags = ticks_and_bags(wanted, len(weights))
    found: Counter[tuple[int, int]] = Counter()
    for uid, times in pick_partitions({uid: sum(own) for uid, own in weights.items()}, ticks, 5, epoch).items():
        ids = [f"video-{uid}-{place}" for place in range(len(weights[uid]))]
        rows = pick_rows(ids, range(len(ids)), weights[uid], times * bags, 5, epoch, uid)
        found.update((uid, row) for row, _ in rows)
        assert len(set(rows)) == len(rows) == times * bags
    return found


def test_inclusion_is_in_proportion_to_the_weight() -> None:
    """Partitions of 1 to 30 videos, weights from 0 to a tenth of all; the mean of 400 epochs within 4 sigma."""
    generator = np.random.default_rng(0)
    weights = {
        uid: generator.integers(0, 1000, size=n).tolist() for uid, n in enumerate([1, 3, 30, 8, 2, 17, 25, 9, 6, 12])
    }
    weights[2][4] = 9000
    counts: Counter[tuple[int, int]] = Counter()
    squares: Counter[tuple[int, int]] = Counter()
    for epoch in range(EPOCHS):
        found = drawn(weights, WANTED, epoch)
        assert sum(found.values()) == ticks_and_bags(WANTED, len(weights))[0] * ticks_and_bags(WANTED, len(weights))[1]
        counts.update(found)
        squares.update({key: n * n for key, n in found.items()})
    total = sum(map(sum, weights.values()))
    bags = sum(counts.values()) / EPOCHS
    off = []
    for uid, own in weights.items():
        for place, weight in enumerate(own):
            key, expected = (uid, place), bags * weight / total
            mean = counts[key] / EPOCHS
            # A rare draw may not have come at all; a common one varies less than a coin.
            variance = max(squares[key] / EPOCHS - mean**2, expected if expected < 0.5 else 0.02)
            sigma = (variance / EPOCHS) ** 0.5
            off.append((mean - expected) / sigma if weight else mean)
    assert max(map(abs, off)) < 4
    assert 0.6 < float(np.std(off)) < 1.3


@given(st.integers(0, 10**9), st.integers(0, 200_000))
def test_ticks_and_bags_never_exceed_what_is_wanted(wanted: int, partitions: int) -> None:
    ticks, bags = ticks_and_bags(wanted, partitions)
    assert 0 <= ticks * bags <= wanted
    assert ticks <= partitions
    assert wanted - ticks * bags < max(ticks, 1) or not partitions


@given(st.lists(st.integers(0, 10**15), max_size=8), st.integers(0, 50), st.integers(0, 3))
def test_every_draw_goes_to_somebody_with_weight(weights: list[int], bags: int, epoch: int) -> None:
    rows = pick_rows([str(n) for n in range(len(weights))], range(len(weights)), weights, bags, 0, epoch, 0)
    assert len(rows) == (bags if weights else 0)
    if any(weights):
        assert all(weights[row] for row, _ in rows)


def test_two_orders_are_kept_when_they_are_mixed() -> None:
    first, second = [(n, 0) for n in range(6)], [(n, 1) for n in range(3)]
    assert mix(first, second) == [(0, 1), (0, 0), (1, 0), (1, 1), (2, 0), (3, 0), (2, 1), (4, 0), (5, 0)]
    assert mix(first, []) == first
    assert mix([], second) == second


def test_partitions_picked_are_literally_these() -> None:
    """The same for any process and version: a plan is a pure function of its inputs."""
    assert pick_partitions({3: 10, 7: 40, 12: 0, 20: 50}, 4, 0, 1) == {20: 2, 7: 2}
    assert pick_rows(["a", "b", "c"], [7, 8, 9], [1, 2, 0], 5, 0, 1, 3) == LITERAL


LITERAL = [(8, 2), (7, 1), (8, 1), (7, 0), (8, 0)]
