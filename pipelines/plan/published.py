"""Plans on the store: Parquet parts, and one small JSON that names them.

The parts are written first and `plan.json` last, so that a reader finds a whole plan or none. PlanFacts says which
rows of which part hold which slots. `follow` moves from one epoch's plan to the next as they are published.

    RUN/epochs/0007/plan/   the plan
    RUN/epochs/0007/head/   its first batches, drawn one epoch earlier: they are read while epoch 6 still trains
                            (docs/decisions/0008)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.schemas import SPAN_TYPE, EpochPlan
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.pipelines.video.packets import Packets, encode_packets

# Version 2: the packets of a span are one blob. In version 1, which the file does not state, they are lists of numbers.
PLAN_VERSION = 2
# One read task reads one part. Each part costs the coordinator about a millisecond. Larger parts delay the first batch
# of an epoch.
BAGS_PER_PART = 2000
# Bags in one look-up, which is one block of plan rows in Ray: 0.2 MB at 250 packets a clip.
BAGS_PER_CHUNK = 64
# Batches at the beginning of an epoch that are looked up one by one: as many as a head usually has.
LEAD_CHUNKS = 4
# The wait between two looks for a plan that does not exist yet. An epoch may take hours, so the wait may last hours.
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.02, 0.5


@dataclass(frozen=True)
class PlanFacts:
    """An immutable plan at `folder_url`: its length, its parts' lengths, and the rows that open the next epoch."""

    folder_url: str
    epoch: int
    num_bags: int
    part_bags: tuple[int, ...]
    carried: tuple[int, ...]
    max_labels: int

    def slices(self, first_slot: int = 0, end_slot: int | None = None) -> Iterator[tuple[str, int, int]]:
        """(part URL, first row, end row) of all slots from `first_slot` to `end_slot` or the end, in order."""
        end_slot = self.num_bags if end_slot is None else end_slot
        begin = 0
        for number, bags in enumerate(self.part_bags):
            if begin + bags > first_slot and begin < end_slot:
                yield part_url(self.folder_url, number), max(0, first_slot - begin), min(bags, end_slot - begin)
            begin += bags


def epoch_url(run_url: str, epoch: int, *parts: str) -> str:
    """A place in the folder of one epoch of a run."""
    return store.join(run_url, "epochs", f"{epoch:04d}", *parts)


class Chunk(NamedTuple):
    """Slots [first_slot, end_slot) of an epoch, looked up at once. It may reach beyond the end of its plan."""

    epoch: int
    first_slot: int
    end_slot: int


