"""A heartbeat that anybody with access to the run's folder can read: `heartbeat.json`.

It holds where the loop stands, what it waits for, its speed, and its losses as they arrive from the device. A separate
thread writes it now and then, so that no step waits for it. Progress displays and lists of runs read it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from types import TracebackType
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.trainers.settings.run import TrainConfig

INTERVAL_SECONDS = 1.0
RECENT_SECONDS = 60.0  # the time over which speed and loss are averaged


def heartbeat_url(run_url: str) -> str:
    """The URL of a run's heartbeat."""
    return store.join(run_url, "heartbeat.json")


def bags_of_run(plan: PlanFacts, carried_in: int, bags_before: int, epochs: int, bags_per_batch: int) -> int:
    """The number of bags in the whole run: exact if no video is left out from now on.

    Args:
        carried_in: bags that the previous epoch carried over into this plan.
        bags_before: the bags of all epochs before this plan's.
    """
    videos = plan.num_bags + len(plan.carried) - carried_in
    later = len(plan.carried) + (epochs - plan.epoch - 1) * videos
    last = plan.epoch + 1 >= epochs
    return bags_before + plan.num_bags + (0 if last else later // bags_per_batch * bags_per_batch)


class Heartbeat:
    """Writes the newest position at most once a second. An error in it never fails a run."""

    def __init__(self, run_url: str, config: TrainConfig, enabled: bool) -> None:
        self.url = heartbeat_url(run_url)
        self.enabled = enabled
        self._epochs, self._clips_per_bag = config.epochs, config.plan.clips_per_bag
        self._state: dict[str, Any] = {}
        self._recent: deque[tuple[float, int, float, float | None]] = deque()  # when, bags, seconds waited, loss
        self._waited_seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")

    def waits_for(self, what: str, epoch: int, cursor: int, num_bags: int = 0) -> None:
        """Record why nothing is trained at the moment."""
        self._state = {**self._where(epoch, cursor, num_bags), "stage": what}

    def at(
        self, plan: PlanFacts, cursor: int, bags_before: int, bags_in_all: int, waited_seconds: float,
        loss: float | None,
    ) -> None:  # fmt: skip
        """Record that a step is done.

        Args:
            bags_before: the bags of all epochs before the plan's.
            waited_seconds: how long the loop waited for this step's batch.
            loss: the newest loss that has arrived from the device; None while there is none.
        """
        done = bags_before + cursor
        self._waited_seconds += waited_seconds
        self._recent.append((time.monotonic(), done, self._waited_seconds, loss))
        while len(self._recent) > 2 and self._recent[-1][0] - self._recent[0][0] > RECENT_SECONDS:
            self._recent.popleft()
        speed = self._speed(bags_in_all - done)
        totals = {"bags_done": done, "bags_in_all": bags_in_all}
        self._state = self._where(plan.epoch, cursor, plan.num_bags) | totals | speed

    def _where(self, epoch: int, cursor: int, num_bags: int) -> dict[str, Any]:
        return {"epoch": epoch, "epochs": self._epochs, "cursor": cursor, "num_bags": num_bags}

    def _speed(self, bags_left: int) -> dict[str, Any]:
        """Loss, clips a second, share of the time spent waiting for clips, seconds left; all over the last minute."""
        losses = [loss for *_, loss in self._recent if loss is not None]
        found = {"loss": sum(losses) / len(losses)} if losses else {}
        (began, bags, waited, _), (now, done, waited_now, _) = self._recent[0], self._recent[-1]
        if now <= began or done <= bags:
            return found
        a_second = (done - bags) / (now - began)
        return found | {
            "clips_per_second": a_second * self._clips_per_bag,
            "waiting_share": min(1.0, (waited_now - waited) / (now - began)),
            "seconds_left": bags_left / a_second,
        }

    def __enter__(self) -> Heartbeat:
        if self.enabled:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._over.set()
        if self.enabled:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        written: dict[str, Any] = {}
        over = False
        while not over:
            over = self._over.wait(INTERVAL_SECONDS)  # the last position is written too
            state = self._state
            if state and state != written:
                with contextlib.suppress(Exception):  # a failed heartbeat must not end a run
                    store.write_bytes(self.url, json_text(state | {"seconds": time.time()}).encode())
                    written = state
