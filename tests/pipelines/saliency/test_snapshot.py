"""Action saliency estimation, with numbers computed by hand."""

from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.saliency import snapshot
from adaptfocus.pipelines.saliency.bins import Bins, spikes, visit
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, NEVER_VISITED

CONFIG = SaliencyConfig()


def one_pair(*visits: tuple[float, float, int]) -> Bins:
    """One (video, action) after visits of (tau, p, epoch)."""
    bins = Bins.unvisited(1, 1, 20)
    for tau, p, epoch in visits:
        bins = visit(bins, torch.tensor([[tau]]), torch.tensor([[[p]]]), epoch, 0.5)
    return bins


def test_a_running_maximum_keeps_the_highest_score_and_its_time() -> None:
    bins = Bins.unvisited(1, 1, 1)
    for epoch, (tau, p) in enumerate([(0.2, 0.4), (0.7, 0.6), (0.9, 0.5)]):
        bins = visit(bins, torch.tensor([[tau]]), torch.tensor([[[p]]]), epoch, 0.5, running_max=True)
    a, salient = spikes(bins, epoch=2, staleness=1.0)
    assert (a.item(), salient.item()) == (pytest.approx(0.6), pytest.approx(0.7))


def test_a_first_visit_sets_its_bin_and_no_other() -> None:
    bins = one_pair((0.42, 0.8, 3))  # floor(20 * 0.42) = 8
    assert bins.score[0, 0, 8].item() == pytest.approx(0.8)
    assert bins.tau[0, 0, 8].item() == pytest.approx(0.42)
    assert bins.epoch[0, 0, 8].item() == 3
    assert (bins.epoch[0, 0] == NEVER_VISITED).sum() == 19


def test_a_later_visit_moves_half_way() -> None:
    bins = one_pair((0.42, 0.8, 3), (0.44, 0.2, 4))
    assert bins.score[0, 0, 8].item() == pytest.approx(0.5)  # 0.8 + 0.5 (0.2 - 0.8)
    assert bins.tau[0, 0, 8].item() == pytest.approx(0.43)
    assert bins.epoch[0, 0, 8].item() == 4


def test_the_end_of_a_video_belongs_to_its_last_bin() -> None:
    assert one_pair((1.0, 0.7, 0)).epoch[0, 0, 19].item() == 0


def test_clips_of_one_bag_visit_in_their_order() -> None:
    both = visit(
        Bins.unvisited(1, 1, 20), torch.tensor([[0.42, 0.44]]), torch.tensor([[[0.8], [0.2]]]), 3, update_rate=0.5
    )
    assert both.score[0, 0, 8].item() == pytest.approx(0.5)


def test_the_spike_is_the_best_bin_after_fading() -> None:
    bins = one_pair((0.1, 0.90, 0), (0.6, 0.88, 2))
    a, salient = spikes(bins, epoch=2, staleness=0.98)
    # 0.90 * 0.98^2 = 0.86436 has faded below 0.88
    assert a.item() == pytest.approx(0.88)
    assert salient.item() == pytest.approx(0.6)
    a, salient = spikes(bins, epoch=0, staleness=0.98)
    assert (round(a.item(), 6), round(salient.item(), 6)) == (0.9, 0.1)


def test_a_pair_that_nobody_looked_at_has_no_spike() -> None:
    a, _ = spikes(Bins.unvisited(1, 1, 20), 5, 0.98)
    assert a.item() == -1


def test_a_false_spike_is_disproved_by_looking_again() -> None:
    bins = one_pair((0.1, 0.9, 0), (0.6, 0.5, 0))
    for epoch in range(1, 4):
        bins = visit(bins, torch.tensor([[0.1]]), torch.tensor([[[0.05]]]), epoch, 0.5)
    _, salient = spikes(bins, 3, 0.98)
    assert salient.item() == pytest.approx(0.6)


