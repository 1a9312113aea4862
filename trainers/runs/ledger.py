"""The proof of what was trained, only from the store.

Each finished epoch's plan is compared with the ledger of its last commit, and the clips are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.runs.ledger_files import LedgerFile, read_ledger
from adaptfocus.trainers.runs.log import Commit, Run

BAGS_AT_ONCE = 16384
TASK_BAGS = 131_072  # 1 s of CPU
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


def audit(run: Run, over: Over = in_this_process) -> Audit:
    """Count every clip of every finished epoch. Each must have been trained exactly once.

    Slots are compared some files of the ledger at a time, so memory does not grow with an epoch.

    Args:
        over: what does the counting, TASK_BAGS bags or more a task.
    """
    entries = run.entries()
    epochs, total = 0, np.zeros(5, np.int64)
    for epoch, commit in sorted(last_commits(entries).items()):
        plan = read_plan(run.epoch_url(epoch, "plan"))
        if plan is None or commit.cursor != plan.num_bags:
            continue
        epochs += 1
        stretches = (
            _Stretch(run.url, tuple(files), tuple(plan.slices(files[0].first_slot, files[-1].end_slot)))
            for files in _stretches(run.ledger_files(commit))
        )
        total = sum(over(_tasks(stretches), _count), total)
    planned, trained, lost, twice, undecodable = total.tolist()
    starts = [e for e in entries if e.kind == "start"]
    workers = tuple(e.workers for e in starts)
    return Audit(epochs, planned, trained - undecodable, lost, twice, undecodable, len(starts), workers)


@dataclass(frozen=True)
class _Stretch:
    """Consecutive slots of an epoch: where they are planned, and where they are trained."""

    run_url: str
    files: tuple[LedgerFile, ...]
    slices: tuple[tuple[str, int, int], ...]  # of the plan


def _stretches(files: list[LedgerFile]) -> Iterator[list[LedgerFile]]:
    """Files of consecutive slots. They are whole commits with at least BAGS_AT_ONCE bags, except the last."""
    found: list[LedgerFile] = []
    for file in files:
        if found and file.first_slot >= found[0].first_slot + BAGS_AT_ONCE and file.first_slot >= found[-1].end_slot:
            yield found
            found = []
        found.append(file)
    if found:
        yield found


def _tasks(stretches: Iterable[_Stretch]) -> list[list[_Stretch]]:
    """Stretches in groups of at least TASK_BAGS bags, except the last: a small epoch is one task."""
    tasks: list[list[_Stretch]] = []
    bags = TASK_BAGS
    for each in stretches:
        if bags >= TASK_BAGS:
            tasks.append([])
            bags = 0
        tasks[-1].append(each)
        bags += each.files[-1].end_slot - each.files[0].first_slot
    return tasks


def _count(stretches: list[_Stretch]) -> np.ndarray:
    return sum(map(_counted, stretches), np.zeros(5, np.int64))


def _counted(stretch: _Stretch) -> np.ndarray:
    """Clips planned, trained, lost, trained twice and undecodable, int64 [5], of the slots of a stretch."""
    clips = [np.zeros(0, np.int64), *(_planned(*part) for part in stretch.slices)]
    wanted = np.unique(np.concatenate(clips))
    first, end = stretch.files[0].first_slot, stretch.files[-1].end_slot
    ledger = read_ledger(stretch.run_url, stretch.files, first, end, ["slot", "ok", "clip_id"])
    seen, counts = np.unique(_flat(ledger["clip_id"]), return_counts=True)
    undecodable = len(_flat(ledger.filter(pa.array(~ledger["ok"].to_numpy()))["clip_id"]))
    both = len(np.intersect1d(wanted, seen, assume_unique=True))
    twice = int((counts > 1).sum()) + len(seen) - both
    return np.array([len(wanted), both, len(wanted) - both, twice, undecodable])


def _planned(url: str, start: int, stop: int) -> np.ndarray:
    """The ids of the clips of a slice of a plan. Nothing else of the plan is read."""
    clips = read_table(url, _CLIPS, start, stop)["clips"].combine_chunks().flatten()
    return clips.field("clip_id").to_numpy()


def _flat(lists: pa.ChunkedArray) -> np.ndarray:
    return lists.combine_chunks().flatten().to_numpy()
