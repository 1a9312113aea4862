"""A plan on the store: parts of Parquet, and one small JSON that names them.

Input: an EpochPlan. Does: writes parts first and `plan.json` last, so that a plan is there whole or not at all.
Output: PlanFacts, which says which rows of which part hold which slots; that is all a reading task is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from pipelines import storage
from pipelines.records import EpochPlan
from pipelines.tables import write_table

# One read task reads one part: more parts cost the coordinator about a millisecond each, larger ones delay the
# first batch of an epoch.
BAGS_PER_PART = 2000


@dataclass(frozen=True)
class PlanFacts:
    """An immutable plan at `folder_url`: its length, its parts' lengths, and what the next epoch begins with."""

    folder_url: str
    epoch: int
    num_bags: int
    part_bags: tuple[int, ...]
    carried: tuple[int, ...]
    max_labels: int

    def slices(self, first_slot: int) -> Iterator[tuple[str, int, int]]:
        """(part URL, first row, end row) of all slots from `first_slot` on, in order."""
        begin = 0
        for number, bags in enumerate(self.part_bags):
            if begin + bags > first_slot:
                yield part_url(self.folder_url, number), max(0, first_slot - begin), bags
            begin += bags


def part_url(folder_url: str, number: int) -> str:
    return storage.join(folder_url, f"part-{number:05d}.parquet")


def write_plan(plan: EpochPlan, folder_url: str, epoch: int, bags_per_batch: int) -> PlanFacts:
    """Write a plan in parts of whole global batches; writing the same plan again changes nothing."""
    bags_per_part = max(1, BAGS_PER_PART // bags_per_batch) * bags_per_batch
    starts = range(0, plan.table.num_rows, bags_per_part)
    parts = [plan.table.slice(start, bags_per_part) for start in starts]
    for number, part in enumerate(parts):
        write_table(part, part_url(folder_url, number), row_group_size=256)
    facts = PlanFacts(
        folder_url, epoch, plan.table.num_rows, tuple(p.num_rows for p in parts), plan.carried, plan.max_labels
    )
    values = asdict(facts)
    values.pop("folder_url")  # a run may be copied to another place
    storage.write_bytes(storage.join(folder_url, "plan.json"), json.dumps(values).encode())
    return facts


def read_plan(folder_url: str) -> PlanFacts | None:
    """The plan at a folder, or None if it has not been written (whole)."""
    url = storage.join(folder_url, "plan.json")
    if not storage.exists(url):
        return None
    values = json.loads(storage.read_bytes(url))
    return PlanFacts(
        folder_url, values["epoch"], values["num_bags"], tuple(values["part_bags"]), tuple(values["carried"]),
        values["max_labels"],
    )  # fmt: skip
