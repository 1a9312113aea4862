"""Training on a cluster in a separate thread, so that the command's main thread can receive signals.

In a thread that is not the main one, Ray installs no signal handlers of its own. The driver must be connected to a
cluster.
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
    """One training, from start to end."""

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
        """Wait up to `seconds`; whether the training is over."""
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
        """Tell the workers to commit after their step, and end."""
        ask_to_stop(self._key)

    def clean_up(self) -> None:
        """Remove the files that Ray keeps for itself."""
        self._folder.cleanup()

    def check(self) -> None:
        """Raise the error that the training ended with, if any."""
        self.clean_up()
        if self._error:
            raise self._error

    def _fit(self) -> None:
        try:
            fit(self.config, self._key, self._folder.name)
        except BaseException as error:  # raised in the main thread
            self._error = error
