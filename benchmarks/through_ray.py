"""A plan through Ray Data, as a training worker consumes it."""

from __future__ import annotations

from benchmarks.corpus import shape_of
from pipelines.plan_store import PlanFacts
from pipelines.ray_data import plan_dataset

CLIPS_PER_VIDEO = 4
BAGS_PER_BATCH = 2


def consumed(plan: PlanFacts, decode_workers: int = 1) -> int:
    """Run through all batches of a plan; the number of clips."""
    dataset = plan_dataset(plan, shape_of(CLIPS_PER_VIDEO), decode_workers)
    clips = 0
    for batch in dataset.iter_torch_batches(batch_size=BAGS_PER_BATCH, prefetch_batches=2):
        assert bool(batch["ok"].all())
        clips += batch["frames"].shape[0] * batch["frames"].shape[1]
    return clips
