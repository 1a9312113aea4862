"""What is done for one window of an epoch's plan, on its own, from store to store. Any process may do it, and twice.

A task reads the light rows of 8 partitions, their saliency and the videos left out of them. It knows of the rest of the
corpus only counts. Results are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.index.partitions import ROW_BITS, Partition
from adaptfocus.pipelines.plan.draw import (
    Drawer,
    count_earlier,
    count_labels,
    rows_in_order,
    usable_places,
    weights_of,
    without,
)
from adaptfocus.pipelines.plan.order import Share
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import BAGS_PER_PART, read_plan, write_window
from adaptfocus.pipelines.plan.windows import Slots
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.inputs.time_order import read_videos
from adaptfocus.trainers.inputs.unused_videos import find_unused
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import PartitionFiles, read_left_out, read_saliency_of
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
        """The rows of the window's bags, in order, without those that the head has."""
        usable, weights = self.usable(planner), None
        if self.videos_of_label is not None:
            weights = weights_of(planner, usable, self.videos_of_label, self.config.plan.repeat_factor)
        rows = rows_in_order(planner, usable, self.config.seed, self.epoch, weights, self.share)
        return without([row for row, n in (self.taken or {}).items() for _ in range(n)], rows)

    def drawer(self, planner: Planner) -> Drawer:
        saliency = read_saliency_of(self.run, self.files, planner, self.config.saliency)
        config = self.config
        return Drawer(
            planner, saliency, config.seed, self.epoch, config.drawn_clip, config.draw_rules,
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


def draw_window(task: WindowTask) -> list[int]:
    """Draw a window's bags and write them -> the rows of the videos for which the epoch has no slot."""
    slots, planner = task.slots, task.planner()
    head = read_head(task.run, task.epoch) if task.has_head else PLAN_SCHEMA.empty_table()
    rows = task.rows if task.rows is not None else task.in_order(planner)
    rows = list(rows[: slots.last - slots.first - head.num_rows])
    bags = slots.end - slots.first - head.num_rows  # to be drawn
    if bags < 0:
        raise ValueError(f"epoch {task.epoch + 1} has {slots.end} slots, and its head {head.num_rows} bags")
    write_window(task.plan_url, task.number, _parts(task, planner, head, rows[:bags]))
    return rows[bags:]


def _parts(task: WindowTask, planner: Planner, head: pa.Table, rows: list[int]) -> Iterator[pa.Table]:
    """Tables of BAGS_PER_PART bags, except the last: the head's as they are, then the bags of some rows."""
    drawer, occurrence, first = task.drawer(planner), count_earlier(rows, task.earlier), task.slots.first
    bags = head.num_rows + len(rows)
    for begin in range(0, bags, BAGS_PER_PART):
        end = min(begin + BAGS_PER_PART, bags)
        early = head.slice(begin, max(min(end, head.num_rows) - begin, 0))
        at, stop = (max(each - head.num_rows, 0) for each in (begin, end))
        own = drawer.bags(np.array(rows[at:stop], np.int64), occurrence[at:stop], first + begin + early.num_rows)
        yield pa.concat_tables([early, own]) if early.num_rows else own


def read_head(run: Run, epoch: int) -> pa.Table:
    """The bags of an epoch that were drawn one epoch earlier; an empty table if there are none."""
    head = read_plan(run.epoch_url(epoch, "head"))
    parts = [read_table(url, PLAN_SCHEMA, *rows) for url, *rows in head.slices()] if head else []
    return pa.concat_tables([PLAN_SCHEMA.empty_table(), *parts])
