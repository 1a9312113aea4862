"""Which videos the regime `full` can learn from: those of which it is known when each of their labels is true.

Input: labels and intervals of an index. Does: finds the videos that have a label without an interval.
Output: their rows, which `full` leaves out, and a line that says how many and why.

Full takes a clip outside every interval of a label as a negative of it. Of a label without an interval nobody knows
when it is true: its clips would all be such negatives, and none of them has been seen to be one.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from trainers.config import TrainConfig


class WithoutTimes(NamedTuple):
    """Rows of an index, in order, that have a label of which no interval is known."""

    not_annotated: list[int]  # their intervals are null: nobody has looked
    label_left_out: list[int]  # they have a list of intervals, maybe an empty one, that lacks one of their labels

    @property
    def rows(self) -> list[int]:
        return sorted(self.not_annotated + self.label_left_out)


def without_times(config: TrainConfig, table: pa.Table) -> WithoutTimes:
    """What `full` leaves out of an index with the columns labels and intervals; nothing in the other regimes.

    A video without labels shows none of the classes: it is a negative of all, and stays.
    """
    found = WithoutTimes([], [])
    if config.focus.regime != "full" or config.task == "order":
        return found
    columns = (table.column(name).to_pylist() for name in ("labels", "intervals"))
    for row, (labels, intervals) in enumerate(zip(*columns, strict=True)):
        if labels and intervals is None:
            found.not_annotated.append(row)
        elif set(labels) - {each["label"] for each in intervals or []}:
            found.label_left_out.append(row)
    return found


def said_of(left_out: WithoutTimes, videos: int) -> str:
    """The line that names how many of an index's videos `full` leaves out, and why."""
    why = []
    if left_out.not_annotated:
        why.append(f"{len(left_out.not_annotated)} have no intervals")
    if left_out.label_left_out:
        why.append(f"{len(left_out.label_left_out)} have a label without an interval")
    return (
        f"focus.regime=full leaves out {len(left_out.rows)} of {videos} videos, because nobody knows when their labels "
        f"are true: {', '.join(why)}"
    )
