"""One run, looked at again and again from any machine that can read its folder. Nothing is written.

A look costs six small requests, however long the run is: heartbeat and holder (two each), whether the log has a next
entry, whether the next epoch has a summary. Each of these that is new is read once, by one request more. The first look
lists the log, and reads the newest COMMITS entries and EPOCHS summaries. A finished run costs nothing.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from adaptfocus.infra.jobs.faults import Faults, faults_of, refused_by_index
from adaptfocus.infra.jobs.run_list import is_alive
from adaptfocus.infra.running.found import EPOCHS, findings
from adaptfocus.infra.running.progress import duration, is_number, read_heartbeat
from adaptfocus.infra.running.run_warnings import RunWarning, recency_excess, warnings_of
from adaptfocus.infra.running.time_spent import Bottleneck, bottleneck_of, time_spent
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, InputError
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.runs.holder import read_holder
from adaptfocus.trainers.runs.log import RESTORE, SALIENCY, SUMMARY, Commit, Run
from adaptfocus.trainers.runs.open import load_config

OF_A_SUMMARY = ("share_unmasked", "mean_spike_actionness", "spike_contrast", "hit_rate", "excluded")
OF_A_HEARTBEAT = ("stage", "loss", "clips_per_second", "waiting_share", "seconds_left", "bags_done", "bags_in_all")
COMMITS = 16  # the newest entries of the log, by which verdict and retries go
QUIET_SECONDS = 60.0  # without a step, or a commit, before it is said
MISSED = 4  # times the usual time between two commits
ENDED = ("finished", "stopped", "silent")
# What Python raises where a value of a file is missing, of another type, or out of range.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class Seen:
    """What one look has found. None: not known. Epochs count from 1; ages compare two machines' clocks."""

    name: str
    url: str
    state: str  # never started, running, stopped, silent (its process has died, or cannot reach the store), finished
    epochs: int
    index_url: str = ""
    heard_at: float | None = None  # seconds since 1970: the newest sign of the process that trains it
    epoch: int = 0  # 0 before the first plan
    bag: int = 0  # of the epoch, trained
    num_bags: int = 0
    bags_done: int | None = None  # of the whole run
    bags_in_all: int | None = None
    stage: str | None = None  # what it waits for, instead of training
    loss: float | None = None
    clips_per_second: float | None = None
    waiting_share: float | None = None  # of the time, for clips
    seconds_left: float | None = None
    workers: int | None = None
    clips_trained: int | None = None  # by its commits
    committed_at: float | None = None  # seconds since 1970
    quiet: tuple[str, ...] = ()  # what has stopped although its process is alive
    bottleneck: Bottleneck | None = None  # by the newest commits
    bottleneck_commits: int = 0  # so many
    faults: Faults = field(default_factory=Faults)
    summary_epoch: int | None = None  # the newest merged one; all below is after it
    share_unmasked: float | None = None
    mean_spike_actionness: float | None = None
    spike_contrast: float | None = None
    hit_rate: float | None = None  # None: no intervals are known
    excluded: int | None = None  # videos left out because they do not decode
    classes_found: int | None = None
    classes_judged: int | None = None  # classes with enough videos to tell
    classes_not_found: tuple[str, ...] = ()
    classes_too_few_videos: tuple[str, ...] = ()
    found_sentence: str | None = None
    too_early: str = ""  # to judge, and why
    # Of classes that are not found: share of salient times that are the newest visits, by chance, and z of the excess;
    # None if clips are drawn around salient times on purpose.
    newest_visits: tuple[float, float, float] | None = None
    warnings: tuple[RunWarning, ...] = field(default_factory=tuple)
    problem: str | None = None  # why the last look failed; the rest is from the look before


