"""What is done for one window of an epoch's plan, on its own, from store to store. Any process may do it, and twice.

A task reads the light rows of 8 partitions, their saliency and the videos left out of them. It knows of the rest of the
corpus only counts. Results are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.index.partitions import ROW_BITS, Partition, source_of
from adaptfocus.pipelines.plan.draw import (
    Drawer,
    count_earlier,
    count_labels,
    rows_in_order,
    usable_places,
    weights_of,
    without,
)
from adaptfocus.pipelines.plan.order import Share, hashes
from adaptfocus.pipelines.plan.passes import Key, PassWindow, is_after, last_key
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.priority import FIRST_OCCURRENCE, mix, pick_rows
from adaptfocus.pipelines.plan.published import BAGS_PER_PART, read_plan, write_window
from adaptfocus.pipelines.plan.windows import Slots
from adaptfocus.pipelines.saliency.weights import weights_in
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.inputs.run_index import read_videos
from adaptfocus.trainers.inputs.unused_videos import find_unused
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import PartitionFiles, read_left_out, read_priority, read_saliency_of
from adaptfocus.trainers.settings.run import TrainConfig

NO_SLOTS = Slots((), 0, 0, 0)


@dataclass(frozen=True)
class WindowTask:
    """Some partitions of a run's index, and what an epoch's plan needs to know of all others."""

    config: TrainConfig
    classes: tuple[str, ...]
    label_weights: np.ndarray  # [C], of the whole corpus: `plan.order.label_weights`
    epoch: int
    partitions: tuple[Partition, ...]
    files: Mapping[int, PartitionFiles]  # uid -> the partition's saliency and exclusions, where it has any
    max_labels: int | None = None  # that a bag carries: the rarest, by the next
    all_videos_of_label: np.ndarray | None = None  # [C], of the whole corpus
    plan_url: str = ""  # the folder to write to
    number: int = 0  # of the window in the plan
    slots: Slots = NO_SLOTS
    taken: Mapping[int, int] | None = None  # row -> bags of its video that the head has instead of this window
    earlier: Mapping[int, int] | None = None  # row -> bags of its video before the window
    videos_of_label: np.ndarray | None = None  # [C], of all usable videos; None: every video has one bag
    share: Share | None = None
    rows: tuple[int, ...] | None = None  # of the bags carried over, if it is the lead; None: the window's own order
    has_head: bool = False  # the bags of the epoch's head come first, as they are
    of_pass: PassWindow | None = None  # the window of a pass that an epoch takes some bags of; None: of the epoch's own
    occurrence: int = 0  # of its bags, if it is of a pass: how many passes have begun in the epoch before this one
    pass_bags: int | None = None  # the most bags of the pass, if there are bags by priority too
    picked: Mapping[int, int] | None = None  # uid -> bags by priority of partitions, which are in `partitions` too

    @property
    def source(self) -> int:
        """The number of the index that the partitions are of. Those of a window are of one."""
        return source_of(self.partitions[0].uid) if self.partitions else 0

    @property
    def run(self) -> Run:
        return Run(self.config.url)

    def planner(self, columns: list[str] | None = None) -> Planner:
        """The videos of the partitions: all columns of the index by default."""
        return Planner.of(read_videos(self.config, self.partitions, columns), self.classes)

    def usable(self, planner: Planner) -> np.ndarray:
        """The places of the videos that may be planned."""
        rows = read_left_out(self.run, self.files)
        unused = find_unused(self.config, planner.table)
        return usable_places(planner, rows | set(planner.video_rows[unused].tolist()))

    def in_order(self, planner: Planner) -> list[int]:
        """The rows of the window's bags, in order, without those that the head has and those by priority."""
        usable, weights = self.usable(planner), None
        if self.of_pass:
            return self._in_order_of_pass(planner, usable, self.of_pass)[: self.pass_bags]
        if self.videos_of_label is not None:
            weights = weights_of(planner, usable, self.videos_of_label, self.config.plan.repeat_factor)
        return self._without_taken(rows_in_order(planner, usable, self.config.seed, self.epoch, weights, self.share))

    def _in_order_of_pass(self, planner: Planner, usable: np.ndarray, window: PassWindow) -> list[int]:
        if self.picked:
            usable = usable[np.isin(planner.video_rows[usable] >> ROW_BITS, window.uids)]
        if window.after:
            ids = [planner.ids[place] for place in usable.tolist()]
            rows = planner.video_rows[usable]
            usable = usable[is_after(window.after, ids, rows, self.config.seed, window.number)]
        return self._without_taken(rows_in_order(planner, usable, self.config.seed, window.number))

    def _without_taken(self, rows: list[int]) -> list[int]:
        return without([row for row, n in (self.taken or {}).items() for _ in range(n)], rows)

    def bags(self, planner: Planner) -> Bags:
        """The window's bags in order, as many as it has slots for."""
        rows = list(self.rows) if self.rows is not None else self.in_order(planner)
        if self.of_pass is None:
            return Bags(rows, count_earlier(rows, self.earlier), None)
        last = self._last_key(planner, rows)
        own = [(row, self.occurrence) for row in rows]
        mixed = mix(own, self._by_priority(planner)) if self.picked else own
        return Bags([row for row, _ in mixed], np.array([each for _, each in mixed], np.int64), last)

    def _by_priority(self, planner: Planner) -> list[tuple[int, int]]:
        """(row, occurrence) of the bags by priority."""
        usable, found = planner.video_rows[self.usable(planner)], []
        for uid, bags in (self.picked or {}).items():
            rows = usable[usable >> ROW_BITS == uid]
            files = self.files.get(uid, PartitionFiles(uid))
            table = read_priority(self.run, files, rows)
            weights = weights_in(self.config.plan.priority, table, rows, self.epoch).tolist()
            ids = [planner.ids[place] for place in planner.places(rows).tolist()]
            found += pick_rows(ids, rows.tolist(), weights, bags, self.config.seed, self.epoch, uid)
        keys = hashes(f"{self.config.seed}/{self.epoch}/priority/mixed", [f"{row}/{copy}" for row, copy in found])
        return [(found[at][0], FIRST_OCCURRENCE + found[at][1]) for at in np.argsort(keys, kind="stable").tolist()]

    def _last_key(self, planner: Planner, rows: list[int]) -> Key | None:
        """The place in its pass of the last of some bags and of those that the head has."""
        assert self.of_pass is not None
        # A video of the head may have left the index since.
        there = [*rows, *(row for row in self.taken or () if row in planner.video_rows)]
        ids = [planner.ids[place] for place in planner.places(there).tolist()]
        return last_key(ids, there, self.config.seed, self.of_pass.number) or self.of_pass.after

    def drawer(self, planner: Planner) -> Drawer:
        saliency = read_saliency_of(self.run, self.files, planner, self.config.saliency)
        config = self.config
        clip = config.clip_of(self.source) if config.mixture.more else config.drawn_clip
        return Drawer(
            planner, saliency, config.seed, self.epoch, clip, config.draw_rules,
            config.saliency.staleness, self.label_weights, self.max_labels, self.all_videos_of_label,
        )  # fmt: skip