def visited_in_plain_python(
    visits: list[tuple[float, float]], epoch: int, rate: float
) -> dict[int, tuple[float, float, int]]:
    """Bin -> (score, tau, epoch), exactly as docs/method.md says."""
    bins: dict[int, tuple[float, float, int]] = {}
    for tau, p in visits:
        b = min(int(20 * tau), 19)
        score, seen_at, _ = bins.get(b, (p, tau, epoch))
        bins[b] = (score + rate * (p - score), seen_at + rate * (tau - seen_at), epoch)
    return bins


SHARES = st.floats(0, 1, width=32)


@given(st.lists(st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=3), min_size=1, max_size=4), SHARES)
@settings(max_examples=60, deadline=None)
def test_visiting_is_the_formula_clip_by_clip(bags: list[list[tuple[float, float]]], rate: float) -> None:
    """Bags of three clips, one after the other, of one pair; often several clips in one bin."""
    rate = max(rate, 0.01)
    bins = Bins.unvisited(1, 1, 20)
    for clips in bags:
        tau = torch.tensor([[t for t, _ in clips]], dtype=torch.float64)
        bins = visit(bins, tau, torch.tensor([[[p] for _, p in clips]]), 3, rate)
    expected = visited_in_plain_python([clip for clips in bags for clip in clips], 3, rate)
    for b in range(20):
        score, seen_at, epoch = expected.get(b, (0.0, 0.0, NEVER_VISITED))
        assert bins.score[0, 0, b].item() == pytest.approx(score, abs=1e-6)
        assert bins.tau[0, 0, b].item() == pytest.approx(seen_at, abs=1e-6)
        assert bins.epoch[0, 0, b].item() == epoch


def bag(slot: int, row: int, labels: list[int], taus: list[float], p: float, ok: bool = True) -> dict:
    return {
        "slot": slot, "video_row": row, "ok": ok, "error": "", "clip_id": list(range(len(taus))), "tau": taus,
        "label_ids": labels, "probability": [p] * (len(taus) * len(labels)),
    }  # fmt: skip


BAGS = [
    bag(0, 0, [1, 2], [0.1, 0.5], 0.6),
    bag(1, 1, [0], [0.3, 0.9], 0.4),
    bag(2, 0, [1, 2], [0.12, 0.7], 0.2),  # the same video again: after slot 0, whatever arrives first
    bag(3, 2, [0, 1, 2], [0.0, 1.0], 0.9, ok=False),
]


