"""The videos of an index that a run's settings leave out of every plan.

Full takes a clip outside every interval of a label as a negative of that label. If a label has no interval, nobody
knows when it is true: all clips would become negatives, although nobody has confirmed one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from adaptfocus.pipelines.index.partitions import Partition, is_unlocated
from adaptfocus.trainers.inputs.run_index import run_partitions
from adaptfocus.trainers.settings.run import TrainConfig


class Unused(NamedTuple):
    """How many videos of an index a run's settings leave out."""

    unlocated: int  # `full`: videos that have a label without an interval, or have no intervals at all
    unlabelled: int  # videos without a label, if plan.unlabelled is left_out

    @property
    def videos(self) -> int:
        return self.unlocated + self.unlabelled


def find_unused(config: TrainConfig, table: pa.Table) -> list[int]:
    """The places of the videos that a run leaves out of a table with the columns labels and intervals, ascending.

    A video without labels shows none of the classes. Unless it is left out, it is a negative of all of them. Learning
    the order of clips in time (task=order) needs no labels.
    """
    if not _may_leave_out(config):
        return []
    is_full, leaves_out = config.focus.regime == "full", config.plan.unlabelled == "left_out"
    columns = (table.column(name).to_pylist() for name in ("labels", "intervals"))
    return [
        place
        for place, (labels, intervals) in enumerate(zip(*columns, strict=True))
        if (is_full and is_unlocated(labels, intervals) if labels else leaves_out)
    ]


def count_unused(config: TrainConfig, partitions: Iterable[Partition]) -> Unused:
    """How many videos of some partitions `find_unused` finds. No row is read."""
    if not _may_leave_out(config):
        return Unused(0, 0)
    is_full, leaves_out = config.focus.regime == "full", config.plan.unlabelled == "left_out"
    found = [(each.unlocated * is_full, each.unlabelled * leaves_out) for each in partitions]
    return Unused(sum(n for n, _ in found), sum(n for _, n in found))


def read_unused(config: TrainConfig, fingerprint: str) -> Unused:
    """How many videos a run leaves out of the snapshot of its index that has this fingerprint.

    Manifests are read only if the settings can leave any out, and rows never.
    """
    return count_unused(config, run_partitions(config, fingerprint) if _may_leave_out(config) else ())


def _may_leave_out(config: TrainConfig) -> bool:
    return config.task != "order" and (config.focus.regime == "full" or config.plan.unlabelled == "left_out")


def describe_unused(found: Unused, videos: int) -> str:
    """The line that says how many of an index's videos are left out, and why."""
    said = []
    if found.unlabelled:
        said.append(f"plan.unlabelled=left_out leaves out {found.unlabelled} of {videos} videos")
    if found.unlocated:
        said.append(
            f"focus.regime=full leaves out {found.unlocated} of {videos} videos, because nobody knows when their "
            "labels are true: they have a label without an interval"
        )
    return "; ".join(said)
