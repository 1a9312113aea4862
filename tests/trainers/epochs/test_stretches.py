"""Epochs that are stretches: one behind the other they are the passes, whatever comes or goes in between."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.partitions import ROW_BITS
from adaptfocus.pipelines.over import Over, in_processes, in_this_process
from adaptfocus.pipelines.plan import windows
from adaptfocus.pipelines.plan.priority import FIRST_OCCURRENCE
from adaptfocus.pipelines.plan.published import PlanFacts, publish, read_plan
from adaptfocus.pipelines.plan.windows import windows_in_order
from adaptfocus.pipelines.saliency.scores import Seen
from adaptfocus.pipelines.saliency.snapshot import merge
from adaptfocus.pipelines.saliency.weights import weights_in
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA, PRIORITY_SCHEMA
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.epochs.planner import EpochPlanner
from adaptfocus.trainers.epochs.publishing import Planning
from adaptfocus.trainers.errors import StoppedError
from adaptfocus.trainers.runs.ledger import audit, last_commits
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.snapshots import (
    Manifest,
    PartitionFiles,
    read_manifest,
    read_priority,
    read_saliency,
    write_excluded,
)
from tests.trainers.epochs.test_planner import Case
from tests.trainers.loop.test_training import DyingEngine, Killed, trained, weights
from tests.worlds import SmallWorld


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "PARTITIONS_PER_WINDOW", 2)


class Stretched(Case):
    """A run whose epochs are stretches, of some of the partitions of an index."""

    def __init__(self, world: SmallWorld, index: str, runs: Path, bags: int, *more: str, over: Over = in_this_process):
        settings = ("plan.window_videos=1", f"plan.bags_per_epoch={bags}", "plan.bags_per_batch=2", *more)
        super().__init__(world.run_config(runs, "run", f"index={index}", "plan.lead_batches=1", *settings), over)
        self.manifest: Manifest = {}
        self.whole = self.corpus

    def use(self, uids: Collection[int]) -> None:
        """From now on the index has only these partitions."""
        kept = {uid: each for uid, each in self.whole.partitions.items() if uid in uids}
        self.corpus = replace(self.whole, partitions=kept)

    def leave_out(self, row: int) -> None:
        rows = [dict.fromkeys(EXCLUDED_SCHEMA.names, "") | {"video_row": row, "epoch": 0}]
        uid = row >> ROW_BITS
        files = write_excluded(
            self.run, 1, PartitionFiles(uid), pa.Table.from_pylist(rows, EXCLUDED_SCHEMA), ["ledger"]
        )
        self.manifest = {**self.manifest, uid: files}

    def next_rows(self, epoch: int) -> list[int]:
        """Publish an epoch's plan and the head of the next, as a run does -> the rows of the epoch."""
        before = read_plan(self.run.epoch_url(epoch - 1, "plan")) if epoch else None
        planner = EpochPlanner(self.config, self.corpus, self.manifest, self.over)
        facts = planner.draw(epoch, (), cursors=before.next if before else ())
        if early := self.config.plan.head_bags(facts.num_bags):
            planner.publish_head(epoch + 1, (), early, facts.next)
        rows = self.rows(publish(facts))
        assert rows["slot"].to_pylist() == list(range(facts.num_bags))
        _check_windows(facts, rows["video_row"].to_pylist())
        return rows["video_row"].to_pylist()

    def pass_of(self, number: int, uids: Collection[int] | None = None) -> list[int]:
        """The rows of a pass, by hashes that are computed here."""
        ids = dict(zip(self.planner.video_rows.tolist(), self.planner.ids, strict=True))
        rows_of: dict[int, list[int]] = {}
        for row in ids:
            rows_of.setdefault(row >> ROW_BITS, []).append(row)
        kept = {uid: len(rows) for uid, rows in rows_of.items() if uids is None or uid in uids}
        ordered = windows_in_order(kept, self.config.seed, number, 1)
        return [
            row
            for window in ordered
            for row in sorted((row for uid in window for row in rows_of[uid]), key=lambda r: self._hash(number, ids[r]))
        ]

    def _hash(self, number: int, video_id: str) -> bytes:
        text = f"{self.config.seed}/{number}/order/{video_id}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _check_windows(facts: PlanFacts, rows: list[int]) -> None:
    for window in facts.windows[1:]:
        own = rows[window.first_slot : window.first_slot + window.bags]
        assert {row >> ROW_BITS for row in own} <= set(window.uids)


