"""An epoch that is planned window by window: as a whole where one window holds the corpus, and nobody lost else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.partitions import ROW_BITS
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.plan import windows
from adaptfocus.pipelines.plan.draw import plan_clips
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, publish
from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA, PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.inputs.unused_videos import find_unused
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import Manifest, PartitionFiles, write_excluded, write_saliency
from adaptfocus.trainers.settings.run import TrainConfig
from tests.worlds import SmallWorld

RULES = {
    "plain": ("plan.window_videos=1",),
    "repeats": ("plan.window_videos=1", "plan.repeat_factor=.5", "plan.focus_balance=.7"),
    "full": ("plan.window_videos=1", "focus.regime=full"),
}
HEAD_BAGS = 4


class Case:
    """A run on an index, and the whole index in memory to compare with."""

    def __init__(self, config: TrainConfig, over: Over = in_this_process) -> None:
        self.config, self.over, self.run, self.corpus = config, over, Run(config.url), Corpus.of(config)
        index = load_index(config.index)
        self.planner = Planner.of(index.table, index.classes)
        self.bad = int(self.planner.video_rows[2])
        unused = find_unused(config, self.planner.table)
        self.unused = self.planner.video_rows[unused].tolist()

    def snapshot(self, epoch: int) -> tuple[SaliencyTable, Manifest, list[int]]:
        """The saliency, manifest and left-out videos that an epoch is planned from."""
        empty = self.planner.empty_saliency(self.config.saliency)
        if epoch == 0:
            return empty, {}, []
        drawn = np.random.default_rng(epoch)
        visits = torch.from_numpy(drawn.integers(-1, epoch, size=empty.bins.epoch.shape).astype(np.int32))
        seen = visits >= 0
        score, tau = (torch.from_numpy(drawn.random(visits.shape).astype(np.float32)) * seen for _ in range(2))
        whole = SaliencyTable(empty.video_row, empty.label_id, Bins(score, tau, visits))
        left_out = dict.fromkeys(EXCLUDED_SCHEMA.names, "") | {"video_row": self.bad, "epoch": 0}
        manifest = {}
        for uid in self.corpus.partitions:
            own = np.flatnonzero(whole.video_row >> ROW_BITS == uid)
            bins = Bins(*(each[own] for each in (score, tau, visits)))
            table = SaliencyTable(whole.video_row[own], whole.label_id[own], bins)
            files = write_saliency(self.run, epoch, PartitionFiles(uid), table, ["ledger"])
            if uid == self.bad >> ROW_BITS:
                excluded = pa.Table.from_pylist([left_out], schema=EXCLUDED_SCHEMA)
                files = write_excluded(self.run, epoch, files, excluded, ["ledger"])
            manifest[uid] = files
        return whole, manifest, [self.bad]

    def plan(self, epoch: int, carried: Sequence[int]) -> PlanFacts:
        """Publish an epoch's plan and the head of the next, as a run does."""
        planner = EpochPlanner(self.config, self.corpus, self.snapshot(epoch)[1], self.over)
        facts = planner.draw(epoch, carried)
        planner.publish_head(epoch + 1, facts.carried, HEAD_BAGS)
        return publish(facts)

    def expected(self, epoch: int, carried: Sequence[int], **more: Any) -> Any:
        saliency, _, left_out = self.snapshot(epoch if "at" not in more else more.pop("at"))
        config = self.config
        return plan_clips(
            self.planner, saliency, seed=config.seed, epoch=epoch, clip=config.drawn_clip, rules=config.draw_rules,
            staleness=config.saliency.staleness, carried=carried, excluded=[*left_out, *self.unused], **more,
        )  # fmt: skip

    def rows(self, facts: PlanFacts) -> pa.Table:
        return pa.concat_tables([read_table(url, PLAN_SCHEMA, *rows) for url, *rows in facts.slices()])

    def files(self) -> dict[str, bytes]:
        """What lies in the run's epochs."""
        urls = [url for epoch in range(4) for folder in ("plan", "head")
                for url in store.list_files(self.run.epoch_url(epoch, folder))]  # fmt: skip
        return {url.removeprefix(self.run.url): store.read_bytes(url) for url in urls}