def ledger(bags: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(bags, schema=LEDGER_SCHEMA)


def test_merging_is_the_same_in_whatever_order_the_rows_arrive() -> None:
    empty = SaliencyTable.empty([[1, 2], [0], [0, 1, 2]], 20)
    first = merge(empty, ledger(BAGS), 4, CONFIG)
    for order in itertools.permutations(BAGS):
        again = merge(empty, ledger(list(order)), 4, CONFIG)
        assert again.to_arrow().equals(first.to_arrow())


def test_the_literal_snapshot_of_two_epochs() -> None:
    """Pins the merge: the digest is that of the code before snapshots had partitions."""
    table = SaliencyTable.empty([[1, 2], [0], [0, 1, 2]], 20)
    for epoch in (4, 5):
        more = bag(4, 2, [0, 1, 2], [0.25, 0.61 + epoch / 100], 0.3)
        table = merge(table, ledger([*BAGS, more]), epoch, CONFIG)
    digest = hashlib.sha256(json.dumps(table.to_arrow().to_pydict()).encode()).hexdigest()
    assert digest == "b3f1e68af8d963b932fe7d55b0ae9f712321a032e47823f16f212a4f46f02543"


@pytest.mark.parametrize("bags_at_once", [1, 2, 8192])
def test_merging_equals_visiting_bag_by_bag(bags_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "BAGS_AT_ONCE", bags_at_once)
    empty = SaliencyTable.empty([[1, 2], [0], [0, 1, 2]], 20)
    merged = merge(empty, ledger(BAGS), 4, CONFIG)
    assert merged.bins.score[0, 2].item() == pytest.approx(0.4)  # 0.6, then half way to 0.2
    assert merged.bins.score[2, 6].item() == pytest.approx(0.4)
    assert (merged.bins.epoch[3:] == NEVER_VISITED).all(), "a bag that was not decoded changes nothing"


@st.composite
def epochs_of_bags(draw: st.DrawFn) -> tuple[list[list[int]], list[list[dict]]]:
    """Labels of three videos, and the bags of three epochs: some videos twice in an epoch, some bags not decoded."""
    labels = [sorted(draw(st.sets(st.integers(0, 4), min_size=1, max_size=3))) for _ in range(3)]
    epochs = []
    for _ in range(3):
        rows = draw(st.lists(st.integers(0, 2), max_size=5))
        bags = []
        for slot, row in enumerate(rows):
            taus = draw(st.lists(SHARES, min_size=4, max_size=4))
            made = bag(slot, row, labels[row], taus, 0.0, ok=draw(st.integers(0, 5)) > 0)
            n = len(made["probability"])
            bags.append(made | {"probability": draw(st.lists(SHARES, min_size=n, max_size=n))})
        epochs.append(draw(st.permutations(bags)))
    return labels, epochs


@given(epochs_of_bags())
@settings(max_examples=60, deadline=None)
def test_the_next_snapshot_is_what_the_training_pass_saw(drawn: tuple[list[list[int]], list[list[dict]]]) -> None:
    """Merging replays the ledger of an epoch; training visits bag by bag, with all labels of a bag at once.

    If they differed, the plan would be drawn from other spikes than those that the loss used.
    """
    labels, epochs = drawn
    table = SaliencyTable.empty(labels, 20)
    trained = [Bins(*(t[None] for t in bins_of(table, row))) for row in range(3)]
    for epoch, bags in enumerate(epochs):
        table = merge(table, ledger(bags), epoch, CONFIG)
        for seen in sorted(bags, key=lambda b: b["slot"]):
            if seen["ok"]:
                row, p = seen["video_row"], torch.tensor(seen["probability"]).reshape(1, 4, -1)
                tau = torch.tensor([seen["tau"]], dtype=torch.float64)
                trained[row] = visit(trained[row], tau, p, epoch, CONFIG.update_rate)
    for row in range(3):
        own = trained[row]
        for merged, visited in zip(bins_of(table, row), (own.score, own.tau, own.epoch), strict=True):
            assert torch.equal(merged, visited[0])
        for found, expected in zip(spikes(Bins(*bins_of(table, row)), 3, 0.98), spikes(own, 3, 0.98), strict=True):
            assert torch.equal(found, expected[0])


def bins_of(table: SaliencyTable, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of one video, [labels, n] each."""
    where = table.pairs_of(row)
    return table.bins.score[where], table.bins.tau[where], table.bins.epoch[where]


def test_a_ledger_of_another_index_is_refused() -> None:
    with pytest.raises(ValueError, match="different indexes"):
        merge(SaliencyTable.empty([[0], [0]], 20), ledger([bag(0, 1, [2], [0.5], 0.5)]), 0, CONFIG)


def test_a_snapshot_survives_arrow_and_videos_without_labels() -> None:
    table = merge(SaliencyTable.empty([[1, 2], [], [0]], 20), ledger([bag(0, 2, [0], [0.5], 0.5)]), 0, CONFIG)
    back = SaliencyTable.from_arrow(table.to_arrow())
    assert back.to_arrow().equals(table.to_arrow())
    assert back.pairs_of(1) == slice(2, 2)
    assert np.array_equal(back.label_id, [1, 2, 0])
    nothing = SaliencyTable.empty([[]], 20)
    assert SaliencyTable.from_arrow(nothing.to_arrow()).video_row.size == 0
