"""Weights of videos, from which bags are drawn by priority (pipelines/plan/priority.py).

A weight is a + b e in epoch e, so that videos become stale without being written again. So is the sum of a partition.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.pipelines.saliency.scores import Seen, scores_of
from adaptfocus.pipelines.schemas import NEVER_VISITED, PRIORITY_SCHEMA

UNIT = 1 << 16  # the weight of a video whose score is 1, which is also that of one that was never trained


class Weighed(NamedTuple):
    """The weights of a partition's videos."""

    table: pa.Table  # PRIORITY_SCHEMA
    weight: int  # their sum in epoch e is weight + slope * e
    slope: int


def weigh_videos(priority: str, seen: Seen, before: pa.Table | None, epoch: int, usable: np.ndarray) -> Weighed:
    """The weights of a partition's videos after an epoch.

    Args:
        before: those before the epoch; None: no video was ever trained.
        epoch: that was trained.
        usable: bool [V], whether a video may be planned.

    Raises:
        ConfigError: as `scores_of`.
    """
    count = len(seen.video_row)
    last = np.full(count, NEVER_VISITED, np.int32)
    if before is not None:  # videos may have left the partition since
        kept = before.filter(pc.field("video_row").isin(seen.video_row))
        last[np.searchsorted(seen.video_row, kept["video_row"].to_numpy())] = kept["seen_epoch"].to_numpy()
    last[np.searchsorted(seen.video_row, seen.ledger["video_row"].to_numpy())] = epoch
    weight = np.where(usable, UNIT, 0)
    if priority != "stale":
        trained = np.where(usable, np.rint(UNIT * scores_of(priority, seen)), 0)
        weight = np.where(last == NEVER_VISITED, weight, trained).astype(np.int64)
    table = pa.Table.from_arrays([pa.array(seen.video_row), pa.array(weight), pa.array(last)], schema=PRIORITY_SCHEMA)
    if priority == "stale":
        return Weighed(table, -int(last[usable].astype(np.int64).sum()), int(usable.sum()))
    return Weighed(table, int(weight.sum()), 0)


def weights_in(priority: str, table: pa.Table | None, video_rows: np.ndarray, epoch: int) -> np.ndarray:
    """The weights of some videos of a partition in an epoch, int64 [V].

    Args:
        table: PRIORITY_SCHEMA of the partition; None: no video was ever trained.
    """
    if table is None:
        return np.full(len(video_rows), weight_of_new(priority, epoch))
    places = np.searchsorted(table["video_row"].to_numpy(), video_rows)
    if priority == "stale":
        return epoch - table["seen_epoch"].to_numpy()[places].astype(np.int64)
    return table["weight"].to_numpy()[places]


def weight_of_new(priority: str, epoch: int) -> int:
    """The weight of a video that was never trained."""
    return epoch - NEVER_VISITED if priority == "stale" else UNIT
