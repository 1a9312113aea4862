"""How a command that trains is ended by a person or a machine: Ctrl-C and SIGTERM.

Input: signals. Does: the first one asks the run to commit after the step it is in; the second ends the process.
Output: exit code 130 (Ctrl-C) or 143 (SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from adaptfocus.infra.running.progress import console

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal came while nothing was trained yet that could be committed."""


class Ending:
    """Whether this process has been asked to end, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.clean_up: Callable[[], None] = lambda: None  # before this process ends at once
        self._ask: Callable[[], None] | None = None

    @property
    def exit_code(self) -> int:
        return 128 + (self.signal or signal.SIGINT)

    @contextlib.contextmanager
    def asks(self, ask: Callable[[], None]) -> Iterator[None]:
        """Inside the block, the first signal calls `ask`; elsewhere it raises Interrupted."""
        self._ask = ask
        try:
            yield
        finally:
            self._ask = None

    def on_signal(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            self.end_now(128 + number, "ended at once: what was trained since the last commit will be trained again\n")
        self.signal = number
        if self._ask is None:
            raise Interrupted
        console.print("asked to stop: the step under way is committed first. A second time ends at once")
        self._ask()

    def end_now(self, code: int, words: str = "") -> None:
        """End this process, whatever its threads do; what it has started ends with it."""
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            os.write(2, words.encode())
            self.clean_up()
        os._exit(code)


@contextlib.contextmanager
def hear_signals() -> Iterator[Ending]:
    """Hear Ctrl-C and SIGTERM for as long as the block lasts; only a main thread can."""
    made = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield made
        return
    before = {number: signal.signal(number, made.on_signal) for number in SIGNALS}
    try:
        yield made
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hear_again(made: Ending) -> None:
    """Ray puts handlers of its own in the place of ours as it starts."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, made.on_signal)
