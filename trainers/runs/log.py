"""A run's log of commits in the object store, from which the run is resumed.

Weights, optimiser state and the ledger of their bags are written first. Then one entry is appended to the log by
exclusive creation. A resumed run reads its position (epoch, cursor) and the matching state from the log.

    NAME/config.json                       the resolved settings
    NAME/log/000012.json                   commit 12; only one process can create it (docs/decisions/0002)
    NAME/checkpoints/000012-.../           state.pt: weights and optimiser; ledger.parquet: what was trained for them
    NAME/epochs/0007/                      the saliency snapshot and exclusions that epoch 7 is planned from, the plan

A checkpoint counts from the moment its log entry exists, so a reader never sees half of one. A process that has lost
the run to another (it was taken for dead, or the run was resumed elsewhere) cannot append, and stops. The entry holds
the state's SHA-256: a run does not resume from a state that a disk or a person has changed.

No state of a random generator is saved. Everything drawn is keyed by (seed, epoch, video or clip), so there is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.plan.published import epoch_url
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.errors import DamagedStateError, TakenOverError
from adaptfocus.trainers.runs.ledger_files import LedgerFile, files_of_ranks, one_file, read_ledger, write_ledger

RECENT = 64  # log entries that a new claimant reads to find old states: far more than anybody keeps
SALIENCY, SUMMARY = "saliency.parquet", "summary.json"  # of an epoch's folder
RESTORE = "copy the run's folder again from where it was trained"  # the fix if one of its files is damaged

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Commit:
    """One entry of the log. `kind` is "start" (a process claimed the run) or "checkpoint"."""

    number: int
    kind: str
    group: str  # its writer: one attempt of one worker group
    workers: int
    seconds: float  # wall clock, since 1970
    epoch: int = 0
    cursor: int = 0  # bags of the epoch that are trained
    num_bags: int = 0  # of the epoch's plan
    folder: str | None = None  # of the state, inside the run; None: there is no state yet
    metrics: dict[str, float] = field(default_factory=dict)
    state_sha256: str | None = None  # of state.pt; None in runs of versions that did not record it
    bags: int | None = None  # trained up to here, in all epochs; None in logs of versions that did not count them
    clips: int | None = None  # clips of these bags that were decoded and trained
    previous: int | None = None  # the number of the checkpoint from which this one was trained; None: it is the first
    # All ledger files of the epoch up to here: only in logs whose entries do not name the previous checkpoint.
    ledger: tuple[str, ...] | None = None
    one_ledger: bool = False  # its ledger is one file; in logs of earlier versions it is one for each rank
    claims: int | None = None  # how often the run was claimed up to here; None in logs of versions that did not count

    @property
    def next_position(self) -> tuple[int, int]:
        """(epoch, cursor) of the step that follows it."""
        return (self.epoch + 1, 0) if self.ends_epoch else (self.epoch, self.cursor)

    @property
    def ends_epoch(self) -> bool:
        return self.kind == "checkpoint" and self.cursor == self.num_bags

    @property
    def own_ledger(self) -> list[str]:
        """Paths inside the run of the ledger files that were written with it."""
        if not self.folder:
            return []
        return [one_file(self.folder)] if self.one_ledger else files_of_ranks(self.folder, self.workers)


class Kept(NamedTuple):
    """A checkpoint that may still have a state."""

    folder: str
    epoch: int
    ends_epoch: bool


class Run:
    """The folder of one run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._read: dict[int, Commit] = {}  # an entry never changes

    def at(self, *parts: str) -> str:
        return store.join(self.url, *parts)

    def epoch_url(self, epoch: int, *parts: str) -> str:
        return epoch_url(self.url, epoch, *parts)

    def entries(self, last: int | None = None) -> list[Commit]:
        """The log, or its `last` entries, oldest first."""
        numbers = self._numbers()
        return [self.entry(number) for number in (numbers if last is None else numbers[-last:])]

    def entry(self, number: int) -> Commit:
        """One entry of the log."""
        if number not in self._read:
            self._read[number] = _read_commit(self.at("log", _name(number)))
        return self._read[number]

    def after(self, number: int) -> Commit | None:
        """The entry after that number, if there is one: one small request, where `entries` lists the whole log."""
        return self.entry(number + 1) if store.exists(self.at("log", _name(number + 1))) else None

    def append(self, commit: Commit) -> bool:
        """Add an entry to the log; False if its number is already taken."""
        data = json.dumps(asdict(commit), allow_nan=False).encode()
        if not store.create_exclusive(self.at("log", _name(commit.number)), data):
            return False
        self._read[commit.number] = commit
        return True

    def _numbers(self) -> list[int]:
        return [int(url.rsplit("/", 1)[-1].removesuffix(".json")) for url in store.list_files(self.at("log"))]

    def newest(self) -> tuple[int, Commit | None]:
        """(number of the last entry or -1, last checkpoint or None). It reads the log from its end."""
        numbers = self._numbers()
        for number in reversed(numbers):
            commit = self.entry(number)
            if commit.kind == "checkpoint":
                return numbers[-1], commit
        return (numbers[-1] if numbers else -1), None

    def claim(self, workers: int) -> tuple[Lineage, Commit | None]:
        """Take the run: processes that claimed it earlier can no longer commit. Returns the last checkpoint too."""
        group = uuid.uuid4().hex[:8]
        for _ in range(100):
            last, checkpoint = self.newest()
            before = self.entry(last).claims if last >= 0 else 0
            claims = None if before is None else before + 1
            start = Commit(last + 1, "start", group, workers, time.time(), claims=claims)
            if self.append(start):
                kept = [Kept(e.folder, e.epoch, e.ends_epoch) for e in self.entries(last=RECENT) if e.folder]
                return Lineage(self, group, workers, last + 1, kept, claims), checkpoint
        raise StorageError(f"{self.at('log')}: lost 100 races for the run; stop the other processes that train it")

    def ledger_files(self, commit: Commit | None) -> list[LedgerFile]:
        """The ledger files of the commit's epoch up to it, in this lineage, oldest first."""
        files: list[list[LedgerFile]] = []  # of each checkpoint, newest first
        at = commit
        while at is not None and commit is not None and at.epoch == commit.epoch:
            before = None if at.previous is None else self.entry(at.previous)
            first = before.cursor if before and before.epoch == at.epoch and at.ledger is None else 0
            paths = at.own_ledger if at.ledger is None else at.ledger
            files.append([LedgerFile(path, first, at.cursor, at.one_ledger) for path in paths])
            at = before if at.ledger is None else None
        return [file for each in reversed(files) for file in each]

    def ledger(self, commit: Commit | None) -> pa.Table:
        """All ledger rows of the commit's epoch up to it."""
        return self.ledger_of(commit, 0, commit.cursor if commit else 0)

    def ledger_of(self, commit: Commit | None, first_slot: int, end_slot: int) -> pa.Table:
        """The ledger rows of slots [first_slot, end_slot) of the epoch, up to the commit. Only their files are read."""
        return read_ledger(self.url, self.ledger_files(commit), first_slot, end_slot)

    def kept_epochs(self) -> dict[int, Commit]:
        """The checkpoints at the ends of epochs that still have their states, by epoch (counted from 0)."""
        kept: dict[int, Commit] = {}
        for commit in reversed(_ends(self.entries())):
            if commit.epoch not in kept and self._has_state(commit):
                kept[commit.epoch] = commit
        return dict(sorted(kept.items()))

    def end_of_epoch(self, epoch: int) -> Commit:
        """The checkpoint at the end of an epoch, counted from 0.

        Raises:
            InputError: the epoch is not trained to its end, or its state is no longer kept. The message lists the
                epochs whose states are kept.
        """
        found = next((commit for commit in _ends(self.entries()) if commit.epoch == epoch), None)
        if found and self._has_state(found):
            return found
        why = "its weights are no longer kept" if found else "it is not trained to its end"
        kept = ", ".join(str(each + 1) for each in self.kept_epochs()) or "none"
        raise InputError(
            f"{self.url} has no weights from the end of epoch {epoch + 1}, because {why}; it has those of the "
            f"ends of epochs (counted from 1): {kept}. Choose one of these; a larger checkpoint.keep "
            "keeps more in future runs"
        )

    def _has_state(self, commit: Commit) -> bool:
        return store.exists(self.at(commit.folder or "", "state.pt"))

    def load_state(self, commit: Commit) -> dict[str, Any]:
        """Weights and optimiser of a checkpoint. Only tensors and plain values are unpickled.

        Raises:
            DamagedStateError: the bytes differ from those that were committed, or are gone.
            InputError: the state holds numbers that are not finite.
        """
        import torch  # here and below: lists of runs read logs, and do without its 1.3 s

        from adaptfocus.trainers.device.finite import check_weights

        url = self.at(commit.folder or "", "state.pt")
        try:
            data = store.read_bytes(url)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DamagedStateError(f"{url} is gone, and the log names it") from error
            raise
        found = hashlib.sha256(data).hexdigest()
        if commit.state_sha256 and found != commit.state_sha256:
            said = f"its SHA-256 is {found}, the log says {commit.state_sha256}"
            raise DamagedStateError(f"{url} is damaged: {said}; restore the object")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        check_weights(
            state, url, "The run has diverged: begin it again under another name with a lower optim.learning_rate, or "
            "use the end of an earlier epoch (--epoch)"
        )  # fmt: skip
        return state

    def newest_whole(self, newest: Commit) -> tuple[Commit, dict[str, Any]]:
        """`newest` and its state; if that is damaged, the newest earlier checkpoint with an undamaged state.

        The bags after that checkpoint are trained again. Published plans stay as they are.

        Raises:
            DamagedStateError: every state that is kept is damaged.
        """
        try:
            return newest, self.load_state(newest)
        except DamagedStateError as error:
            damage = error
        earlier = [e for e in self.entries(last=RECENT) if e.kind == "checkpoint" and e.number < newest.number]
        for commit in reversed(earlier):
            with contextlib.suppress(DamagedStateError):
                state = self.load_state(commit)
                _log.warning("%s; resuming from epoch %d, bag %d", damage, commit.epoch + 1, commit.cursor)
                return commit, state
        raise DamagedStateError(
            f"{damage}. No earlier state of {self.url} is whole either: restore it, or begin the run again under "
            "another name. A larger checkpoint.keep keeps more states"
        )


