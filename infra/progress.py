"""Progress on the terminal.

Input: a run's folder, where the loop leaves a sign of life; or counts from a task in this process.
Does: draws bars with rich; for a run that is followed into a file, plain lines now and then.
Output: to standard error, so that standard output stays fit for pipes.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines import storage
from pipelines.errors import AdaptFocusError
from trainers.heartbeat import heartbeat_url

console = Console(stderr=True)
POLL_SECONDS = 1.0
LINE_SECONDS = 30.0  # between two lines of a log, where a bar would be redrawn


@contextlib.contextmanager
def counted(title: str) -> Iterator[Callable[..., None]]:
    """A bar for a task that reports (done, total), and whatever else it has to say."""
    with _bar() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, *_: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def working(title: str) -> Iterator[None]:
    """A bar without an end for a task that does not tell how far it is."""
    with _bar() as bar:
        task = bar.add_task(title, total=None)
        yield
        bar.update(task, completed=1, total=1)


@contextlib.contextmanager
def following(run_url: str, title: str) -> Iterator[None]:
    """A bar that follows a run's heartbeat, wherever the run is; lines where there is no terminal."""
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        show = _bar_of_run(stack.enter_context(_bar()), title) if console.is_terminal else _lines_of_run(title)
        thread = threading.Thread(target=_follow, args=(run_url, show, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)


def read_heartbeat(run_url: str) -> dict:
    """The last sign of life; empty if there is none yet."""
    url = heartbeat_url(run_url)
    try:
        return json.loads(storage.read_bytes(url)) if storage.exists(url) else {}
    except (AdaptFocusError, ValueError):
        return {}


def _follow(run_url: str, show: Callable[[dict], None], over: threading.Event) -> None:
    last = False
    while not last:
        last = over.wait(POLL_SECONDS)  # one look more when all is over
        if beat := read_heartbeat(run_url):
            show(beat)


def _bar_of_run(bar: Progress, title: str) -> Callable[[dict], None]:
    task = bar.add_task(title, total=None)

    def show(beat: dict) -> None:
        done = beat["epoch"] * beat["num_bags"] + beat["cursor"]
        text = f"{title}, epoch {beat['epoch'] + 1} of {beat['epochs']}"
        bar.update(task, description=text, completed=done, total=beat["epochs"] * beat["num_bags"])

    return show


def _lines_of_run(title: str) -> Callable[[dict], None]:
    """A line every LINE_SECONDS, and one at the end of each epoch."""
    shown: dict = {}
    shown_at = 0.0

    def show(beat: dict) -> None:
        nonlocal shown, shown_at
        where = {key: beat[key] for key in ("epoch", "cursor", "num_bags")}
        ended = beat["cursor"] == beat["num_bags"]
        if where == shown or not (ended or time.monotonic() - shown_at >= LINE_SECONDS):
            return
        shown, shown_at = where, time.monotonic()
        text = f"{title}, epoch {beat['epoch'] + 1} of {beat['epochs']}, bag {beat['cursor']} of {beat['num_bags']}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    return show


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=False,
    )  # fmt: skip
