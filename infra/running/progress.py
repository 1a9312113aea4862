"""Progress on the terminal, as bars drawn with rich.

A task in this process reports counts. A run leaves a heartbeat in its folder, wherever it trains. Output that goes to
a file gets plain lines now and then instead of a bar. All goes to standard error, so that standard output stays usable
in pipes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from adaptfocus.infra.running.found import newest_found
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.loop.heartbeat import heartbeat_url
from adaptfocus.trainers.runs.log import Run

console = Console(stderr=True)
POLL_SECONDS = 1.0
POSITION = {"epoch", "epochs", "cursor", "num_bags"}  # of a heartbeat: all of them, or none
LINE_SECONDS = 30.0  # between two lines of a log, in place of a bar
BAR_COLUMNS = 36  # columns of a terminal that the bar, its count and the time take
SCORE = "test"  # the evaluation whose score stands next to a run's progress


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None]]:
    """A bar for a task that reports (done, total) and further facts."""
    with _bar() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, *_: bar.update(task, completed=done, total=total)


def quiet_or_bar(title: str, is_quiet: bool) -> contextlib.AbstractContextManager[Callable[..., None]]:
    """`progress_bar`, or nothing."""
    return contextlib.nullcontext(lambda *_: None) if is_quiet else progress_bar(title)


def with_bar(title: str, over: Over) -> Over:
    """`over` with a bar for each call of more than one item."""

    def followed(items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
        with quiet_or_bar(title, len(items) < 2) as progress:
            for done, result in enumerate(over(items, function), 1):
                progress(done, len(items))
                yield result

    return followed


@contextlib.contextmanager
def spinner(title: str) -> Iterator[None]:
    """A spinner for a task that does not report its progress."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None)
        yield
        bar.update(task, completed=1, total=1)


@contextlib.contextmanager
def follow_run(run_url: str, title: str) -> Iterator[Callable[[str], None]]:
    """A bar that follows a run's heartbeat, wherever the run is; plain lines if there is no terminal.

    Yields a function that takes what the run waits for; it is shown until the first heartbeat. A heartbeat from before
    the block belongs to an earlier command, and is not shown.
    """
    over, before = threading.Event(), read_heartbeat(run_url)
    with contextlib.ExitStack() as stack:
        show = (
            _bar_of_run(stack.enter_context(_bar_with_words()), title) if console.is_terminal else _lines_of_run(title)
        )
        thread = threading.Thread(target=_follow, args=(run_url, show, over, before), daemon=True)
        thread.start()
        try:
            yield lambda stage: show({"stage": stage}, None)
        finally:
            over.set()
            thread.join(timeout=5)


def read_heartbeat(run_url: str) -> dict:
    """The last heartbeat, as far as it makes sense; empty if there is none yet."""
    beat = {
        key: value
        for key, value in _read_json(heartbeat_url(run_url)).items()
        if (isinstance(value, str) if key == "stage" else is_number(value))
    }
    return beat if beat.keys() >= POSITION else {key: value for key, value in beat.items() if key not in POSITION}


def where(beat: dict) -> str:
    """`epoch 2 of 10, bag 160 of 240, loss 0.412, 118 clips/s, waits 12 %, 4 min left, 5 of 8 classes found`: as far
    as it is known."""
    return ", ".join(_facts(beat))


def _facts(beat: dict) -> list[str]:
    said = [f"epoch {beat['epoch'] + 1} of {beat['epochs']}"] if "epoch" in beat else []
    if beat.get("num_bags"):
        said.append(f"bag {beat['cursor']} of {beat['num_bags']}")
    return [*said, *_speed(beat)]


def _speed(beat: dict) -> list[str]:
    if stage := beat.get("stage"):
        return [stage]
    shown = {
        "loss": lambda value: f"loss {value:.3f}",
        "clips_per_second": lambda value: f"{value:.3g} clips/s" if value < 100 else f"{value:,.0f} clips/s",
        "waiting_share": lambda value: f"waits {100 * value:.0f} %",
        "seconds_left": lambda value: f"{duration(value)} left",
        "classes_found": str,
    }
    return [say(beat[key]) for key, say in shown.items() if beat.get(key) is not None]