def plans(case: Case, epochs: int = 3) -> Iterator[tuple[int, tuple[int, ...], PlanFacts]]:
    carried: tuple[int, ...] = ()
    for epoch in range(epochs):
        facts = case.plan(epoch, carried)
        yield epoch, carried, facts
        carried = facts.carried


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("is_dealt", [False, True], ids=["one partition", "many partitions"])
def test_one_window_is_planned_as_a_corpus_was_before_there_were_windows(
    small_world: SmallWorld, dealt: str, tmp_path: Path, rules: str, is_dealt: bool
) -> None:
    """All columns, bit for bit: with carried bags, a head, saliency and a video that is left out after the head."""
    index = dealt if is_dealt else small_world.train_index
    case = Case(small_world.run_config(tmp_path, "run", *RULES[rules], f"index={index}"))
    assert (len(case.corpus.partitions) > 1) == is_dealt
    head = None
    with mock.patch.object(windows, "PARTITIONS_PER_WINDOW", 100):
        for epoch, carried, facts in plans(case):
            expected = case.expected(epoch, carried, head=head)
            assert case.rows(facts).equals(expected.table)
            assert facts.carried == expected.carried
            assert len(facts.windows) == 2, "the lead and one window"
            head = case.expected(epoch + 1, facts.carried, at=epoch, only_bags=HEAD_BAGS).table


@pytest.mark.parametrize("rules", RULES)
def test_over_many_windows_every_video_has_its_bags_and_the_head_stays(
    small_world: SmallWorld, dealt: str, tmp_path: Path, rules: str
) -> None:
    case = Case(small_world.run_config(tmp_path, "run", *RULES[rules], f"index={dealt}"))
    head: list[int] = []
    with mock.patch.object(windows, "PARTITIONS_PER_WINDOW", 2):
        for epoch, carried, facts in plans(case):
            bags = case.rows(facts)
            rows = bags["video_row"].to_pylist()
            assert len(facts.windows) > 3
            assert bags["slot"].to_pylist() == list(range(facts.num_bags))
            assert rows[: len(head)] == head
            whole = case.expected(epoch, carried)
            _, _, left_out = case.snapshot(epoch)
            surplus = sum(row in left_out for row in head) if rules != "repeats" else 0
            assert len(rows) + len(facts.carried) == whole.num_bags + len(whole.carried) + surplus
            bag_of = {(bag["video_row"], bag["occurrence"]): bag["clips"] for bag in bags.to_pylist()}
            assert len(bag_of) == len(rows), "the second bag of a video draws other clips than its first"
            if rules != "repeats":
                wanted = Counter(r for r in case.planner.video_rows.tolist() if r not in [*left_out, *case.unused])
                wanted += Counter(r for r in carried if r not in left_out) + Counter(r for r in head if r in left_out)
                assert Counter([*rows, *facts.carried]) == wanted
            for window in facts.windows[1:]:
                own = rows[window.first_slot : window.first_slot + window.bags]
                assert {row >> ROW_BITS for row in own} <= set(window.uids)
            head_facts = EpochPlanner(case.config, case.corpus, case.snapshot(epoch)[1], in_this_process)
            head = case.rows(head_facts.publish_head(epoch + 1, facts.carried, HEAD_BAGS))["video_row"].to_pylist()


def test_a_head_stays_if_fewer_videos_are_left_than_it_has_bags(
    small_world: SmallWorld, dealt: str, tmp_path: Path
) -> None:
    """All videos except four failed in the epoch that was trained while the head of the next one was drawn."""
    case = Case(small_world.run_config(tmp_path, "run", *RULES["repeats"], f"index={dealt}"))
    facts = case.plan(0, ())
    head = case.rows(EpochPlanner(case.config, case.corpus, {}, in_this_process).publish_head(1, facts.carried, 8))
    rows = case.planner.video_rows[:-4].tolist()
    manifest = {}
    for uid in {row >> ROW_BITS for row in rows}:
        own = [dict.fromkeys(EXCLUDED_SCHEMA.names, "") | {"video_row": row, "epoch": 0}
               for row in rows if row >> ROW_BITS == uid]  # fmt: skip
        table = pa.Table.from_pylist(own, schema=EXCLUDED_SCHEMA)
        manifest[uid] = write_excluded(case.run, 1, PartitionFiles(uid), table, ["ledger"])
    found = EpochPlanner(case.config, case.corpus, manifest, in_this_process).draw(1, facts.carried)
    assert case.rows(found).equals(head)


def twice_and_in_any_order(items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
    """As tasks of a cluster are done: whenever they get a process, and again if it dies."""
    order = list(range(len(items))) * 2
    random.Random(len(items)).shuffle(order)
    results = {number: function(items[number]) for number in order}
    return (results[number] for number in range(len(items)))


@pytest.mark.parametrize("rules", RULES)
def test_whoever_draws_the_windows_and_how_often_the_same_bytes_come_out(
    small_world: SmallWorld, dealt: str, tmp_path: Path, rules: str
) -> None:
    found = []
    for name, over in (("a", in_this_process), ("b", twice_and_in_any_order)):
        config = small_world.run_config(tmp_path / name, "run", *RULES[rules], f"index={dealt}")
        case = Case(config, over)
        with mock.patch.object(windows, "PARTITIONS_PER_WINDOW", 2):
            for _ in plans(case):
                pass
        found.append(case.files())
    assert found[0] == found[1]
    assert len(found[0]) > 20
