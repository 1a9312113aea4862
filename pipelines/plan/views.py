"""The plan of an evaluation: uniform views of every video."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.bags import Draws, bag_table
from adaptfocus.pipelines.plan.centers import center_ranges_seconds
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.schemas import NO_LABEL, EpochPlan


def plan_views(planner: Planner, clip: ClipConfig, num_views: int, crops: int = 1, first_slot: int = 0) -> EpochPlan:
    """N uniform views of every video, in the order of the index. Each view is `crops` clips of the same frames.

    Args:
        first_slot: the slot of the first video; those of a later partition follow on those of the ones before.
    """

    def bags(start: int, stop: int) -> pa.Table:
        places = np.arange(start, stop)
        centers = np.repeat(view_centers_seconds(planner, places, clip, num_views), crops, axis=1)
        draws = Draws(centers, np.full(centers.shape, NO_LABEL, np.int64))
        return bag_table(planner, None, places, places + first_slot, np.zeros(len(places), np.int64), draws, 0, clip)

    return EpochPlan(planner.table.num_rows, (), planner.max_labels, bags)


def view_centers_seconds(planner: Planner, places: np.ndarray, clip: ClipConfig, num_views: int) -> np.ndarray:
    """The middles of N uniform views of some videos, float64 [V, N]: from the earliest possible to the latest."""
    low, high = center_ranges_seconds(planner.table, places, clip)
    return np.linspace(low, high, num_views, axis=1) if num_views > 1 else ((low + high) / 2)[:, None]
