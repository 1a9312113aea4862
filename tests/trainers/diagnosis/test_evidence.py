"""Whether classes are found, compared with chance: spikes of videos without the tag, recency. Computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import LATER_IN_LEDGER, LEDGER_SCHEMA
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.diagnosis.evidence import evidence_of, sum_ranks, sum_recency
from adaptfocus.trainers.diagnosis.sums import EpochSums
from adaptfocus.trainers.method.null_ranks import NOT_RANKED, null_ranks, stands_out
from benchmarks.focus_overhead import Shape, random_batch

SHAPE = Shape(bags=3, clips=3, frames=1, size_pixels=4, classes=2, labels=(1, 2), commit_steps=1)


def test_a_spike_is_net_of_its_videos_mean_and_of_clips_drawn_anywhere() -> None:
    """Bag 0 looks at 1, 2, 6: 6 - 3. Bag 1 is 100 higher throughout, by its scene: the same. In bag 2 the 9 was looked
    at on purpose, and of one clip more nothing can be told."""
    logits = torch.tensor([[1.0, 2, 6], [101, 102, 106], [0, 9, 9]]).reshape(9, 1).expand(-1, 2)
    explores = np.array([[True] * 3, [True] * 3, [True, False, False]])
    found = stands_out(logits, replace(random_batch(SHAPE, 0), explores=explores))
    assert found[:2].tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert found[2].isnan().all()


def test_bags_with_a_label_are_ranked_among_those_without_it() -> None:
    """Class 0: bags 0 and 1 have it, 2, 3 and 4 (at .1, .2, .3) do not. Bag 0 at .25 is above two of three; bag 1 at .2
    above one, and level with one: 1.5 of 3. Variance (2 + 3 + 1) / (12 * 3). Bag 5 could not be decoded, bag 6 has no
    two clips. Class 1 is in all bags that are left: nothing to compare with."""
    found = np.array([[0.25, 1], [0.2, 1], [0.1, 1], [0.2, 1], [0.3, 1], [0.9, 1], [np.nan, np.nan]], np.float32)
    labels = np.array([[0, 1], [0, 1], [1, -1], [1, -1], [1, -1], [0, 1], [0, -1]])
    ranks = null_ranks(found, labels, np.arange(7) != 5)
    assert ranks.rank[:2, 0].tolist() == pytest.approx([2 / 3, 0.5])
    assert ranks.variance[:2, 0].tolist() == pytest.approx([1 / 6, 1 / 6])
    assert set(ranks.rank[:2, 1]) | set(ranks.rank[2:].ravel()) == {NOT_RANKED}


def ledger(*rows: tuple[list[int], list[float], bool]) -> pa.Table:
    bags = [
        {"slot": n, "video_row": n, "ok": ok, "error": "", "clip_id": [], "tau": [], "probability": [],
         "label_ids": ids, "null_rank": ranks, "null_variance": [1 / 9] * len(ids)}
        for n, (ids, ranks, ok) in enumerate(rows)
    ]  # fmt: skip
    return pa.Table.from_pylist(bags, schema=LEDGER_SCHEMA)


def evidence_of_classes(
    classes: list[str], bags: pa.Table, after: SaliencyTable, epoch: int, staleness: float
) -> dict[str, dict]:
    ranks = sum_ranks(len(classes), bags.filter(bags["ok"]))
    recency = sum_recency(len(classes), after, epoch, staleness)
    return evidence_of(classes, replace(EpochSums.none(len(classes)), ranks=ranks, recency=recency))


def test_evidence_adds_up_over_bags_and_commits() -> None:
    """Class a: ranks 1, 1, .8, .8, mean .9 with a deviation of sqrt(4/9) / 4 = 1/6: z = .4 * 6. At most .5 * 6. A bag
    that was not ranked, or could not be decoded, does not count; class c was never trained."""
    rows = [
        ([0, 1], [1, 0.5], True),
        ([0], [1], True),
        ([0], [0.8], True),
        ([0, 1], [0.8, -1], True),
        ([0], [0], False),
    ]
    found = evidence_of_classes(["a", "b", "c"], ledger(*rows), SaliencyTable.empty([[0]], 2), 3, 1.0)
    assert list(found) == ["a", "b"]
    assert found["a"]["bags"] == 4
    assert found["a"]["above_untagged"] == pytest.approx(0.9)
    assert (found["a"]["z"], found["a"]["z_at_most"]) == (pytest.approx(2.4), pytest.approx(3.0))
    assert (found["b"]["bags"], found["b"]["z"]) == (1, pytest.approx(0))


def test_salient_times_that_are_only_the_newest_looks_are_counted() -> None:
    """Two videos with four visited bins of which epoch 5 saw one, and its is the highest in both: 2 against 2 * 1/4,
    variance 2 * 3/16. A video with one visited bin says nothing. Fading is taken into account: .5 of three epochs ago
    is .5 / 8 now."""
    table = SaliencyTable.empty([[0], [0], [0]], 5)
    for row in (0, 1):
        table.bins.epoch[row, :4] = torch.tensor([2, 2, 2, 5])
        table.bins.score[row, :4] = torch.tensor([0.5, 0.4, 0.1, 0.2])
    table.bins.epoch[2, 0] = 5
    found = evidence_of_classes(["a"], ledger(([0], [0.5], True)), table, 5, 0.5)["a"]
    assert (found["salient"], found["salient_new"]) == (2, 2)
    assert (found["salient_new_by_chance"], found["salient_new_variance"]) == (0.5, 0.375)
    unfaded = evidence_of_classes(["a"], ledger(([0], [0.5], True)), table, 5, 1.0)["a"]
    assert unfaded["salient_new"] == 0


def test_a_ledger_of_an_earlier_version_is_still_read(tmp_path) -> None:
    old = ledger(([0], [0.5], True)).drop_columns(list(LATER_IN_LEDGER))
    url = str(tmp_path / "scores.parquet")
    write_table(old, url)
    read = read_table(url, LEDGER_SCHEMA, later=LATER_IN_LEDGER)
    assert read.column("null_rank").to_pylist() == [None]
    found = evidence_of_classes(["a"], read, SaliencyTable.empty([[0]], 2), 0, 1.0)
    assert (found["a"]["bags"], found["a"]["z"]) == (0, None)
    with pytest.raises(InputError, match="null_rank"):
        read_table(url, LEDGER_SCHEMA)
