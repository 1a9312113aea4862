"""Find and remove what a run's folder holds and nothing needs any more.

What is needed follows from the log, the snapshots and the evaluations. Some files can never be needed, whoever trains
the run: their place in the log is taken, or a published plan or snapshot does without them. Others could belong to a
process that is at work. They go only while this process holds the run, and if they have not been written for a while.

Plans and ledgers of trained epochs stay: they prove what was trained. Files that no version writes stay too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from adaptfocus.pipelines import store
from adaptfocus.pipelines.plan.published import PlanFacts, part_url, read_plan
from adaptfocus.pipelines.store import Found, strict_json
from adaptfocus.trainers.runs.holder import HeldError, check_free, hold_run
from adaptfocus.trainers.runs.ledger import last_commits
from adaptfocus.trainers.runs.log import RESTORE, SALIENCY, Commit, Run
from adaptfocus.trainers.runs.snapshots import OldSnapshotError, read_manifest
from adaptfocus.trainers.settings.run import TrainConfig

_CHECKPOINT = re.compile(r"checkpoints/(\d{6,})-e\d+-b\d+-[0-9a-f]+/[\w.-]+")
_EPOCH = re.compile(r"epochs/(\d{4,})/(saliency|excluded|priority|plan|head)/[\w.-]+")
_STREAM = re.compile(r"streams/.+")
_FAILURE = re.compile(r"failure-[0-9a-f]+\.json")
_EVALUATION = re.compile(r"evaluations/([^/]+)/.+")

UNCOMMITTED = "checkpoints that were never committed"
ROLLED_BACK = "ledgers of commits that were rolled back"
STATES = "states that checkpoint.keep and keep_epochs do not keep"
SNAPSHOTS = "saliency, left-out videos and weights of no snapshot"
PARTS = "parts of plans that were not published"
HEADS = "heads of epochs that are merged"
STREAMS = "places where streams began"
FAILURES = "messages of workers that failed"
EVALUATIONS = "evaluations that were not finished"
WRITERS = "parts of files whose writers were killed"


class Unneeded(NamedTuple):
    """A file that nothing needs."""

    kind: str
    file: Found
    is_certain: bool  # nobody can need it, even if the run is being trained


class Kind(NamedTuple):
    """The files of a kind: how many go, and how many stay for now."""

    kind: str
    files: int
    size_bytes: int
    kept: int
    why_kept: str


@dataclass(frozen=True)
class Cleaning:
    """What `clean` has done, or would do."""

    kinds: list[Kind]
    files: int  # that go
    size_bytes: int
    held_by: str | None  # who trains the run


def clean(
    run: Run,
    config: TrainConfig,
    older_than_seconds: float,
    dry_run: bool,
    waits: Callable[[str], object] = lambda _: None,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Cleaning:
    """Remove what nothing needs. While it goes, the run is held, so that no process begins to train it.

    Args:
        older_than_seconds: the age from which files go that a process at work could be writing.
        dry_run: only say what would go.
        waits: called with a line that says what it waits for, if another machine has signed for the run recently.

    Raises:
        InputError, StorageError: the run's folder cannot be read; nothing is removed then.
    """
    try:
        check_free(run.url, waits)
        held = None
    except HeldError as error:
        held = str(error).partition(". ")[0].removeprefix(f"{run.url} ")
    with nullcontext() if dry_run or held else hold_run(run.url):
        found = find_unneeded(run, config, store.listed_below(run.url))
        newest = time.time() - older_than_seconds
        going = [each for each in found if each.is_certain or (not held and each.file.modified < newest)]
        if not dry_run:
            # A state goes before its ledger: no run resumes from a state without one.
            ordered = sorted(going, key=lambda each: not each.file.url.endswith("/state.pt"))
            store.delete_files([each.file.url for each in ordered], progress)
    kinds = []
    for kind in dict.fromkeys(each.kind for each in found):
        own = [each.file for each in going if each.kind == kind]
        stay = sum(each.kind == kind for each in found) - len(own)
        why = "" if not stay else "the run is being trained" if held else "too new"
        kinds.append(Kind(kind, len(own), sum(file.size_bytes for file in own), stay, why))
    return Cleaning(kinds, len(going), sum(each.file.size_bytes for each in going), held)


def find_unneeded(run: Run, config: TrainConfig, files: Sequence[Found]) -> list[Unneeded]:
    """The files of a run that nothing needs.

    Args:
        files: all below its folder, listed before this is called: what is written meanwhile is none of them.

    Raises:
        InputError, StorageError: the log, a snapshot, a plan or an evaluation cannot be read.
    """
    needs = _Needs(run, config, frozenset(_path(run, file) for file in files))
    found: list[Unneeded] = []
    for file in files:
        path = _path(run, file)
        if path.endswith(".part"):
            found.append(Unneeded(WRITERS, file, False))
        elif told := needs.verdict(path):
            found.append(Unneeded(told[0], file, told[1]))
    return [_as_old_as_its_folder(each, files) if each.kind == EVALUATIONS else each for each in found]


def _as_old_as_its_folder(each: Unneeded, files: Sequence[Found]) -> Unneeded:
    """With the age of the newest file of its evaluation, which may take days."""
    folder = each.file.url.rpartition("/evaluations/")[0] + "/evaluations/"
    folder += each.file.url.removeprefix(folder).split("/")[0] + "/"
    newest = max(file.modified for file in files if file.url.startswith(folder))
    return each._replace(file=each.file._replace(modified=newest))


def _path(run: Run, file: Found) -> str:
    return file.url.removeprefix(run.url.rstrip("/") + "/")


@dataclass(frozen=True)
class _Needs:
    """What the log, snapshots and evaluations of a run need."""

    run: Run
    config: TrainConfig
    paths: frozenset[str]  # of all files

    def verdict(self, path: str) -> tuple[str, bool] | None:
        """(kind, whether it is certain) of a file that nothing needs; None if it is needed, or nobody knows it."""
        if match := _CHECKPOINT.fullmatch(path):
            return self._checkpoint(path, int(match[1]))
        if match := _EPOCH.fullmatch(path):
            return self._epoch(path, int(match[1]), match[2])
        if _STREAM.fullmatch(path):
            return STREAMS, False
        if _FAILURE.fullmatch(path):
            return FAILURES, False
        if (match := _EVALUATION.fullmatch(path)) and f"evaluations/{match[1]}/scores.json" not in self.paths:
            return EVALUATIONS, False
        return None

    def _checkpoint(self, path: str, number: int) -> tuple[str, bool] | None:
        folder = path.rpartition("/")[0]
        commit = self._commits.get(folder)
        if commit is None:  # its number is taken by another entry, or it may be committed yet
            return UNCOMMITTED, number <= self._last_number
        if commit.number in self._kept_states or path in self._ledgers:
            return None
        return (STATES if path.endswith("/state.pt") else ROLLED_BACK), True

    def _epoch(self, path: str, epoch: int, what: str) -> tuple[str, bool] | None:
        if what in ("saliency", "excluded", "priority"):
            named = self._named
            return None if named is None or path in named else (SNAPSHOTS, epoch in self._plans)
        plan = self._plans.get(epoch)
        if plan is None:
            return (PARTS, False) if what == "plan" else None
        if what == "head":
            return (HEADS, True) if self._has(epoch + 1, SALIENCY) and self._is_planned(epoch + 1) else None
        own = store.join(self.run.url, path)
        return None if plan.old_parts is not None or own in self._parts_of(plan) else (PARTS, True)

    def _parts_of(self, plan: PlanFacts) -> frozenset[str]:
        if plan.folder_url not in self._parts:
            self._parts[plan.folder_url] = frozenset(_named_by(plan))
        return self._parts[plan.folder_url]

    @cached_property
    def _parts(self) -> dict[str, frozenset[str]]:
        return {}

    @cached_property
    def _entries(self) -> list[Commit]:
        return self.run.entries()

    @cached_property
    def _commits(self) -> dict[str, Commit]:
        return {each.folder: each for each in self._entries if each.folder}

    @property
    def _last_number(self) -> int:
        return self._entries[-1].number if self._entries else -1

    @cached_property
    def _kept_states(self) -> frozenset[int]:
        """Numbers of the commits whose states stay: as `Lineage.drop_old_states`, and those that were evaluated."""
        commits, keep = list(self._commits.values()), self.config.checkpoint
        every = keep.keep_epochs
        at_ends = {e.number for e in commits if every and e.ends_epoch and (e.epoch + 1) % every == 0}
        return frozenset({e.number for e in commits[-keep.keep :]} | at_ends | self._evaluated)

    @cached_property
    def _evaluated(self) -> set[int]:
        urls = [
            store.join(self.run.url, path)
            for path in self.paths
            if re.fullmatch(r"evaluations/[^/]+/scores\.json", path)
        ]
        said = [strict_json.read(url, RESTORE).get("checkpoint") for url in urls]
        return {number for number in said if isinstance(number, int)}

    @cached_property
    def _ledgers(self) -> frozenset[str]:
        """Paths of the ledgers of the lineage."""
        ends = [*last_commits(self._entries).values()]
        return frozenset(file.path for commit in ends for file in self.run.ledger_files(commit))

    @cached_property
    def _epochs(self) -> set[int]:
        return {int(path.split("/")[1]) for path in self.paths if re.match(r"epochs/\d{4,}/", path)}

    @cached_property
    def _plans(self) -> dict[int, PlanFacts]:
        """The published plans, by epoch."""
        found = {each: read_plan(self.run.epoch_url(each, "plan")) for each in sorted(self._epochs)}
        return {epoch: plan for epoch, plan in found.items() if plan is not None}

    @cached_property
    def _named(self) -> frozenset[str] | None:
        """Paths that a snapshot names; None if an earlier version has written one of them."""
        try:
            manifests = [read_manifest(self.run, each) for each in self._epochs if self._has(each, SALIENCY)]
        except OldSnapshotError:
            return None
        return frozenset(
            p
            for manifest in manifests
            for each in manifest.values()
            for p in (each.saliency, each.excluded, each.priority)
        )

    def _has(self, epoch: int, name: str) -> bool:
        return self.run.epoch_url(epoch, name).removeprefix(self.run.url.rstrip("/") + "/") in self.paths

    def _is_planned(self, epoch: int) -> bool:
        """Whether an epoch has its plan, or is the number after the last one."""
        return epoch in self._plans or epoch >= self.config.epochs


def _named_by(plan: PlanFacts) -> Iterator[str]:
    """URLs of everything in a plan's folder."""
    yield store.join(plan.folder_url, "plan.json")
    for number, window in enumerate(plan.windows):
        for part in range(-(-window.bags // plan.bags_per_part)):
            yield part_url(plan.folder_url, number, part)
