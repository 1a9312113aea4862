"""The videos of an index that a run's settings leave out of every plan.

Full takes a clip outside every interval of a label as a negative of that label. If a label has no interval, nobody
knows when it is true: all clips would become negatives, although nobody has confirmed one.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from adaptfocus.pipelines.index.partitions import Partition
from adaptfocus.trainers.inputs.time_order import training_index
from adaptfocus.trainers.settings.run import TrainConfig


class Unused(NamedTuple):
    """Rows of an index, in order."""

    not_annotated: list[int]  # `full`: videos with a label and null intervals: nobody has annotated them
    label_left_out: list[int]  # `full`: videos whose list of intervals, possibly empty, lacks one of their labels
    unlabelled: list[int]  # videos without a label, if plan.unlabelled is left_out

    @property
    def rows(self) -> list[int]:
        return sorted(self.not_annotated + self.label_left_out + self.unlabelled)


def find_unused(config: TrainConfig, table: pa.Table) -> Unused:
    """The videos that a run leaves out of an index with the columns labels and intervals.

    A video without labels shows none of the classes. Unless it is left out, it is a negative of all of them. Learning
    the order of clips in time (task=order) needs no labels.
    """
    found = Unused([], [], [])
    if not _may_leave_out(config):
        return found
    is_full, keeps_all = config.focus.regime == "full", config.plan.unlabelled == "negative"
    columns = (table.column(name).to_pylist() for name in ("labels", "intervals"))
    for row, (labels, intervals) in enumerate(zip(*columns, strict=True)):
        if not labels:
            if not keeps_all:
                found.unlabelled.append(row)
        elif is_full and intervals is None:
            found.not_annotated.append(row)
        elif is_full and set(labels) - {each["label"] for each in intervals}:
            found.label_left_out.append(row)
    return found


def read_unused(config: TrainConfig) -> Unused:
    """The videos that a run leaves out of its index. The index is read only if the settings can leave any out."""
    if not _may_leave_out(config):
        return Unused([], [], [])
    return find_unused(config, training_index(config, columns=["labels", "intervals"]).table)


def _may_leave_out(config: TrainConfig) -> bool:
    return config.task != "order" and (config.focus.regime == "full" or config.plan.unlabelled == "left_out")


def count_unused(config: TrainConfig, partition: Partition) -> int:
    """The number of videos of a partition that `find_unused` finds. No row is read."""
    if not _may_leave_out(config):
        return 0
    unlabelled = partition.unlabelled if config.plan.unlabelled == "left_out" else 0
    return unlabelled + (partition.unlocated if config.focus.regime == "full" else 0)


def describe_unused(found: Unused, videos: int) -> str:
    """The line that says how many of an index's videos are left out, and why."""
    said = []
    if found.unlabelled:
        said.append(f"plan.unlabelled=left_out leaves out {len(found.unlabelled)} of {videos} videos")
    if number := len(found.not_annotated) + len(found.label_left_out):
        why = []
        if found.not_annotated:
            why.append(f"{len(found.not_annotated)} have no intervals")
        if found.label_left_out:
            why.append(f"{len(found.label_left_out)} have a label without an interval")
        said.append(
            f"focus.regime=full leaves out {number} of {videos} videos, because nobody knows when their labels are "
            f"true: {', '.join(why)}"
        )
    return "; ".join(said)
