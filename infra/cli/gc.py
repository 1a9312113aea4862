"""`adaptfocus gc`: remove what a run's folder holds and nothing needs.

The work is done by infra/running/cleaning.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from adaptfocus.infra.cli.options import RunUrl
from adaptfocus.infra.running.tables import show
from adaptfocus.infra.running.wording import many

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]
OlderThan = Annotated[
    float,
    typer.Option(metavar="HOURS", min=0, help="Age from which files go that a process at work could have written."),
]


def gc(run: RunUrl, dry_run: DryRun = False, older_than: OlderThan = 24.0) -> None:
    """Free the space of what nothing needs in a run's folder.

    Plans and ledgers stay: they prove what was trained. While another process trains the run, only what no process can
    need is removed.
    """
    from adaptfocus.infra.running.cleaning import clean
    from adaptfocus.infra.running.progress import console, quiet_or_bar
    from adaptfocus.trainers.runs.log import Run
    from adaptfocus.trainers.runs.open import load_config

    config = load_config(run)  # before anything is looked for: another folder is never touched
    with quiet_or_bar("removing", dry_run) as progress:
        done = clean(
            Run(run.rstrip("/")), config, 3600 * older_than, dry_run,
            lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), progress,
        )  # fmt: skip
    show_removed([(each.kind, each.files, each.size_bytes, each.kept, each.why_kept) for each in done.kinds], dry_run)
    if done.held_by:
        out.print(f"the run {done.held_by}", markup=False, highlight=False)


def show_removed(rows: Sequence[tuple[str, int, int, int, str]], dry_run: bool) -> None:
    """A table of (kind, files, bytes, files that stay for now, why)."""
    verb = "would be removed" if dry_run else "removed"
    if not rows:
        out.print(f"nothing {verb}: all of it is needed")
        return
    table = Table(box=None)
    for title in (verb, "files", "MB", "stay for now"):
        table.add_column(title, justify="left" if title == verb else "right")
    for kind, files, size_bytes, kept, why in rows:
        table.add_row(kind, f"{files:,}", f"{size_bytes / 1e6:,.1f}", f"{kept:,} ({why})" if kept else "-")
    show(out, table)
    files, size_bytes = sum(row[1] for row in rows), sum(row[2] for row in rows)
    out.print(f"{many(files, 'file')}, {size_bytes / 1e6:,.1f} MB {verb}")
