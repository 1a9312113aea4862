"""`adaptfocus probe TASK`: what features are worth for a downstream task.

Input: URLs of features and annotations. Does: trains small heads, scores them. Output: OUT/result.json,
OUT/predictions.jsonl of the first seed, OUT/report.html, and a table.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from adaptfocus.infra.running.tables import show
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.url_secrets import redact_secrets

RESULT, PREDICTIONS, REPORT = "result.json", "predictions.jsonl", "report.html"
MOST_SEEDS = 100


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("probe")(probe)


def probe(
    task: Annotated[str, typer.Argument(help="Task: segmentation, activity or grounding.")],
    features: Annotated[
        list[str], typer.Option(help="URL of a feature set; may be given again, as for the test split.")
    ],
    annotations: Annotated[str, typer.Option(help="URL of TASK.jsonl, or of its folder.")],
    out_url: Annotated[str, typer.Option("--out", help="URL of the folder for results and report.")],
    seeds: Annotated[str, typer.Option(help="Random seeds of the heads, separated by commas.")] = "0,1,2",
    epochs: Annotated[int | None, typer.Option(help="Number of epochs. Default: the head's.", min=1)] = None,
) -> None:
    """Measure what features are worth: train a small head on them for a downstream task."""
    from adaptfocus.infra.report.probe_page import write_probe_report
    from adaptfocus.pipelines import store
    from adaptfocus.trainers.probes.run import run_probe

    numbers = _seeds(seeds)
    store.check_writable(out_url)
    with _bars() as stage:
        result = run_probe(task, features, annotations, numbers, epochs, stage)
    store.write_bytes(store.join(out_url, RESULT), json_text(result.as_json(), indent=1).encode())
    lines = (json_text(dict(row), ensure_ascii=False) for row in result.outcomes[0].predictions)
    store.write_bytes(store.join(out_url, PREDICTIONS), "".join(f"{line}\n" for line in lines).encode())
    created = f"{datetime.datetime.now():%Y-%m-%d %H:%M}"
    write_probe_report(
        result, store.join(out_url, REPORT), created, redact_secrets(" ".join(["adaptfocus", *sys.argv[1:]]))
    )
    table = Table(box=None)
    for title in (task, "mean", "std", *(f"seed {seed}" for seed in numbers)):
        table.add_column(title, justify="left" if title == task else "right")
    for name, (mean, std, values) in result.metrics().items():
        table.add_row(name, *(f"{100 * value:.1f}" for value in (mean, std, *values)))
    screen = Console(soft_wrap=True)
    show(screen, table)
    for split, ids in result.missing.items():
        if ids:
            screen.print(f"  {split}: {len(ids)} annotated videos left out, without features (such as {ids[0]})",
                         markup=False, highlight=False)  # fmt: skip
    screen.print(f"report: {store.join(out_url, REPORT)}", highlight=False)


def _seeds(text: str) -> list[int]:
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    wrong = [word for word in words if not word.isdigit()]
    if wrong or not 0 < len(words) <= MOST_SEEDS:
        raise ConfigError(
            f"--seeds '{text}': give 1 to {MOST_SEEDS} whole numbers from 0 on with commas between, such as 0,1,2"
        )
    return [int(word) for word in words]


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """A function that opens a bar for a stage of that title."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from adaptfocus.infra.running.progress import console

    with Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    ) as bars:  # fmt: skip

        def stage(title: str) -> Callable[[int, int], None]:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield stage
