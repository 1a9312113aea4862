"""Which index each slot of a mixture is of: each has its share of every batch, and the same on any machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.plan import mixing
from adaptfocus.pipelines.plan.mixing import cut_windows, sources_of_slots

PINNED = [0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0]
WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(0.01, 100)), min_size=1, max_size=6).filter(any)


@given(WEIGHTS, st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_an_index_has_its_share_of_the_slots_up_to_any_batch(
    weights: list[float], batches: int, bags_per_batch: int, epoch: int
) -> None:
    bags = batches * bags_per_batch
    found = sources_of_slots(weights, bags, bags_per_batch, 7, epoch)
    assert len(found) == bags
    for end in range(bags_per_batch, bags + 1, bags_per_batch):
        counts = np.bincount(found[:end], minlength=len(weights))
        wanted = end * np.array(weights) / sum(weights)
        assert (np.abs(counts - wanted) <= 1 + len(weights) / 2).all(), (counts, wanted)
        assert not counts[np.array(weights) == 0].any()


def test_the_slots_of_two_indexes_are_pinned() -> None:
    """Literal: a plan must stay the same in later versions, or runs could not be resumed."""
    assert sources_of_slots([3, 1], 16, 8, 5, 0).tolist() == PINNED
    assert sources_of_slots([3, 1], 16, 8, 5, 1).tolist() != PINNED


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 40))
def test_windows_end_where_those_of_the_largest_index_end_and_are_not_short(sizes: list[int], least: int) -> None:
    own = sum(sizes)
    slots = np.flatnonzero(sources_of_slots([2, 1], 2 * own, 1, 0, 0) == 0)[:own]
    bags = int(slots[-1]) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixing, "LEAST_BAGS", least)
        ends = cut_windows(np.cumsum(sizes).tolist(), slots, bags)
    assert ends[-1] == bags
    assert all(end - begin >= least for begin, end in zip([0, *ends], ends, strict=False)) or len(ends) == 1
    possible = {int(slots[end]) for end in np.cumsum(sizes).tolist()[:-1]}
    assert set(ends[:-1]) <= possible
