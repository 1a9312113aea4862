"""Which videos of an index a run does not train on.

Input: labels and intervals of an index. Does: finds the videos that the settings leave out of every plan.
Output: their rows, and a line that says how many and why.

Full takes a clip outside every interval of a label as a negative of it. Of a label without an interval nobody knows
when it is true: its clips would all be such negatives, and none of them has been seen to be one.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from adaptfocus.trainers.settings.run import TrainConfig


class Unused(NamedTuple):
    """Rows of an index, in order."""

    not_annotated: list[int]  # `full`: they have a label, and their intervals are null: nobody has looked
    label_left_out: list[int]  # `full`: their list of intervals, maybe an empty one, lacks one of their labels
    unlabelled: list[int]  # they have no label, and plan.unlabelled is left_out

    @property
    def rows(self) -> list[int]:
        return sorted(self.not_annotated + self.label_left_out + self.unlabelled)


def find_unused(config: TrainConfig, table: pa.Table) -> Unused:
    """What a run leaves out of an index with the columns labels and intervals.

    A video without labels shows none of the classes: unless it is to be left out, it is a negative of all. To learn how
    clips are played (task=order), no labels are needed.
    """
    found = Unused([], [], [])
    if config.task == "order":
        return found
    is_full, keeps_all = config.focus.regime == "full", config.plan.unlabelled == "negative"
    if not is_full and keeps_all:
        return found
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


def describe_unused(found: Unused, videos: int) -> str:
    """The line that names how many of an index's videos are left out, and why."""
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