def duration(seconds: float) -> str:
    """`300 -> "5 min"`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _read_json(url: str) -> dict:
    try:
        return strict_json.read(url, "") if store.exists(url) else {}
    except AdaptFocusError:
        return {}


def is_number(value: object) -> bool:
    """Whether a value of a file is a number that can be shown."""
    return isinstance(value, int | float) and abs(value) < 1e18  # not nan, and no more than can be shown


def _follow(run_url: str, show: Callable[[dict, float | None], None], over: threading.Event, before: dict) -> None:
    last, looked_at, score, found = False, -LINE_SECONDS, None, _Found(run_url)
    while not last:
        last = over.wait(POLL_SECONDS)  # one more look at the end
        if time.monotonic() - looked_at >= LINE_SECONDS:
            looked_at = time.monotonic()
            score = _read_json(store.join(run_url, "evaluations", SCORE, "scores.json")).get("map_max")
        beat = read_heartbeat(run_url)
        if beat and beat != before:
            show(beat | {"classes_found": found.after(beat)}, score)


class _Found:
    """Which classes the run has found, read once an epoch."""

    def __init__(self, run_url: str) -> None:
        self._run_url, self._epoch, self._said = run_url, None, None

    def after(self, beat: dict) -> str | None:
        """`5 of 8 classes found`, by the newest epoch that is merged."""
        if beat.get("epoch") != self._epoch:
            self._epoch = beat.get("epoch")
            with contextlib.suppress(AdaptFocusError, ValueError, KeyError, TypeError):
                told = newest_found(Run(self._run_url), beat["epoch"])
                self._said = told.short if told else None
        return self._said


def _fitting(facts: list[str], columns: int) -> str:
    """As many of the facts as fit on one line; at 80 columns, all of them took three lines."""
    while len(facts) > 2 and len(", ".join(facts)) > columns:
        facts = facts[:-1]
    return ", ".join(facts)


def _bar_of_run(bar: Progress, title: str) -> Callable[[dict, float | None], None]:
    task = bar.add_task(escape(title), total=None)

    def show(beat: dict, score: float | None) -> None:
        facts = [title, *_facts(beat), *_score(score)]
        bar.update(task, description=escape(_fitting(facts, bar.console.width - BAR_COLUMNS)))
        if "bags_done" in beat:
            bar.update(task, completed=beat["bags_done"], total=beat["bags_in_all"])

    return show


def _lines_of_run(title: str) -> Callable[[dict, float | None], None]:
    """A line for each thing that the run waits for before its first step, then every LINE_SECONDS and at epoch ends."""
    shown, shown_at = None, 0.0
    stages: set[str] = set()  # each is shown once

    def show(beat: dict, score: float | None) -> None:
        nonlocal shown, shown_at
        if "stage" in beat:
            if shown is not None or beat["stage"] in stages:
                return
            stages.add(beat["stage"])
        else:
            at = (beat["epoch"], beat["cursor"])
            ended = beat["cursor"] == beat["num_bags"]
            if at == shown or not (ended or time.monotonic() - shown_at >= LINE_SECONDS):
                return
            shown, shown_at = at, time.monotonic()
        text = ", ".join([title, where(beat), *_score(score)])
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    return show


def _score(score: float | None) -> list[str]:
    return [] if score is None else [f"mAP {100 * score:.1f} ({SCORE})"]


def _bar_with_words() -> Progress:
    """A bar whose text takes two lines where the terminal is narrow."""
    words = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=False))
    return Progress(
        words, BarColumn(bar_width=12), MofNCompleteColumn(), TimeElapsedColumn(), console=console, expand=True
    )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=False,
    )  # fmt: skip
