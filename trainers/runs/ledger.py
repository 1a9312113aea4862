"""The proof of what was trained, only from the store.

Each finished epoch's plan is compared with the ledger of its last commit, and the clips are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.runs.log import Commit, Run

_CLIPS = pa.schema([PLAN_SCHEMA.field("clips")])


@dataclass(frozen=True)
class Audit:
    """Counts of the clips of all epochs that the run has finished."""

    epochs: int
    clips_planned: int
    clips_trained: int  # in the gradient of the lineage's weights, counted once each
    clips_lost: int  # planned, but in no ledger file
    clips_twice: int  # in more than one ledger row
    clips_undecodable: int  # kept their slots, without weight
    claims: int  # how often a process claimed the run: 1 + resumes
    workers: tuple[int, ...]  # of each claim, in order


def last_commits(entries: list[Commit]) -> dict[int, Commit]:
    """The newest checkpoint of each epoch."""
    return {e.epoch: e for e in entries if e.kind == "checkpoint"}


def audit(run: Run) -> Audit:
    """Count every clip of every finished epoch. Each must have been trained exactly once."""
    entries = run.entries()
    epochs = planned = trained = lost = twice = undecodable = 0
    for epoch, commit in sorted(last_commits(entries).items()):
        plan = read_plan(run.epoch_url(epoch, "plan"))
        if plan is None or commit.cursor != plan.num_bags:
            continue
        wanted = np.unique(np.concatenate([_planned(*part) for part in plan.slices(0)]))
        ledger = run.ledger(commit)
        seen, counts = np.unique(_flat(ledger["clip_id"]), return_counts=True)
        undecodable += len(_flat(ledger.filter(pa.array(~ledger["ok"].to_numpy()))["clip_id"]))
        both = len(np.intersect1d(wanted, seen, assume_unique=True))
        epochs += 1
        planned += len(wanted)
        lost += len(wanted) - both
        twice += int((counts > 1).sum()) + len(seen) - both
        trained += both
    starts = [e for e in entries if e.kind == "start"]
    return Audit(
        epochs, planned, trained - undecodable, lost, twice, undecodable, len(starts), tuple(e.workers for e in starts)
    )


def _planned(url: str, start: int, stop: int) -> np.ndarray:
    """The ids of the clips of a slice of a plan. Nothing else of the plan is read."""
    clips = read_table(url, _CLIPS, start, stop)["clips"].combine_chunks().flatten()
    return clips.field("clip_id").to_numpy()


def _flat(lists: pa.ChunkedArray) -> np.ndarray:
    return lists.combine_chunks().flatten().to_numpy()