@pytest.mark.parametrize("bags", [2, 6, 8, 50])
def test_stretches_one_behind_the_other_are_the_passes(
    small_world: SmallWorld, dealt: str, tmp_path: Path, bags: int
) -> None:
    """Epochs shorter than a window, of some windows (with heads), and longer than two passes."""
    case = Stretched(small_world, dealt, tmp_path, bags)
    videos = len(case.planner.video_rows)
    epochs = 2 * videos // bags + 2
    sequence = [row for epoch in range(epochs) for row in case.next_rows(epoch)]
    expected = [row for number in range(len(sequence) // videos + 1) for row in case.pass_of(number)]
    assert sequence == expected[: epochs * bags]


def test_a_video_that_is_twice_in_an_epoch_has_other_clips_the_second_time(
    small_world: SmallWorld, dealt: str, tmp_path: Path
) -> None:
    case = Stretched(small_world, dealt, tmp_path, 50)
    case.next_rows(0)
    plan = read_plan(case.run.epoch_url(0, "plan"))
    assert plan is not None
    bags = case.rows(plan).to_pylist()
    drawn = Counter((bag["video_row"], bag["clips"][0]["center_seconds"]) for bag in bags)
    assert len({bag["video_row"] for bag in bags}) < len(bags)
    assert max(drawn.values()) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_corpus_that_grows_in_the_middle_of_a_pass_loses_nothing_and_repeats_nothing(
    small_world: SmallWorld, dealt: str, tmp_path: Path, seed: int
) -> None:
    """A third of the partitions come later, and a video is left out. The old ones keep their order."""
    case = Stretched(small_world, dealt, tmp_path, 8, f"seed={seed}")
    old = [uid for uid in case.whole.partitions if uid % 3]
    case.use(old)
    sequence: list[int] = []
    bad = case.pass_of(0, old)[-1]
    for epoch in range(4 * len(case.planner.video_rows) // 8):
        if epoch == 1:
            case.use(case.whole.partitions)
            case.leave_out(bad)
        sequence += case.next_rows(epoch)
    was_old = [row for row in sequence if row >> ROW_BITS in old]
    first = [row for row in case.pass_of(0, old) if row != bad]
    assert len(first) > 8 + 2, "it grows in the middle of the pass"
    assert was_old[: len(first)] == first, "the order of the first pass's old videos"
    assert bad not in sequence
    counts = Counter(sequence)
    new = [row for row in case.planner.video_rows.tolist() if row >> ROW_BITS not in old]
    of_old = [counts[row] for row in case.planner.video_rows.tolist() if row not in new and row != bad]
    assert max(of_old) - min(of_old) <= 1, "passes: each has every video once"
    assert min(counts[row] for row in new) >= max(of_old) - 2


def test_partitions_that_leave_an_index_are_passed_over(small_world: SmallWorld, dealt: str, tmp_path: Path) -> None:
    case = Stretched(small_world, dealt, tmp_path, 8)
    rows = case.next_rows(0)
    in_head = case.rows(read_plan(case.run.epoch_url(1, "head")))["video_row"].to_pylist()  # pyright: ignore
    gone = {rows[-1] >> ROW_BITS, in_head[0] >> ROW_BITS}
    case.use(case.whole.partitions.keys() - gone)
    later = [row for epoch in range(1, 4) for row in case.next_rows(epoch)]
    assert later[:2] == in_head, "a head stays"
    assert not {row >> ROW_BITS for row in later[2:]} & gone
    left = [row for row in case.pass_of(0) if row >> ROW_BITS not in gone and row not in [*rows, *in_head]]
    assert later[2 : 2 + len(left)] == left[: len(later) - 2]


def test_whoever_draws_a_stretch_the_same_bytes_come_out(small_world: SmallWorld, dealt: str, tmp_path: Path) -> None:
    here = Stretched(small_world, dealt, tmp_path / "here", 8)
    there = Stretched(small_world, dealt, tmp_path / "there", 8, over=in_processes(2))
    for epoch in range(2):
        assert here.next_rows(epoch) == there.next_rows(epoch)
    assert here.files() == there.files()
    assert len(here.files()) > 6


def test_a_damaged_cursor_is_refused(small_world: SmallWorld, dealt: str, tmp_path: Path) -> None:
    case = Stretched(small_world, dealt, tmp_path, 8)
    case.next_rows(0)
    url = case.run.epoch_url(0, "plan", "plan.json")
    good = store.read_bytes(url)
    begun = good[good.index(b'"begun": [') + len(b'"begun": [') :].split(b"]]")[0] + b"]]"
    huge = b'"begun": [[0, [0], [%d, 1]], ' % (1 << 64)
    for old, new in [(b'"pass": 0', b'"pass": -1'), (b'"begun": [', b'"begun": [7, '), (b'"key": [', b'"key": ["x", '),
                     (b'"pass": 0', b'"pass": %d' % (1 << 63)), (b'"begun": [', huge),
                     (b'"begun": [', b'"begun": [[5, [0], null], '), (begun, begun + b", " + begun)]:  # fmt: skip
        assert old in good
        store.write_bytes(url, good.replace(old, new))
        with pytest.raises(InputError, match="is damaged"):
            read_plan(case.run.epoch_url(0, "plan"))


def test_settings_that_do_not_go_together_are_refused(small_world: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^plan.bags_per_epoch = 9 is no multiple of plan.bags_per_batch = 4; the nearest is 8"
    ):
        small_world.run_config(tmp_path, "run", "plan.bags_per_epoch=9")
    with pytest.raises(ConfigError, match="repeat_factor"):
        small_world.run_config(tmp_path, "run", "plan.bags_per_epoch=8", "plan.repeat_factor=.5")


PRIORITY = ("plan.priority_share=.5", "plan.priority=unsure", "plan.explore_probability=.25")


@pytest.mark.parametrize(("bags", "settings"), [(8, ()), (40, ()), (16, PRIORITY)], ids=["8", "40", "priority"])
def test_a_run_of_stretches_that_is_killed_ends_as_an_undisturbed_one(
    small_world: SmallWorld, dealt: str, tmp_path: Path, bags: int, settings: tuple[str, ...]
) -> None:
    """40 bags are more than two passes: a partition has slots in three windows of a plan."""
    more = (f"index={dealt}", "plan.window_videos=1", f"plan.bags_per_epoch={bags}", *settings)
    run = trained(small_world.run_config(tmp_path / "one", "run", *more))
    again = small_world.run_config(tmp_path / "two", "run", *more)
    with pytest.raises(Killed):
        trained(again, DyingEngine(4, 3))
    twin = trained(again)
    found = audit(twin)
    assert (found.clips_planned, found.clips_lost, found.clips_twice, found.claims) == (3 * 3 * bags, 0, 0, 2)
    for name, value in weights(run).items():
        assert torch.equal(value, weights(twin)[name]), name
    case = Case(again)
    expected = case.planner.empty_saliency(again.saliency)
    for epoch, commit in last_commits(run.entries()).items():
        expected = merge(expected, run.ledger(commit), epoch, again.saliency)
    assert read_saliency(twin, 3).to_arrow().equals(expected.to_arrow())


@pytest.mark.parametrize("priority", ["stale", "unsure", "rare", "tests.trainers.epochs.test_stretches:by_row"])
def test_a_share_by_priority_leaves_the_passes_as_they_are(
    small_world: SmallWorld, dealt: str, tmp_path: Path, priority: str
) -> None:
    """Half of 16 bags come by priority. The others, one epoch behind the other, are the passes."""
    more = (f"index={dealt}", "plan.window_videos=1", "plan.bags_per_epoch=16", "plan.priority_share=.5")
    run = trained(small_world.run_config(tmp_path, "run", *more, f"plan.priority={priority}"))
    case = Stretched(small_world, dealt, tmp_path, 16)
    of_passes, counts = [], []
    for epoch in range(3):
        facts = read_plan(run.epoch_url(epoch, "plan"))
        assert facts is not None
        bags = case.rows(facts)
        by_priority = bags["occurrence"].to_numpy() >= FIRST_OCCURRENCE
        assert int(by_priority.sum()) == 8
        of_passes += bags.filter(pa.array(~by_priority))["video_row"].to_pylist()
        counts.append(Counter(bags.filter(pa.array(by_priority))["video_row"].to_pylist()))
    expected = [row for number in range(2) for row in case.pass_of(number)]
    assert of_passes == expected[: len(of_passes)]
    manifest = read_manifest(run, 3)
    for uid, files in manifest.items():
        rows = case.planner.video_rows[case.planner.video_rows >> ROW_BITS == uid]
        weights = weights_in(priority, read_priority(run, files, rows), rows, 3)
        assert int(weights.sum()) == files.weight + files.slope * 3
    if priority.endswith("by_row"):
        seen = {row for window in of_passes[:8] for row in [window]} | set(counts[0])
        never = set(counts[1]) - seen
        assert set(counts[1]) - never <= {row for row in seen if row % 2}, "an even row has no weight once it was seen"


def by_row(seen: Seen) -> np.ndarray:
    """A score of a user's own: that of every second video of a partition is 0."""
    return (seen.video_row % 2).astype(np.float64)


def wrong_shape(seen: Seen) -> np.ndarray:
    return np.ones(len(seen.video_row) + 1)


def test_a_score_that_gives_something_else_is_refused_with_what_it_gave(
    small_world: SmallWorld, dealt: str, tmp_path: Path
) -> None:
    more = (f"index={dealt}", "plan.bags_per_epoch=8", "plan.priority_share=.5")
    for path, said in [("tests.trainers.epochs.test_stretches:wrong_shape", "one finite number of at least 0 for each"),
                       ("tests.trainers.epochs.test_stretches:gone", "cannot be imported")]:  # fmt: skip
        config = small_world.run_config(tmp_path, path.split(":")[1], *more, f"plan.priority={path}")
        with pytest.raises(StoppedError, match=said):
            trained(config)
    with pytest.raises(ConfigError, match=r"needs plan\.bags_per_epoch"):
        small_world.run_config(tmp_path, "run", "plan.priority_share=.5")
    with pytest.raises(ConfigError, match="none of stale, unsure, rare"):
        small_world.run_config(tmp_path, "run", "plan.priority=rarest")


def test_what_a_stopped_run_lacks_is_told_and_nothing_begins_anew(
    small_world: SmallWorld, dealt: str, tmp_path: Path
) -> None:
    """Without its end, a stretch would begin at the first pass again; without all weights, others would be drawn."""
    more = (f"index={dealt}", "plan.window_videos=1", "plan.bags_per_epoch=16", "plan.priority_share=.5")
    config = small_world.run_config(tmp_path, "run", *more)
    with pytest.raises(Killed):
        trained(config, DyingEngine(4, 6))
    run = Run(config.url)
    url = run.epoch_url(1, "plan", "plan.json")
    good = store.read_bytes(url)
    store.write_bytes(url, json.dumps({k: v for k, v in json.loads(good).items() if k != "next"}).encode())
    with pytest.raises(InputError, match=r"0001/plan/plan.json is damaged: it does not say where the next epoch"):
        Planning(run, config, in_this_process).publish(2, _at_end(run, 1))
    store.write_bytes(url, good)
    for weights_url in store.list_files(run.epoch_url(1, "priority")):
        write_table(read_table(weights_url, PRIORITY_SCHEMA).slice(1), weights_url)
    with pytest.raises(InputError, match=r"epochs/0001/priority/.* is not of the videos of the index"):
        Planning(run, config, in_this_process).publish(2, _at_end(run, 1))


def _at_end(run: Run, epoch: int) -> Commit:
    """The newest checkpoint, as if it were at the end of an epoch."""
    plan, (_, commit) = read_plan(run.epoch_url(epoch, "plan")), run.newest()
    assert plan is not None
    assert commit is not None
    return replace(commit, epoch=epoch, cursor=plan.num_bags)
