"""Kills one part of a run after the other, and records what each kill costs.

The moments of the kills are seeded. After a kill, what a cluster would bring back is brought back, and the run must
commit something new. For each kill the time to recover is recorded, and the batches that were trained again.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from adaptfocus.pipelines import store
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.trainers.loop.heartbeat import heartbeat_url
from adaptfocus.trainers.runs.log import Commit, Run
from benchmarks.faults.chaos_cluster import ChaosCluster
from benchmarks.measuring.figures import say

WORKER, DECODER, NODE, COMMAND, DRAIN, EVERYTHING = "worker", "decoder", "node", "command", "drain", "everything"
GRACE_SECONDS = 20.0  # of a drain
REPLACED_AFTER_SECONDS = 30.0  # a new node comes at most so long after the old one has gone
PATIENCE_SECONDS = 600.0


@dataclass
class Kill:
    """What was killed, and what it cost."""

    kind: str
    seconds: float  # wall clock
    trained: int  # batches of all epochs up to the kill, by a heartbeat that is up to a second old
    went_on_from: int  # how many of them were committed
    recovery_seconds: float  # until something new was committed
    first_step_seconds: float | None  # from a restart of the command to a sign of life; None: it was not restarted


@dataclass
class Chaos:
    """A run whose parts are killed."""

    cluster: ChaosCluster
    run: Run
    random: random.Random
    kills: list[Kill] = field(default_factory=list)
    patience_seconds: float = PATIENCE_SECONDS

    def strike(self, kind: str, pause_seconds: float = 4.0) -> Kill | None:
        """Kill something after up to `pause_seconds`, and wait until the run recovers; None if it had ended."""
        time.sleep(self.random.uniform(0.0, pause_seconds))
        if self.cluster.ended() is not None:
            return None
        began, trained = time.time(), self.trained()
        before = self.run.newest()[0]
        given = self._kill(kind, self.random.randrange(1 << 16))
        if given is not None:
            self.wait_for("a sign of life", lambda: (self._beat() or {}).get("seconds", 0) > given)
        first_step = None if given is None else self._beat()["seconds"] - given
        self.wait_for(f"a commit after the kill of a {kind}", lambda: self._new_commit(kind, before, began) is not None)
        commit = self._new_commit(kind, before, began)
        went_on_from = trained if kind == DECODER else self._went_on_from(before)
        recovery = (commit.seconds if commit else time.time()) - began
        kill = Kill(kind, began, trained, went_on_from, recovery, first_step)
        self.kills.append(kill)
        again = max(0, trained - went_on_from)
        say(f"{len(self.kills):3} {kind:10} {recovery:6.1f} s, {again} batches again; now {self._where()}")
        return kill

    def _kill(self, kind: str, number: int) -> float | None:
        """Kill, and repair as a cluster would -> when the command was restarted; None if it was not."""
        cluster = self.cluster
        if kind == WORKER:
            self.wait_for("a worker", lambda: cluster.kill_process("RayTrainWorker", number))
        elif kind == DECODER:
            self.wait_for("a decoder", lambda: cluster.kill_process("ray::MapBatches", number))
        elif kind == NODE:
            cluster.kill_node(number)
            time.sleep(self.random.uniform(0.0, REPLACED_AFTER_SECONDS))
            cluster.add_node()
        elif kind == DRAIN:
            node = cluster.drain_node(number, GRACE_SECONDS)
            time.sleep(GRACE_SECONDS)
            cluster.take_away(node)
            cluster.add_node()
        elif kind == EVERYTHING:
            cluster.kill_everything()
            cluster.start()
            return cluster.give_command()
        else:
            cluster.kill_command()
            return cluster.give_command()
        return None

    def _new_commit(self, kind: str, before: int, began: float) -> Commit | None:
        """The first commit of a group that has claimed the run since; the death of a decoder needs no new group."""
        new = [e for e in self.run.entries(last=64) if e.number > before and e.seconds > began]
        claims = [e.number for e in new if e.kind == "start"]
        if kind != DECODER and not claims:
            return None
        return next((e for e in new if e.kind == "checkpoint" and e.number > (claims or [before])[0]), None)

    def _went_on_from(self, before: int) -> int:
        """The committed batches that the first group after entry `before` of the log found."""
        entries = self.run.entries()
        claim = next((e.number for e in entries if e.kind == "start" and e.number > before), None)
        found = [e for e in entries if e.kind == "checkpoint" and (claim is None or e.number < claim)]
        return self._batches(found[-1].epoch, found[-1].cursor) if found else 0

    def wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        """Wait until it is there, or the run is finished."""
        began = time.monotonic()
        while not is_there() and self.cluster.ended() != 0:
            if self.cluster.ended() is not None:
                raise RuntimeError(f"the command ended with {self.cluster.ended()} before {what} came")
            if time.monotonic() - began > self.patience_seconds:
                raise RuntimeError(f"{what} did not come in {self.patience_seconds:.0f} s")
            time.sleep(0.2)

    def trained(self) -> int:
        """The batches of all epochs that have been trained, according to the heartbeat."""
        beat = self._beat()
        return self._batches(beat["epoch"], beat["cursor"]) if beat else 0

    def _beat(self) -> dict:
        url = heartbeat_url(self.run.url)
        return json.loads(store.read_bytes(url)) if store.exists(url) else {}

    def _batches(self, epoch: int, cursor: int) -> int:
        plans = [read_plan(self.run.epoch_url(e, "plan")) for e in range(epoch)]
        bags = sum(plan.num_bags for plan in plans if plan) + cursor
        return bags // self.cluster.config.plan.bags_per_batch

    def _where(self) -> str:
        _, commit = self.run.newest()
        return f"epoch {commit.epoch}, bag {commit.cursor}, {commit.workers} workers" if commit else "nowhere"
