"""The ledger of an epoch that nobody has trained: scores of a model that is a hash, through the log's own functions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.published import PlanFacts, read_drawn
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, STEP_SCHEMA
from adaptfocus.trainers.runs.log import Commit, Run

BAGS_PER_COMMIT = 16_384
BAGS_PER_FAILURE = 20_000  # one bag of so many does not decode
METRICS = {"seconds": 60.0, "loss": 0.5}  # of a commit: a report asks for them
_COLUMNS = pa.schema([STEP_SCHEMA.field(name) for name in ("slot", "video_row", "label_ids", "clips")])


def train(run: Run, plan: PlanFacts, last: Commit | None, bags: int | None = None) -> Commit:
    """Commit an epoch, or its first bags, as a run does that has trained them -> the newest checkpoint."""
    lineage, _ = run.claim(1)
    end = plan.num_bags if bags is None else bags
    for first in range(0, end, BAGS_PER_COMMIT):
        cursor = min(first + BAGS_PER_COMMIT, end)
        folder = lineage.folder(plan.epoch, cursor)
        rows = [ledger_of(read_drawn(url, _COLUMNS, *part)) for url, *part in plan.slices(first, cursor)]
        lineage.write_ledger(folder, rows)
        last = lineage.commit(folder, plan.epoch, cursor, plan.num_bags, last, METRICS)
    assert last is not None
    return last


def ledger_of(bags: pa.Table) -> pa.Table:
    """Rows of LEDGER_SCHEMA for some bags of a plan."""
    bags = bags.combine_chunks()
    clips, labels = (bags.column(name).combine_chunks() for name in ("clips", "label_ids"))
    clip_counts, label_counts = (np.diff(each.offsets.to_numpy()) for each in (clips, labels))
    ids = clips.flatten().field("clip_id")
    slot, pairs = bags.column("slot").to_numpy(), int(label_counts.sum())
    failed = _uniform(slot) < 1 / BAGS_PER_FAILURE
    scores = (clip_counts * label_counts)[~failed]
    columns = {
        "slot": slot,
        "video_row": bags.column("video_row"),
        "ok": ~failed,
        "kind": np.where(failed, "decode_error", ""),
        "error": np.where(failed, "no frame of it can be decoded", ""),
        "clip_id": _lists(clip_counts, ids),
        "tau": _lists(clip_counts, clips.flatten().field("tau")),
        "label_ids": labels,
        "probability": _lists(np.where(failed, 0, clip_counts * label_counts), _uniform(np.arange(scores.sum()), slot)),
        "null_rank": _lists(label_counts, _uniform(np.arange(pairs), slot)),
        "null_variance": _lists(label_counts, np.full(pairs, 1 / 12)),
    }
    return pa.table({field.name: pa.array(columns[field.name]) if isinstance(columns[field.name], np.ndarray)
                     else columns[field.name] for field in LEDGER_SCHEMA}).cast(LEDGER_SCHEMA)  # fmt: skip


def _lists(lengths: np.ndarray, values: pa.Array | np.ndarray) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def _uniform(numbers: np.ndarray, slots: np.ndarray | None = None) -> np.ndarray:
    """A number in [0, 1) for each number (and the first of some slots), by Steele's splitmix64: float64."""
    base = 0 if slots is None or not len(slots) else int(slots[0]) << 24
    z = (numbers.astype(np.uint64) + np.uint64(base + 1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) / 2.0**64
