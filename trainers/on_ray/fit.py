"""Training on a cluster in a thread of its own, so that the command's main thread hears signals meanwhile.

Input: a TrainConfig, on a driver that is connected to a cluster.
Does: `on_ray.train.fit` in the thread, where Ray installs no handlers of its own for signals.
Output: whether workers have begun; the error that it ended with.
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid

from adaptfocus.trainers.on_ray.stop import ask_to_stop
from adaptfocus.trainers.on_ray.train import fit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.run import TrainConfig


class Fit:
    """One training, from its start to its end."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._key = f"stop-{uuid.uuid4().hex}"
        self._run = Run(config.url)
        self._before = self._run.newest()[0]
        self._began = time.monotonic()
        self._has_begun = False
        self._error: BaseException | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="adaptfocus-ray-", ignore_cleanup_errors=True)
        self._thread = threading.Thread(target=self._fit, daemon=True, name="fit")

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for up to so long; whether it is over."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def has_begun(self) -> bool:
        """Whether workers have claimed the run."""
        self._has_begun = self._has_begun or self._run.newest()[0] > self._before
        return self._has_begun

    @property
    def waited_seconds(self) -> float:
        return time.monotonic() - self._began

    def ask_to_stop(self) -> None:
        """Have the workers commit after their step, and end."""
        ask_to_stop(self._key)

    def clean_up(self) -> None:
        """Remove what Ray keeps for itself."""
        self._folder.cleanup()

    def check(self) -> None:
        """Raises what the training ended with."""
        self.clean_up()
        if self._error:
            raise self._error

    def _fit(self) -> None:
        try:
            fit(self.config, self._key, self._folder.name)
        except BaseException as error:  # raised in the main thread
            self._error = error
