"""The proof of what was trained, only from the store.

Each finished epoch's plan is compared with the ledger of its last commit, and the clips are counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import STEP_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.runs.log import Commit, Run


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
        wanted = {
            clip["clip_id"]
            for url, start, stop in plan.slices(0)
            for bag in read_table(url, STEP_SCHEMA, start, stop).select(["clips"]).to_pylist()
            for clip in bag["clips"]
        }
        seen: Counter[int] = Counter()
        for bag in run.ledger(commit).to_pylist():
            seen.update(bag["clip_id"])
            undecodable += 0 if bag["ok"] else len(bag["clip_id"])
        epochs += 1
        planned += len(wanted)
        lost += len(wanted - set(seen))
        twice += sum(1 for count in seen.values() if count > 1) + len(set(seen) - wanted)
        trained += len(wanted & set(seen))
    starts = [e for e in entries if e.kind == "start"]
    return Audit(
        epochs, planned, trained - undecodable, lost, twice, undecodable, len(starts), tuple(e.workers for e in starts)
    )
