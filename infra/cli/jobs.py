"""The commands about clusters and about many runs: `adaptfocus submit | runs | watch`.

The work is done by infra/jobs/submit.py, infra/jobs/run_list.py and infra/jobs/watching.py.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from adaptfocus.infra.cli.options import ConfigFile, Overrides, RecipeName, TakeOver
from adaptfocus.infra.running.tables import is_limited, show
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store.strict_json import json_text

if TYPE_CHECKING:
    from adaptfocus.infra.jobs.run_list import RunState

STOPPED = 3  # the exit code of `watch` if a run has stopped before its end
out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the app."""
    app.command()(submit)
    app.command()(runs)
    app.command()(watch)


def submit(
    name: RecipeName,
    overrides: Overrides = None,
    config_url: ConfigFile = None,
    address: Annotated[
        str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Address of the cluster's dashboard.")
    ] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Show the job's log until it ends.")] = True,
    package: Annotated[
        bool, typer.Option("--package/--no-package", help="Send this code, or use what is installed on the nodes.")
    ] = True,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Check index and run before submitting; needs access to the store."),
    ] = True,
    take_over: TakeOver = False,
    shared_paths: Annotated[
        bool, typer.Option("--shared-paths", help="Local paths are on a file system that all nodes share.")
    ] = False,
) -> None:
    """Start or resume a training run as a job on a Ray cluster.

    Give the same command again to resume. Ctrl-C leaves the job running.
    """
    from adaptfocus.infra.jobs.submit import submit_training

    command = shlex.join(["adaptfocus", *sys.argv[1:]])
    code = submit_training(
        name, overrides or [], config_url, address, command,
        package=package, check=check, follow=follow, shared_paths=shared_paths, take_over=take_over,
    )  # fmt: skip
    sys.exit(code)


def runs(
    url: Annotated[str, typer.Argument(help="URL of a folder of runs, or of one run.")],
    evaluation: Annotated[str, typer.Option(help="Name of the evaluation to show the score of.")] = "test",
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the settings in which the runs differ, all scores, and the cost.")
    ] = False,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Compare, and sort by a score, a cost or a setting.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List runs: state, position, score. With --compare or --sort: side by side."""
    from adaptfocus.infra.jobs.run_list import age, epoch_of, list_runs

    found = list_runs(url, evaluation)
    if not found:
        raise InputError(
            f"there is no run at {url}: a run's folder holds config.json. Give the folder that training was given as "
            "`runs`, or one run's folder in it"
        )
    if compare or sort:
        _show_compared(found, evaluation, sort or "map_max", as_json)
        return
    if as_json:
        for row in found:
            print(json_text(dataclasses.asdict(row)))
        return
    table = Table(box=None)
    for title in ("run", "state", "epoch", "clips", "mAP, max", "last commit", "classes found", "workers", "bad videos",
                  "evaluation"):  # fmt: skip
        table.add_column(
            title, justify="left" if title in ("run", "state", "evaluation") else "right", no_wrap=title != "evaluation"
        )
    for row in found:
        score = "-" if row.map_max is None else f"{100 * row.map_max:.1f}"
        told = "-" if row.classes_found is None else f"{row.classes_found} of {row.classes_judged}"
        clips = ("~" if row.clips_are_estimated else "") + f"{row.clips_trained:,}"
        table.add_row(
            escape(row.name), row.state, epoch_of(row), clips, score, age(row.last_commit_age_seconds),
            told, str(row.workers or "-"), str(row.bad_videos), row.evaluation or "-",
        )  # fmt: skip
    show(out, table)
    _say_problems(found)


def _say_problems(found: Sequence[RunState], to: Console = out) -> None:
    for row in found:
        if row.problem:
            to.print(f"  {row.name}: {row.problem}", markup=False, highlight=False, soft_wrap=True)


def _show_compared(found: Sequence[RunState], evaluation: str, sort: str, as_json: bool) -> None:
    from adaptfocus.infra.jobs.run_comparison import SCORES, compare_runs, sort_runs

    runs = sort_runs(compare_runs(found, evaluation), sort)
    if as_json:
        for row in runs:
            print(json_text(dataclasses.asdict(row)))
        _say_problems(found, Console(stderr=True))
        return
    settings = list(dict.fromkeys(key for row in runs for key in row.settings))
    table = Table(box=None)
    for title in ("run", *("mAP, max", "mAP, mean", "per time"), *settings, "clips", "worker hours", "state"):
        table.add_column(title, justify="left" if title in ("run", "state", *settings) else "right", no_wrap=True)
    for row in runs:
        scores = ["-" if (value := getattr(row, name)) is None else f"{100 * value:.1f}" for name in SCORES]
        given = ["-" if row.settings.get(key) is None else escape(str(row.settings[key])) for key in settings]
        hours = "-" if row.worker_hours is None else f"{row.worker_hours:.2f}"
        table.add_row(escape(row.name), *scores, *given, f"{row.clips_trained:,}", hours, row.state)
    show(out, table)
    _say_problems(found)


def watch(
    run_urls: Annotated[list[str], typer.Argument(metavar="RUN...", help="URLs of the folders of one or more runs.")],
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two looks.", min=0.2)] = 5.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print once and end; so it is too where the output is no terminal.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON once, one object a run.")] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Stay when runs have stopped, until all are finished: they may be resumed.")
    ] = False,
) -> None:
    """Watch runs live: progress, time, faults, what limits the speed, classes found, and what to change.

    It only reads the runs' folders, and ends when no process trains them any more. The exit code is 3 if one of
    them has stopped before its end.
    """
    from adaptfocus.infra.jobs.watch_view import json_of, lines_of, screen_of, wrapped
    from adaptfocus.infra.jobs.watching import Watch, all_ended, all_finished, has_stopped

    with ThreadPoolExecutor(len(run_urls)) as threads:
        watched = [Watch(url) for url in run_urls]
        seen = list(threads.map(Watch.look, watched))
        if as_json:
            for each in seen:
                print(json_text(json_of(each)))
            if has_stopped(seen):
                sys.exit(STOPPED)
            return
        screen, over = Console(), all_finished if stay else all_ended
        try:
            if not once and screen.is_terminal and not over(seen):
                below = f"a look every {every:g} s; Ctrl-C ends this, and the runs continue"
                with Live(screen_of(seen, screen, below), console=screen, auto_refresh=False, transient=True) as live:
                    while not over(seen):
                        time.sleep(every)
                        seen = list(threads.map(Watch.look, watched))
                        live.update(screen_of(seen, screen, below), refresh=True)
        finally:
            for line in (line for each in seen for line in lines_of(each)):
                for text in wrapped(line, out) if is_limited(out) else [Text(line.text, line.style)]:
                    out.print(text)
    if all_finished(seen):
        out.print("the run is finished" if len(seen) == 1 else f"all {len(seen)} runs are finished")
    elif has_stopped(seen):
        sys.exit(STOPPED)
