"""A plan through Ray Data, as a training worker consumes it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.corpus import BAGS_PER_BATCH, CLIPS_PER_BAG, shape_of
from pipelines.plan_store import PlanFacts
from pipelines.ray_data import plan_dataset
from pipelines.records import ClipBatch


def batches(plan: PlanFacts, decode_workers: int = 1) -> Iterator[ClipBatch]:
    """The batches of a plan, decoded by `decode_workers` tasks at a time."""
    dataset = plan_dataset(plan, shape_of(CLIPS_PER_BAG), decode_workers)
    for columns in dataset.iter_batches(batch_size=BAGS_PER_BATCH, batch_format="numpy", prefetch_batches=2):
        yield ClipBatch(**columns)  # type: ignore[arg-type]