class Watch:
    """One run under watch.

    Raises:
        ConfigError: there is no run at the URL.
        InputError, StorageError: it cannot be read. (Later looks note this in `problem`.)
    """

    def __init__(self, url: str) -> None:
        self.run, self.config = Run(url.rstrip("/")), load_config(url)
        self._newest: list[Commit] = []  # entries of the log, up to COMMITS, oldest first
        self._checkpoint: Commit | None = None  # the newest one
        self._refused: dict[str, int] | None = None
        self._summaries: list[dict[str, Any]] = []  # of the newest epochs in order
        self._next_epoch = 0  # the first one without a summary yet
        self._seen: Seen | None = None

    def look(self) -> Seen:
        """The run as it stands now."""
        if self._seen and self._seen.state == "finished":
            return self._seen
        try:
            self._seen = self._look()
        except AdaptFocusError as error:
            problem = error
        except UNREADABLE as error:
            what = f"{type(error).__name__}: {error}"
            problem = InputError(f"{self.run.url} has files that are not those of a run ({what}); {RESTORE}")
        else:
            return self._seen
        if self._seen is None:
            raise problem
        return replace(self._seen, problem=f"{type(problem).__name__}: {problem}")

    def _look(self) -> Seen:
        self._read_log()
        self._read_summaries()
        beat, holder, now = read_heartbeat(self.run.url), read_holder(self.run.url), time.time()
        done, last = self._is_finished(), self._last
        seen = max(last.seconds if last else 0.0, float(beat.get("seconds", 0.0)))
        alive = is_alive(holder, seen, now)
        if holder:
            seen = max(seen, holder.signed, holder.ended or 0.0)
        let_go = holder is not None and holder.ended is not None
        quiet = "stopped" if let_go else "silent" if last or holder else "never started"
        state = "finished" if done else "running" if alive else quiet
        base = Seen(
            self.run.url.rsplit("/", 1)[-1], self.run.url, state, self.config.epochs, self.config.index, seen or None
        )
        quiet = quiet_of(beat, self._commits, now) if state == "running" else ()
        return replace(
            base, quiet=quiet, **self._position(beat, state == "running"), **self._costs(), **self._evidence()
        )

    @property
    def _last(self) -> Commit | None:
        """The last entry of the log."""
        return self._newest[-1] if self._newest else None

    @property
    def _commits(self) -> list[Commit]:
        return [each for each in self._newest if each.kind == "checkpoint"]

    def _read_log(self) -> None:
        if not self._newest:
            self.config = load_config(self.run.url)  # a run that has not begun may be given other settings
            self._newest = self.run.entries(last=COMMITS)
            if self._newest:
                self._checkpoint = self._commits[-1] if self._commits else self.run.newest()[1]
                self._refused = refused_by_index(self.config)
        while self._newest and (entry := self.run.after(self._newest[-1].number)):
            self._newest = [*self._newest, entry][-COMMITS:]
            if entry.kind == "checkpoint":
                self._checkpoint = entry

    def _read_summaries(self) -> None:
        """The summaries that are new. Of a run that is watched from its middle, only the last few are read."""
        at = self._checkpoint
        if at is None:
            return
        self._next_epoch = max(self._next_epoch, at.epoch - EPOCHS)
        while self._next_epoch <= at.epoch:
            url = self.run.epoch_url(self._next_epoch, SUMMARY)
            if not store.exists(url):
                return
            self._summaries = [*self._summaries, strict_json.read(url, RESTORE)][-EPOCHS:]
            self._next_epoch += 1

    def _is_finished(self) -> bool:
        at = self._checkpoint
        ended = at is not None and at.ends_epoch and at.epoch + 1 >= self.config.epochs
        return ended and store.exists(self.run.epoch_url(self.config.epochs, SALIENCY))

    def _position(self, beat: dict[str, Any], running: bool) -> dict[str, Any]:
        """Where it stands: by its heartbeat while it runs, otherwise by what is committed."""
        at = self._checkpoint
        facts: dict[str, Any] = {"workers": self._last.workers if self._last else None}
        if at:
            facts |= {"epoch": at.epoch + 1, "bag": at.cursor, "num_bags": at.num_bags, "bags_done": at.bags}
            facts |= {"clips_trained": at.clips, "committed_at": at.seconds, "loss": at.metrics.get("loss")}
            facts |= {"bags_in_all": beat.get("bags_in_all")}
        if running and "epoch" in beat:
            facts |= {"epoch": beat["epoch"] + 1, "bag": beat["cursor"], "num_bags": beat["num_bags"]}
            facts |= {key: beat[key] for key in OF_A_HEARTBEAT if beat.get(key) is not None}
        return {key: value for key, value in facts.items() if key == "stage" or is_number(value)}

    def _costs(self) -> dict[str, Any]:
        """What the newest commits say: where the time went, and what went wrong."""
        spent, summary = time_spent(self._commits, self.config), (self._summaries or [None])[-1]
        return {
            "bottleneck": bottleneck_of(spent) if spent else None,
            "bottleneck_commits": len(self._commits),
            "faults": faults_of(self._newest, self.config, summary, self._refused),
        }

    def _evidence(self) -> dict[str, Any]:
        """What the newest summaries say."""
        if not self._summaries:
            return {}
        newest = self._summaries[-1]
        facts = {"summary_epoch": newest["epoch"] + 1} | {
            key: newest[key] for key in OF_A_SUMMARY if is_number(newest.get(key))
        }
        told = findings(newest, self.config)
        if told is None:
            return facts
        facts |= {"classes_found": len(told.found), "classes_judged": told.judged}
        facts |= {"classes_not_found": tuple(told.not_found), "classes_too_few_videos": tuple(told.too_few)}
        facts |= {
            "found_sentence": told.sentence,
            "too_early": told.too_early,
            "warnings": tuple(warnings_of(self._summaries, self.config)),
        }
        if told.not_found and not (self.config.plan.resample and self.config.focus.active(newest["epoch"])):
            facts["newest_visits"] = recency_excess(newest, told.not_found)
        return facts


def quiet_of(beat: dict[str, Any], commits: list[Commit], now: float) -> tuple[str, ...]:
    """What a run that is alive has not done for longer than usual, in words."""
    said = []
    since = now - float(beat.get("seconds", now))
    if since >= QUIET_SECONDS:
        stage = beat.get("stage")
        hangs = f"no step for {duration(since)}: it hangs, or cannot reach the store; look at its log"
        said.append(f"{stage} for {duration(since)}" if stage else hangs)
    gaps = [b.seconds - a.seconds for a, b in pairwise(commits) if a.group == b.group]
    if gaps and not beat.get("stage"):
        usual, since = statistics.median(gaps), now - commits[-1].seconds
        if since >= max(QUIET_SECONDS, MISSED * usual):
            apart = duration(usual) if usual >= 2 else f"{usual:.1f} s"
            said.append(f"no commit for {duration(since)}; the last ones were {apart} apart")
    return tuple(said)


def all_finished(seen: list[Seen]) -> bool:
    """Whether nothing is left to watch."""
    return all(each.state == "finished" for each in seen)


def has_stopped(seen: list[Seen]) -> bool:
    """Whether a run has ended before it was finished."""
    return any(each.state in ("stopped", "silent") for each in seen)


def all_ended(seen: list[Seen]) -> bool:
    """Whether no process trains any of the runs that have begun."""
    return all(each.state in ENDED for each in seen)
