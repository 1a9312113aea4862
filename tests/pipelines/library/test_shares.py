"""Steps of ranks: each clip once, whatever the number of ranks, also where a resume changes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.library.shares import Share

ranks, sizes = st.integers(1, 5), st.integers(1, 7)


def clips_of(total: int, first: int, size: int, world: int, steps: int | None = None) -> tuple[list[int], Share]:
    """The clips that all ranks get, step by step."""
    shares = [Share(total, first, size, rank, world) for rank in range(world)]
    count = {share.steps for share in shares}
    assert len(count) == 1, "a rank that has fewer steps lets the others wait for ever"
    of_steps = range(min(count) if steps is None else min(steps, *count))
    return [place for step in of_steps for share in shares for place in share.places(step)], shares[0]


@given(st.integers(0, 60), sizes, ranks)
def test_all_ranks_together_get_each_clip_once(total: int, size: int, world: int) -> None:
    found, share = clips_of(total, 0, size, world)
    assert found == list(range(total - share.left_out))
    assert share.left_out < world


@given(st.integers(0, 60), sizes, ranks, st.integers(0, 6), sizes, ranks)
def test_other_ranks_and_batches_continue_where_the_first_stopped(
    total: int, size: int, world: int, steps: int, other_size: int, other_world: int
) -> None:
    before, share = clips_of(total, 0, size, world, steps)
    position = share.after(steps - 1) if steps and before else 0
    if position > len(before):  # the first ranks have ended the epoch, with clips left out
        position = total
    after, other = clips_of(total, position, other_size, other_world)
    assert before + after == list(range(total - (share.left_out if position == total else other.left_out)))


@given(st.integers(0, 60), sizes, ranks)
def test_drop_last_leaves_whole_steps(total: int, size: int, world: int) -> None:
    share = Share(total, 0, size, world - 1, world, drop_last=True)
    assert share.steps * share.of_all_ranks + share.left_out == total
    assert all(len(share.places(step)) == size for step in range(share.steps))


@pytest.mark.parametrize("wrong", [(5, 0, 0, 0, 1), (5, 0, 2, 2, 2), (5, 6, 2, 0, 1), (5, 0, 2, -1, 1)])
def test_what_makes_no_sense_is_refused(wrong: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="a rank counts from 0"):
        Share(*wrong)
