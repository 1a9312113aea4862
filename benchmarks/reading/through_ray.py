"""A plan through Ray Data, as a training worker consumes it."""

from __future__ import annotations

from collections.abc import Iterator

from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.pipelines.stream.on_ray import Decoding, bags_per_block, plan_dataset
from benchmarks.reading.corpus import BAGS_PER_BATCH, CLIPS_PER_BAG, shape_of


class OneProcess(Decoding):
    """One decoding process, where training has two on a core. The plain loop also has one, so wall times compare."""

    @property
    def tasks(self) -> int:
        return 1


def batches(
    plan: PlanFacts, decoding: Decoding = OneProcess(cores=1), shape: ClipShape | None = None
) -> Iterator[DecodedBatch]:
    """The batches of a plan, in blocks and batches as trainers/on_ray/train.py makes them."""
    shape = shape or shape_of(CLIPS_PER_BAG)
    dataset = plan_dataset(plan, shape, decoding, bags_per_block(BAGS_PER_BATCH, shape))
    for columns in dataset.iter_batches(batch_size=BAGS_PER_BATCH, batch_format="numpy", prefetch_batches=0):
        yield DecodedBatch(**columns)  # type: ignore[arg-type]
