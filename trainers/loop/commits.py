"""Commits while training continues.

All ranks decide together when to commit. The weights are copied at that point, and a separate thread writes ledger,
state and log entry, in this order. Only one commit is under way at a time: the next one, and the end of an epoch, wait
for it. `commit_stall_seconds` is the time for which the loop stood still for commits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.device.finite import list_places, not_finite
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.errors import DrainedError
from adaptfocus.trainers.loop.divergence import DivergedError, LossWatch, describe_divergence
from adaptfocus.trainers.loop.meter import Meter
from adaptfocus.trainers.loop.scores import Scores
from adaptfocus.trainers.loop.sharding import state_on_rank_zero
from adaptfocus.trainers.ranks import Engine
from adaptfocus.trainers.runs.events import EventFiles
from adaptfocus.trainers.runs.log import RESTORE, SUMMARY, Commit, Lineage
from adaptfocus.trainers.runs.measured import READING, RETRIES
from adaptfocus.trainers.settings.run import TrainConfig

# What a rank asks for at the end of a step. All ranks do the largest of the values asked for.
NOTHING, COMMIT, STOP, DIVERGED, FAILED = range(5)

_log = logging.getLogger(__name__)


@dataclass
class SinceCommit:
    """Everything that this rank has trained since the last commit."""

    scores: Scores = field(default_factory=Scores)
    losses: list[torch.Tensor | float] = field(default_factory=list)  # this rank's share of each step's loss
    rates: list[float] = field(default_factory=list)  # each step's learning rate
    watch: LossWatch = field(default_factory=LossWatch)
    input_wait_seconds: float = 0.0  # for which this rank waited for the next batch
    began: float = field(default_factory=time.monotonic)


class Commits:
    """One rank's part in the commits of a worker group. Every rank calls the same methods, after each step."""

    def __init__(
        self,
        config: TrainConfig,
        engine: Engine,
        lineage: Lineage,
        last: Commit | None,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self.config, self.engine, self.lineage, self.model, self.optimiser = config, engine, lineage, model, optimiser
        self._batches_apart = config.checkpoint.batches_apart(config.plan.bags_per_batch * config.plan.clips_per_bag)
        self._aside = engine.aside()
        self._last = last
        wanted = config.checkpoint.tensorboard and engine.rank == 0
        self._events = EventFiles(lineage.run, last) if wanted else None
        self._meter = Meter(engine.export) if engine.export else None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._stall_seconds = 0.0  # since the previous commit
        self._asked = False

    def after_step(self, plan: PlanFacts, cursor: int, done: SinceCommit) -> SinceCommit:
        """Commit if it is time -> the record of what has been trained since the last commit: `done`, or an empty one.

        Raises:
            DrainedError: this group was asked to stop, and everything that it has trained is committed.
            DivergedError: a number on some rank is not finite; every rank raises the same error.
            TakenOverError, StorageError: a commit that was under way has failed.
        """
        if self._meter:
            self._meter.add_step(done.scores.newest(), done.input_wait_seconds, is_first=len(done.losses) == 1)
        order = self.engine.agreed(self._wish(done))
        if order in (DIVERGED, FAILED):
            self.wait()
        if order == DIVERGED:
            raise self._diverged(self._aside.gather(self._problem(plan, cursor, done)))
        # The request may be one step old. If a commit took place at that very step, it is already met.
        by_time = order == COMMIT and (len(done.losses) > 1 or self.engine.workers == 1)
        counted = len(done.losses) >= self._batches_apart or cursor == plan.num_bags
        if counted or by_time or order == STOP:
            self.begin(plan, cursor, done)
            done = SinceCommit()
        if order == STOP:
            self.wait()
            raise DrainedError(describe_stop(self.config, plan.epoch, cursor, plan.num_bags))
        return done

    def _wish(self, done: SinceCommit) -> int:
        if self._error:
            return FAILED
        if done.watch.look(done.losses) is not None:
            return DIVERGED
        if self.engine.asked_to_stop():
            return STOP
        limit = self.config.checkpoint.every_seconds
        is_late = limit is not None and time.monotonic() - done.began >= limit
        if self.engine.rank == 0 and is_late and not self._asked:
            self._asked = True
            return COMMIT
        return NOTHING

    def _problem(self, plan: PlanFacts, cursor: int, done: SinceCommit) -> tuple[int, str] | None:
        """This rank's first step since the last commit with a loss or score that is not finite.

        Returns the bag at which the step ends, and the message; None if all are finite. Waits for the device.
        """
        loss, score = done.watch.look(done.losses, wait=True), done.scores.first_not_finite()
        steps = [step for step in (loss, score) if step is not None]
        if not steps:
            return None
        step = min(steps)
        what = f"the loss is not finite ({done.watch.value(step)})" if step == loss else "a score is not finite"
        end = cursor - (len(done.losses) - 1 - step) * self.config.plan.bags_per_batch
        rate = done.rates[step] if step < len(done.rates) else self.optimiser.param_groups[0]["lr"]
        return end, describe_divergence(self.config, plan, end, rate, what)

    def _diverged(self, problems: list[tuple[int, str] | None]) -> DivergedError:
        """The earliest of all ranks' problems, so that every rank reports the same one."""
        return DivergedError(min(each for each in problems if each)[1])

    def begin(self, plan: PlanFacts, cursor: int, done: SinceCommit) -> None:
        """Copy the present content of a commit, and begin to write it."""
        facts = {
            "batches": len(done.losses),
            "seconds": time.monotonic() - done.began,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
        }
        self.wait()
        done.watch.look(done.losses)
        began = time.monotonic()
        leaving = Leaving()
        state = state_on_rank_zero(self.model, self.optimiser, self.engine.rank, leaving)
        loss = leaving.take(torch.stack([torch.as_tensor(each) for each in done.losses]).double().sum())
        self._stall_seconds += time.monotonic() - began
        facts["commit_stall_seconds"], self._stall_seconds, self._asked = self._stall_seconds, 0.0, False
        write = partial(self._write, plan, cursor, done, leaving, loss, state, facts)
        self._thread = threading.Thread(target=self._kept, args=(write,), daemon=True, name="commit")
        self._thread.start()

    def wait(self) -> Commit | None:
        """The last commit, as soon as it is in the log.

        Raises:
            TakenOverError, StorageError: it could not be written.
        """
        if self._thread:
            began = time.monotonic()
            self._thread.join()
            self._thread = None
            self._stall_seconds += time.monotonic() - began
        if self._error:
            raise self._error
        return self._last

    def after_merge(self) -> None:
        """Record the epoch that the last commit ends, which is merged now."""
        last = self._last
        if self.engine.rank or not (self._events or self._meter) or last is None or not last.ends_epoch:
            return
        try:
            summary = strict_json.read(self.lineage.run.epoch_url(last.epoch, SUMMARY), RESTORE)
        except AdaptFocusError as error:  # what only shows a run must not end it
            _log.warning("%s", error)
            return
        if self._events:
            self._events.add_epoch(last, summary)
        if self._meter:
            self._meter.add_epoch(summary.get("excluded"))

    def close(self) -> None:
        """Let a commit that is under way finish; not if there are other ranks, because it may wait for them in vain."""
        if self._thread and self.engine.workers == 1:
            self._thread.join()

    def _kept(self, write: Callable[[], Commit]) -> None:
        try:
            self._last = write()
        except BaseException as error:  # passed to the loop, which raises it
            self._error = error

    def _write(
        self, plan: PlanFacts, cursor: int, done: SinceCommit, leaving: Leaving, loss: torch.Tensor,
        state: dict[str, Any], facts: dict[str, float],
    ) -> Commit:  # fmt: skip
        """Rank 0 writes the ledger of all ranks, then the state, then the log entry that makes all of it valid."""
        began, lineage, keep = time.monotonic(), self.lineage, self.config.checkpoint
        leaving.wait()
        problems = self._aside.gather(self._problem(plan, cursor, done))
        if any(problems):
            raise self._diverged(problems)
        folder = lineage.folder(plan.epoch, cursor)
        bags = self._aside.to_rank_zero(done.scores.to_arrow())
        own = [loss.item(), float(done.scores.clips_decoded()), done.input_wait_seconds, *done.scores.reading()]
        sums = self._aside.gather(own)
        all_losses, clips, waited, *reading = (sum(values) for values in zip(*sums, strict=True))

        def on_rank_zero() -> Commit:
            if places := list(not_finite(state)):
                what = f"{list_places(places)} of the weights and the optimiser's state are not finite"
                raise DivergedError(describe_divergence(self.config, plan, cursor, facts["learning_rate"], what))
            lineage.write_ledger(folder, bags or [])
            sha256 = lineage.write_state(folder, state)
            metrics = facts | {
                "loss": all_losses / facts["batches"],
                "clips": clips,
                "input_wait_seconds": waited / self.engine.workers,
                "commit_write_seconds": time.monotonic() - began,
                **{name: n for name, n in zip((*READING, *RETRIES), reading, strict=True) if n or name in READING},
            }
            counted = self._counted(plan, cursor, int(clips))
            entry = lineage.commit(folder, plan.epoch, cursor, plan.num_bags, self._last, metrics, sha256, *counted)
            lineage.drop_old_states(keep.keep, keep.keep_epochs)
            if self._events:
                self._events.add_commit(entry)
            if self._meter:
                self._meter.add_commit(entry)
            return entry

        entry = self._aside.on_rank_zero(on_rank_zero)
        lineage.number = entry.number
        return entry

    def _counted(self, plan: PlanFacts, cursor: int, clips: int) -> tuple[int | None, int | None]:
        """Bags and clips of all epochs up to here; None if the log does not say how many there were before."""
        last = self._last
        if last is None:
            return cursor, clips
        before = None if last.bags is None else last.bags - (last.cursor if last.epoch == plan.epoch else 0)
        return None if before is None else before + cursor, None if last.clips is None else last.clips + clips


def describe_stop(config: TrainConfig, epoch: int, cursor: int, num_bags: int) -> str:
    """The message to a user whose run has stopped because it was asked to; `epoch` counts from 0."""
    return (
        f"{config.url} was asked to stop and did so at epoch {epoch + 1} of {config.epochs}, bag {cursor} of "
        f"{num_bags}; all of it is committed. Give the same command again to resume"
    )