COUNTED = ["video_id", "labels", "intervals"]  # columns from which it follows which videos are drawn, and how often


def count_usable_labels(task: WindowTask) -> np.ndarray:
    """The number of usable videos with each label, int64 [C]."""
    planner = task.planner(COUNTED)
    return count_labels(planner, task.usable(planner))


def weigh(task: WindowTask) -> dict[int, float]:
    """uid -> the sum of the weights of the usable videos of that partition."""
    planner = task.planner(COUNTED)
    usable = task.usable(planner)
    assert task.videos_of_label is not None
    weights = weights_of(planner, usable, task.videos_of_label, task.config.plan.repeat_factor)
    owner = planner.video_rows[usable] >> ROW_BITS
    return {each.uid: float(weights[owner == each.uid].sum()) for each in task.partitions}


def count_bags(task: WindowTask) -> int:
    """The number of bags of a window, without those that the head has."""
    return len(task.in_order(task.planner(COUNTED)))


class Bags(NamedTuple):
    """Bags of a window, in order."""

    rows: list[int]  # of their videos
    occurrence: np.ndarray  # int64 [B], how often the video of each stands in earlier ones of the epoch
    last: Key | None  # of a window of a pass: the last video of the pass


class Drawn(NamedTuple):
    """What is left after a window's bags are drawn."""

    rest: list[int]  # rows of the videos for which the epoch has no slot
    last: Key | None  # of a window of a pass: the last video that is drawn
    last_of: Mapping[int, Key | None] | None = None  # of a mixture: `last` of each index whose bags end in the window


def draw_window(task: WindowTask) -> Drawn:
    """Draw a window's bags and write them."""
    slots, planner = task.slots, task.planner()
    head = read_head(task.run, task.epoch) if task.has_head else PLAN_SCHEMA.empty_table()
    drawn = task.bags(planner)
    rows = drawn.rows[: slots.last - slots.first - head.num_rows]
    bags = slots.end - slots.first - head.num_rows  # to be drawn
    if bags < 0:
        raise ValueError(f"epoch {task.epoch + 1} has {slots.end} slots, and its head {head.num_rows} bags")
    write_window(task.plan_url, task.number, _parts(task, planner, head, rows[:bags], drawn.occurrence))
    return Drawn(rows[bags:], drawn.last)


def _parts(
    task: WindowTask, planner: Planner, head: pa.Table, rows: list[int], occurrence: np.ndarray
) -> Iterator[pa.Table]:
    """Tables of BAGS_PER_PART bags, except the last: the head's as they are, then the bags of some rows."""
    drawer, first = task.drawer(planner), task.slots.first
    bags = head.num_rows + len(rows)
    for begin in range(0, bags, BAGS_PER_PART):
        end = min(begin + BAGS_PER_PART, bags)
        early = head.slice(begin, max(min(end, head.num_rows) - begin, 0))
        at, stop = (max(each - head.num_rows, 0) for each in (begin, end))
        slots = np.arange(first + begin + early.num_rows, first + end)
        own = drawer.bags(np.array(rows[at:stop], np.int64), occurrence[at:stop], slots)
        yield pa.concat_tables([early, own]) if early.num_rows else own


def read_head(run: Run, epoch: int) -> pa.Table:
    """The bags of an epoch that were drawn one epoch earlier; an empty table if there are none."""
    head = read_plan(run.epoch_url(epoch, "head"))
    parts = [read_table(url, PLAN_SCHEMA, *rows) for url, *rows in head.slices()] if head else []
    return pa.concat_tables([PLAN_SCHEMA.empty_table(), *parts])
