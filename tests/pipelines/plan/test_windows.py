"""Windows share out the slots of an epoch by counts only, and nobody is lost, twice, or in two places."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.partitions import ROW_BITS
from adaptfocus.pipelines.plan.order import Share, draw_repeated_order, order_of_partitions, shares
from adaptfocus.pipelines.plan.windows import (
    by_partition,
    lay_out,
    lead_of,
    of_partitions,
    windows_in_order,
)


def row(uid: int, number: int) -> int:
    return uid << ROW_BITS | number


def test_the_literal_windows_of_seed_3() -> None:
    """Pins the order of partitions: every resumed run would otherwise silently train on other clips."""
    assert windows_in_order(dict.fromkeys(range(20), 8100), 3, 0, 32768) == LITERAL_WINDOWS
    assert windows_in_order(dict.fromkeys(range(19, -1, -1), 8100), 3, 0, 32768) == LITERAL_WINDOWS
    assert windows_in_order(dict.fromkeys(range(20), 8100), 3, 1, 32768) != LITERAL_WINDOWS


LITERAL_WINDOWS = [(15, 8, 4, 5, 0, 9, 2, 1), (3, 14, 12, 17, 6, 10, 16, 13), (19, 7, 18, 11)]


def test_small_partitions_of_an_index_that_grew_by_steps_are_put_in_order_together() -> None:
    """Otherwise a corpus that grew by a tar a day would be trained on the same few videos batch after batch."""
    grown = {0: 8000, **dict.fromkeys(range(1, 400), 90)}
    windows = windows_in_order(grown, 3, 0, 32768)
    assert sorted(uid for window in windows for uid in window) == list(range(400))
    assert all(sum(grown[uid] for uid in window) >= 32768 for window in windows[:-1])
    assert len(windows) == 2
    assert windows_in_order({}, 3, 0, 32768) == []


def test_partitions_keep_their_relative_order_when_others_come() -> None:
    """A corpus that grows: the new partitions fall between the old ones."""
    before, after = order_of_partitions(range(50), 7, 2), order_of_partitions(range(80), 7, 2)
    assert [uid for uid in after if uid < 50] == before
    assert after != [*before, *range(50, 80)]


def test_a_lead_has_the_head_and_those_carried_that_the_head_does_not_have() -> None:
    a, b, c, d, e = (row(0, n) for n in range(5))
    # a is carried and in the head: one bag. b is twice in the head, once for having been carried. d is left out since.
    lead = lead_of(head=[a, b, b, d], carried=[a, b, c, e], left_out={d, e})
    assert lead.head == (a, b, b, d), "what is read ahead stays"
    assert lead.carried == (c,)
    assert lead.taken == {b: 1}, "its window does without the other bag of b; nobody waits for d"
    assert of_partitions(by_partition(lead.taken), [1, 0]) == {b: 1}
    assert of_partitions(by_partition(lead.occurrences()), [0]) == {a: 1, b: 2, c: 1, d: 1}
    assert of_partitions(by_partition(lead.occurrences()), [1]) == {}


def test_what_fills_no_batch_is_carried_over() -> None:
    lead = lead_of(head=[row(0, 0)] * 4, carried=[row(1, 5), row(0, 9)], left_out=())
    layout = lay_out(lead, [((2, 0), 3), ((1,), 4), ((5,), 2)], bags_per_batch=4)
    assert layout.num_bags == 12
    assert layout.lead == ((0, 1), 0, 6, 6)
    assert layout.windows == [((2, 0), 6, 9, 9), ((1,), 9, 12, 13), ((5,), 13, 13, 15)]


def test_an_epoch_of_a_given_length_ends_in_the_middle_of_its_windows() -> None:
    layout = lay_out(lead_of((), (), ()), [((0,), 5), ((1,), 5)], bags_per_batch=2, most=7)
    assert layout.num_bags == 6
    assert layout.windows == [((0,), 0, 5, 5), ((1,), 5, 6, 7)]


def test_too_few_videos_for_a_batch_is_an_error_with_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"3 usable videos do not fill one global batch of 4; lower plan.bags_per"):
        lay_out(lead_of((), (), ()), [((0,), 3)], bags_per_batch=4)


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    head=st.integers(0, 6),
    carried=st.integers(0, 3),
    per_batch=st.integers(1, 5),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_video_has_its_slot_or_is_carried_over(sizes, head, carried, per_batch, data) -> None:
    """As many slots as videos, whatever the head has taken already and whatever is left out."""
    videos = [row(uid, n) for uid, size in enumerate(sizes) for n in range(size)]
    early = data.draw(st.lists(st.sampled_from(videos), unique=True, max_size=head))
    late = data.draw(st.lists(st.sampled_from(videos), unique=True, max_size=carried))
    gone = set(data.draw(st.lists(st.sampled_from(videos), unique=True, max_size=3)))
    lead = lead_of(early, late, gone)
    usable = {uid: sum(row(uid, n) not in gone for n in range(size)) for uid, size in enumerate(sizes)}
    taken = by_partition(lead.taken)
    windows = [
        (uids, sum(usable[uid] for uid in uids) - sum(of_partitions(taken, uids).values()))
        for uids in windows_in_order(dict(enumerate(sizes)), 1, 1, 1)
    ]
    wanted = Counter(v for v in videos if v not in gone) + Counter(v for v in late if v not in gone)
    wanted += Counter(v for v in early if v in gone)
    if sum(wanted.values()) < per_batch:
        return
    layout = lay_out(lead, windows, per_batch)
    slots = [layout.lead, *layout.windows]
    assert sum(each.last - each.first for each in slots) == sum(wanted.values())
    assert [slot for each in slots for slot in range(each.first, each.end)] == list(range(layout.num_bags))
    assert lead.bags + sum(bags for _, bags in windows) == sum(wanted.values())


@given(
    weights=st.lists(st.lists(st.floats(0.05, 20), max_size=30), min_size=1, max_size=6).filter(lambda w: any(w)),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_repeats_over_windows_are_those_of_the_whole(weights, seed, epoch) -> None:
    """Each window is resampled on its own: together they have as many draws as videos, each floor or ceiling."""
    draws, total = sum(map(len, weights)), sum(map(sum, weights))
    parts = shares([sum(each) for each in weights], total, draws, seed, epoch)
    assert sum(share.count for share in parts) == draws
    for number, (own, share) in enumerate(zip(weights, parts, strict=True)):
        names, rows = [f"w{number}v{i}" for i in range(len(own))], list(range(len(own)))
        order = draw_repeated_order(names, rows, np.array(own), seed, epoch, share)
        assert len(order) == (share.count if own else 0)
        wanted = np.array(own) / total * draws
        counts = np.array([order.count(each) for each in rows])
        assert (counts >= np.floor(wanted - 1e-6)).all()
        assert (counts <= np.ceil(wanted + 1e-6)).all()


def test_one_window_repeats_as_a_corpus_did_before_there_were_windows() -> None:
    weights, names = np.array([1.0, 3.0, 0.5, 1.0, 2.5]), list("abcde")
    whole = draw_repeated_order(names, [10, 11, 12, 13, 14], weights, 3, 4)
    assert whole == LITERAL_REPEATS
    share = shares([8.0], 8.0, 5, 3, 4)[0]
    assert share == Share(8.0, 5, 0.0, 0, 5)
    assert draw_repeated_order(names, [10, 11, 12, 13, 14], weights, 3, 4, share) == whole


LITERAL_REPEATS = [14, 11, 14, 12, 11]
