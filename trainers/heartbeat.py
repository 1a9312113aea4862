"""A sign of life that anybody with access to the run's folder can read.

Input: where the loop stands. Does: writes it to the store now and then, from a thread of its own, so that no step
waits for it. Output: `heartbeat.json`, which progress displays and lists of runs read.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from types import TracebackType

from pipelines import storage
from trainers.config import TrainConfig

INTERVAL_SECONDS = 1.0


def heartbeat_url(run_url: str) -> str:
    """Where a run's sign of life lies."""
    return storage.join(run_url, "heartbeat.json")


class Heartbeat:
    """Writes the newest position at most once a second; never fails a run."""

    def __init__(self, run_url: str, config: TrainConfig, enabled: bool) -> None:
        self.url = heartbeat_url(run_url)
        self.enabled = enabled
        self._epochs = config.epochs
        self._state: dict[str, float | int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")

    def at(self, epoch: int, cursor: int, num_bags: int) -> None:
        self._state = {"epoch": epoch, "epochs": self._epochs, "cursor": cursor, "num_bags": num_bags}

    def __enter__(self) -> Heartbeat:
        if self.enabled:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._over.set()
        if self.enabled:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        written: dict[str, float | int] = {}
        over = False
        while not over:
            over = self._over.wait(INTERVAL_SECONDS)  # the last position is written too
            state = self._state
            if state and state != written:
                with contextlib.suppress(Exception):  # a sign of life is not worth a run
                    storage.write_bytes(self.url, json.dumps(state | {"seconds": time.time()}).encode())
                    written = state
