"""Plans on the store: Parquet parts, and one small JSON that names them.

The parts of each window are written first and `plan.json` last, so that a reader finds a whole plan or none. PlanFacts
says which rows of which part hold which slots. A part says what was drawn; `read_bags` finds the packets. `follow`
moves from one epoch's plan to the next as they are published.

    RUN/epochs/0007/plan/   the plan
    RUN/epochs/0007/head/   its first batches, drawn one epoch earlier: they are read while epoch 6 still trains
                            (docs/decisions/0008)
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.index.packets import read_packets
from adaptfocus.pipelines.plan.passes import Cursor
from adaptfocus.pipelines.plan.resolve import RESOLVE_SCHEMA, moved_packets, resolve
from adaptfocus.pipelines.schemas import DRAWN_CLIP_TYPE, EpochPlan
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.tables import read_table, write_table

# Version 3: light rows, in windows. Earlier ones held packets; version 1 does not state its number.
PLAN_VERSION = 3
# One task writes one part. Larger parts would take more memory.
BAGS_PER_PART = 2048
# Bags in one look-up, which is one block of plan rows in Ray: 0.2 MB at 250 packets a clip.
BAGS_PER_CHUNK = 64
# Batches at the beginning of an epoch that are looked up one by one: as many as a head usually has.
LEAD_CHUNKS = 4
CHUNKS_PER_PIECE = 1024  # listed at once
# Chunks that are listed as one where a plan may or may not have grown: an empty one costs Ray as much as a full one.
WIDE_CHUNKS = 16
MOST_BAGS_AT_ONCE = 1024  # that are looked up of such a chunk
END_OF_SLOTS = 1 << 36  # a clip's id holds no more
_FIX = "remove it, and it is drawn again"
# The wait between two looks for a plan that does not exist yet. An epoch may take hours, so the wait may last hours.
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.02, 0.5


@dataclass(frozen=True)
class Window:
    """Consecutive slots whose videos lie in a few partitions of the index (docs/decisions/0028)."""

    uids: tuple[int, ...]  # of the partitions
    first_slot: int
    bags: int


@dataclass(frozen=True)
class PlanFacts:
    """An immutable plan at `folder_url`: its windows, and the videos that open the next epoch.

    The first window of a run's plan has the bags of the head and those carried over, whatever their partitions.
    """

    folder_url: str
    epoch: int
    num_bags: int
    windows: tuple[Window, ...]  # in the order of slots, without gaps
    carried: tuple[int, ...]
    max_labels: int
    bags_per_part: int = BAGS_PER_PART
    # The bags of each part, numbered through, of a plan that an earlier version wrote: it had no windows.
    old_parts: tuple[int, ...] | None = None
    # If epochs are stretches of sequences of passes: where the next one begins in that of each index.
    next: tuple[Cursor, ...] = ()
    num_classes: int | None = None  # that its videos can have, if the run's head has room for more

    def slices(self, first_slot: int = 0, end_slot: int | None = None) -> Iterator[tuple[str, int, int]]:
        """(part URL, first row, end row) of all slots from `first_slot` to `end_slot` or the end, in order."""
        end_slot = self.num_bags if end_slot is None else min(end_slot, self.num_bags)
        for url, begin, bags in self._parts(first_slot, end_slot):
            if bags and begin + bags > first_slot and begin < end_slot:
                yield url, max(0, first_slot - begin), min(bags, end_slot - begin)

    def _parts(self, first_slot: int, end_slot: int) -> Iterator[tuple[str, int, int]]:
        """(URL, first slot, bags) of the parts around some slots."""
        if self.old_parts is not None:
            ends = np.cumsum(self.old_parts).tolist()
            for number, (bags, end) in enumerate(zip(self.old_parts, ends, strict=True)):
                yield store.join(self.folder_url, f"part-{number:05d}.parquet"), end - bags, bags
            return
        begins = [window.first_slot for window in self.windows]
        for at in range(max(bisect_right(begins, first_slot) - 1, 0), bisect_left(begins, end_slot)):
            window = self.windows[at]
            for part, begin in enumerate(range(0, window.bags, self.bags_per_part)):
                bags = min(self.bags_per_part, window.bags - begin)
                yield part_url(self.folder_url, at, part), window.first_slot + begin, bags


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
    may_grow: bool = False  # a plan may have more, because the run follows its index

    def chunks(self) -> Iterator[Chunk]:
        """The chunks in order. The first ones of an epoch are single batches, so that a head can supply them."""
        for epoch, ends in self.pieces():
            yield from (Chunk(epoch, *slots) for slots in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, where its chunks begin and where the last one ends, int64 [C + 1]) of CHUNKS_PER_PIECE chunks.

        A large corpus has millions of chunks an epoch, and nobody holds them all. Nothing here waits for a plan: Ray
        passes on what is listed only when all of it is. So where plans may grow, wide chunks stand for what may come.
        """
        bags, lead_end = max(1, BAGS_PER_CHUNK // self.bags_per_batch), LEAD_CHUNKS * self.bags_per_batch
        step = bags * self.bags_per_batch
        for epoch in range(self.epoch, self.epochs):
            slot = self.first_slot if epoch == self.epoch else 0
            if slot < min(lead_end, self.max_bags):
                ends = np.arange(slot, min(lead_end, self.max_bags) + self.bags_per_batch, self.bags_per_batch)
                yield epoch, ends
                slot = int(ends[-1])
            while slot < self.max_bags:
                count = min(CHUNKS_PER_PIECE, -(-(self.max_bags - slot) // step))
                yield epoch, slot + step * np.arange(count + 1)
                slot += count * step
            if self.may_grow:  # as much again, and then the rest
                wide = step * WIDE_CHUNKS
                yield epoch, np.append(slot + wide * np.arange(-(-self.max_bags // wide) + 1), END_OF_SLOTS)


@lru_cache(maxsize=4)
def _published(folder_url: str) -> PlanFacts:
    """A plan that exists. It never changes, and a stream asks for it with each chunk."""
    plan = read_plan(folder_url)
    if plan is None:
        raise LookupError(folder_url)  # which is not kept: it may exist at the next look
    return plan


def _find(folder_url: str) -> PlanFacts | None:
    with suppress(LookupError):
        return _published(folder_url)


def look_for(run_url: str, chunk: Chunk) -> Iterator[list[tuple[str, int, int]] | None]:
    """The slices of the plan or head that hold a chunk's slots; None, at growing intervals, until one exists."""
    pause_seconds, is_first = MIN_POLL_SECONDS, True
    while True:
        plan = _find(epoch_url(run_url, chunk.epoch, "plan"))
        if plan is None and is_first:  # a head exists before the first look, or never
            head = _find(epoch_url(run_url, chunk.epoch, "head"))
            plan = head if head and head.num_bags >= chunk.end_slot else None
        if plan:
            yield [*_looked_up_at_once(plan.slices(chunk.first_slot, chunk.end_slot))]
            return
        yield None
        time.sleep(pause_seconds)
        pause_seconds, is_first = min(1.5 * pause_seconds, MAX_POLL_SECONDS), False


def _looked_up_at_once(slices: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    for url, first, end in slices:
        for start in range(first, end, MOST_BAGS_AT_ONCE):
            yield url, start, min(start + MOST_BAGS_AT_ONCE, end)


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


def part_url(folder_url: str, window: int, part: int) -> str:
    return store.join(folder_url, f"part-{window:06d}-{part:05d}.parquet")


def write_window(folder_url: str, window: int, parts: Iterable[pa.Table]) -> None:
    """Write the parts of one window. Each has BAGS_PER_PART bags, except the last."""
    for number, part in enumerate(parts):
        write_table(part, part_url(folder_url, window, number), row_group_size=BAGS_PER_CHUNK)


def publish(facts: PlanFacts) -> PlanFacts:
    """Write plan.json, which makes the plan exist. All parts are written by then."""
    values = asdict(facts)
    values = {name: value for name, value in values.items() if name != "num_classes" or value is not None}
    for name in ("folder_url", "old_parts", "next"):  # a run may be copied to another place
        values.pop(name)
    if facts.next:
        cursors = [each.to_json() for each in facts.next]
        values["next"] = cursors if len(cursors) > 1 else cursors[0]
    values["windows"] = [[list(w.uids), w.first_slot, w.bags] for w in facts.windows]
    values["version"] = PLAN_VERSION
    store.write_bytes(store.join(facts.folder_url, "plan.json"), json.dumps(values).encode())
    return facts


def write_plan(plan: EpochPlan, folder_url: str, epoch: int) -> PlanFacts:
    """Draw a plan and write it as one window, one part after the other: only one is in memory.

    Writing the same plan again changes nothing.
    """
    write_window(folder_url, 0, plan.tables(BAGS_PER_PART))
    windows = (Window((), 0, plan.num_bags),)
    return publish(PlanFacts(folder_url, epoch, plan.num_bags, windows, plan.carried, plan.max_labels, BAGS_PER_PART))


def read_plan(folder_url: str) -> PlanFacts | None:
    """The plan in a folder; None if it has not been written as a whole.

    Raises:
        InputError: a newer version of adaptfocus wrote it, or it is damaged.
    """
    try:
        values = strict_json.read(store.join(folder_url, "plan.json"), _FIX)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    if values.get("version", 1) > PLAN_VERSION:
        raise InputError(
            f"{folder_url} is a plan of version {values['version']}, newer than version {PLAN_VERSION}, the latest "
            "that this adaptfocus knows; update adaptfocus to resume this run"
        )
    is_old = values.get("version", 1) < PLAN_VERSION
    try:
        facts = PlanFacts(
            folder_url,
            values["epoch"],
            values["num_bags"],
            tuple(Window(tuple(uids), first, bags) for uids, first, bags in values.get("windows", ())),
            tuple(values["carried"]),
            values["max_labels"],
            values.get("bags_per_part", BAGS_PER_PART),
            tuple(values["part_bags"]) if is_old else None,
            tuple(Cursor.from_json(each) for each in _several(values.get("next", []))),
            values.get("num_classes"),
        )
        _check(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{store.join(folder_url, 'plan.json')} is damaged ({error!r:.200}); {_FIX}") from None
    return facts


def _several(values: Any) -> list[Any]:
    """The cursors of a plan. That of a run on one index stands alone."""
    return [values] if isinstance(values, dict) else list(values)


def _check(facts: PlanFacts) -> None:
    """Raises ValueError if a number is none, or the slots of windows overlap or have gaps."""
    bags = facts.old_parts or tuple(window.bags for window in facts.windows)
    rows = (*facts.carried, *(uid for window in facts.windows for uid in window.uids))
    known = () if facts.num_classes is None else (facts.num_classes,)
    for number in (facts.epoch, facts.num_bags, facts.max_labels, facts.bags_per_part - 1, *known, *bags, *rows):
        if type(number) is not int or number < 0:
            raise ValueError(f"{number!r} is not a count")
    begins = [window.first_slot for window in facts.windows]
    # A window whose videos are all carried over has no slot, and begins after the last one.
    ends = zip(begins, accumulate(bags, initial=0), bags, strict=False)
    if sum(bags) != facts.num_bags or begins != sorted(begins) or any(own and at != end for at, end, own in ends):
        raise ValueError(f"its {len(bags)} parts do not have the slots from 0 to {facts.num_bags}")


def read_bags(url: str, start: int = 0, stop: int | None = None, index_urls: Sequence[str] = ()) -> pa.Table:
    """Rows [start, stop) of a part of a plan with the packets of their clips (DECODE_SCHEMA).

    Args:
        index_urls: where the indexes of the run are now; none: where they were when the plan was drawn.

    Raises:
        InputError: an earlier version wrote the plan, or the packets are not where the index says.
        StorageError: the plan or the packets cannot be read.
    """
    rows = read_table(url, RESOLVE_SCHEMA, start, stop)
    return find_packets(moved_packets(rows, index_urls) if index_urls else rows)


def find_packets(rows: pa.Table) -> pa.Table:
    """Rows of a plan (RESOLVE_SCHEMA, or more columns) with the packets of their clips (DECODE_SCHEMA).

    Raises:
        InputError, StorageError: as `read_packets`.
    """
    return resolve(rows, read_packets(rows))


def read_drawn(url: str, schema: pa.Schema, start: int = 0, stop: int | None = None) -> pa.Table:
    """Rows [start, stop) of a part of a plan, as they were drawn. Plans of earlier versions are read as well.

    Args:
        schema: columns of PLAN_SCHEMA that plans have always had, such as STEP_SCHEMA.
    """
    return read_table(url, schema, start, stop, upgrade=_with_drawn_clips)


def _with_drawn_clips(table: pa.Table) -> pa.Table:
    """Clips without the frames that earlier versions listed."""
    at = table.schema.get_field_index("clips")
    if at < 0 or table.schema.field(at).type.value_type.get_field_index("frame_pts") < 0:
        return table
    lists = table.column(at).combine_chunks()
    clips = pa.StructArray.from_arrays(
        [lists.flatten().field(field.name) for field in DRAWN_CLIP_TYPE], fields=list(DRAWN_CLIP_TYPE)
    )
    drawn = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lists.value_lengths().to_pylist()]), pa.int32()), clips)
    return table.set_column(at, "clips", drawn)