@dataclass
class Lineage:
    """The right to append to a run's log, held since the claim of `number`."""

    run: Run
    group: str
    workers: int
    number: int
    kept: list[Kept]  # recent checkpoints, oldest first
    claims: int | None = None  # of the run, its own included

    def folder(self, epoch: int, cursor: int) -> str:
        """The folder of the next checkpoint. The group in its name keeps the files of two claimants apart."""
        return f"checkpoints/{self.number + 1:06d}-e{epoch:04d}-b{cursor:09d}-{self.group}"

    def write_ledger(self, folder: str, parts: Sequence[pa.Table]) -> None:
        """Write the ledger rows of all ranks since the last commit."""
        write_ledger(self.run.at(one_file(folder)), parts)

    def write_state(self, folder: str, state: dict[str, Any]) -> str:
        """Write weights and optimiser -> their SHA-256."""
        import torch

        file = io.BytesIO()
        torch.save(state, file)
        data = file.getvalue()
        store.write_bytes(self.run.at(folder, "state.pt"), data)
        return hashlib.sha256(data).hexdigest()

    def commit(
        self, folder: str, epoch: int, cursor: int, num_bags: int, last: Commit | None, metrics: dict[str, float],
        state_sha256: str | None = None, bags: int | None = None, clips: int | None = None,
    ) -> Commit:  # fmt: skip
        """Make the files in `folder`, ledger and state, the run's newest checkpoint.

        Args:
            last: the checkpoint from which training came; None: from the beginning.

        Raises:
            TakenOverError: another process has claimed the run.
        """
        entry = Commit(
            self.number + 1, "checkpoint", self.group, self.workers, time.time(),
            epoch, cursor, num_bags, folder, metrics, state_sha256, bags, clips, last.number if last else None,
            one_ledger=True, claims=self.claims,
        )  # fmt: skip
        if not self.run.append(entry):
            raise TakenOverError(
                f"{self.run.url}: another process has claimed this run (log entry {entry.number}); this one stops. "
                "Nothing is lost: the other process resumes from the last checkpoint"
            )
        self.number += 1
        self.kept.append(Kept(folder, epoch, entry.ends_epoch))
        return entry

    def drop_old_states(self, keep: int, keep_epochs: int | None = None) -> None:
        """Remove all states except the newest `keep`, and those at the end of every `keep_epochs`-th epoch.

        Ledgers stay, because they are the proof of what was trained.
        """
        for state in self.kept[:-keep]:
            if not (keep_epochs and state.ends_epoch and (state.epoch + 1) % keep_epochs == 0):
                store.delete(self.run.at(state.folder, "state.pt"))
        self.kept = self.kept[-keep:]


def _ends(entries: list[Commit]) -> list[Commit]:
    """The checkpoints at the ends of epochs, oldest first."""
    return [e for e in entries if e.ends_epoch]


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _read_commit(url: str) -> Commit:
    values = strict_json.read(url, RESTORE)
    known: dict[str, Any] = {f.name: values[f.name] for f in fields(Commit) if f.name in values and f.name != "ledger"}
    try:
        c = Commit(**known, ledger=None if values.get("ledger") is None else tuple(values["ledger"]))
        numbers = (c.number, c.workers, c.seconds, c.epoch, c.cursor, c.num_bags)
        if not all(0 <= each < 1e11 for each in numbers):
            raise TypeError(f"a number is out of range: {numbers}")
    except TypeError as error:  # something is missing, or not a number
        raise InputError(f"{url} is not an entry of a run's log ({error}); {RESTORE}") from None
    return c