@dataclass(frozen=True)
class Stretch:
    """The plans of a run from (epoch, slot) to the end of its last epoch. Most of them are not drawn yet."""

    run_url: str
    epoch: int
    first_slot: int
    epochs: int
    bags_per_batch: int
    max_bags: int  # the most bags of any plan: one for each video, and one batch carried over

    def chunks(self) -> Iterator[Chunk]:
        """The chunks in order. The first ones of an epoch are single batches, so that a head can supply them."""
        for epoch in range(self.epoch, self.epochs):
            slot = self.first_slot if epoch == self.epoch else 0
            while slot < self.max_bags:
                is_lead = slot < LEAD_CHUNKS * self.bags_per_batch
                bags = (1 if is_lead else max(1, BAGS_PER_CHUNK // self.bags_per_batch)) * self.bags_per_batch
                yield Chunk(epoch, slot, slot + bags)
                slot += bags


def look_for(run_url: str, chunk: Chunk) -> Iterator[list[tuple[str, int, int]] | None]:
    """The slices of the plan or head that hold a chunk's slots; None, at growing intervals, until one exists."""
    pause_seconds, is_first = MIN_POLL_SECONDS, True
    while True:
        plan = read_plan(epoch_url(run_url, chunk.epoch, "plan"))
        if plan is None and is_first:  # a head exists before the first look, or never
            head = read_plan(epoch_url(run_url, chunk.epoch, "head"))
            plan = head if head and head.num_bags >= chunk.end_slot else None
        if plan:
            yield list(plan.slices(chunk.first_slot, chunk.end_slot))
            return
        yield None
        time.sleep(pause_seconds)
        pause_seconds, is_first = min(1.5 * pause_seconds, MAX_POLL_SECONDS), False


def wait_for_chunk(run_url: str, chunk: Chunk) -> list[tuple[str, int, int]]:
    """The slices of a chunk, as soon as they exist."""
    return next(slices for slices in look_for(run_url, chunk) if slices is not None)


def follow(stretch: Stretch) -> Iterator[tuple[str, int, int] | None]:
    """Slices of the plans of a run, one after the other as they are published.

    While the next slice does not exist yet, each call waits a moment and gives None. A caller that holds bags back to
    fill a buffer must release them then.
    """
    for chunk in stretch.chunks():
        for slices in look_for(stretch.run_url, chunk):
            yield from [None] if slices is None else slices


def part_url(folder_url: str, number: int) -> str:
    return store.join(folder_url, f"part-{number:05d}.parquet")


def write_plan(plan: EpochPlan, folder_url: str, epoch: int, bags_per_batch: int) -> PlanFacts:
    """Draw a plan and write it, one part of whole global batches after the other: only one is in memory.

    Writing the same plan again changes nothing.
    """
    bags_per_part = max(1, BAGS_PER_PART // bags_per_batch) * bags_per_batch
    part_bags = []
    for number, part in enumerate(plan.tables(bags_per_part)):
        write_table(part, part_url(folder_url, number), row_group_size=BAGS_PER_CHUNK)
        part_bags.append(part.num_rows)
    facts = PlanFacts(folder_url, epoch, plan.num_bags, tuple(part_bags), plan.carried, plan.max_labels)
    values = asdict(facts)
    values.pop("folder_url")  # a run may be copied to another place
    values["version"] = PLAN_VERSION
    store.write_bytes(store.join(folder_url, "plan.json"), json.dumps(values).encode())
    return facts


def read_plan(folder_url: str) -> PlanFacts | None:
    """The plan in a folder; None if it has not been written as a whole.

    Raises:
        InputError: a newer version of adaptfocus wrote it, or it is damaged.
    """
    try:
        values = strict_json.read(store.join(folder_url, "plan.json"), "remove it, and it is drawn again")
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    if values.get("version", 1) > PLAN_VERSION:
        raise InputError(
            f"{folder_url} is a plan of version {values['version']}, newer than version {PLAN_VERSION}, the latest "
            "that this adaptfocus knows; update adaptfocus to resume this run"
        )
    return PlanFacts(
        folder_url, values["epoch"], values["num_bags"], tuple(values["part_bags"]), tuple(values["carried"]),
        values["max_labels"],
    )  # fmt: skip


def read_bags(url: str, schema: pa.Schema, start: int = 0, stop: int | None = None) -> pa.Table:
    """Rows [start, stop) of a part of a plan, upgraded to this version if an earlier one wrote it.

    Args:
        schema: PLAN_SCHEMA or some columns of it.

    Raises:
        InputError, StorageError: as `read_table`.
    """
    return read_table(url, schema, start, stop, upgrade=_with_blobs)


def _with_blobs(table: pa.Table) -> pa.Table:
    """A part of a plan in which the packets of each span are a blob."""
    at = table.schema.get_field_index("spans")
    if at < 0 or table.schema.field(at).type.value_type.get_field_index("packets") >= 0:
        return table
    spans = [[_with_blob(span) for span in of_bag] for of_bag in table["spans"].to_pylist()]
    return table.set_column(at, "spans", pa.array(spans, pa.list_(SPAN_TYPE)))


def _with_blob(span: dict[str, Any]) -> dict[str, Any]:
    count = len(span["packet_pts"])
    names = ("packet_offset_bytes", "packet_size_bytes", "packet_pts", "packet_dts")
    offset, size, pts, dts = (np.array(span[name], np.int64) for name in names)
    # The earliest plans do not say which packets are keys: every span begins with one. They also do not say whether a
    # span continues another.
    is_key = span.get("packet_is_key") or [place == 0 for place in range(count)]
    return {
        "offset_bytes": span["offset_bytes"],
        "size_bytes": span["size_bytes"],
        "packets": encode_packets(Packets(offset, size, pts, dts, np.array(is_key, bool))),
        "continues": bool(span.get("continues")),
    }
