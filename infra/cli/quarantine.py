"""`adaptfocus quarantine list | retry | export`: the videos that a run, or its index, has left out.

The work is done by `trainers.runs.quarantine`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adaptfocus.infra.cli.options import RunUrl
from adaptfocus.infra.running.settings import with_placement
from adaptfocus.infra.running.tables import show
from adaptfocus.pipelines.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from adaptfocus.trainers.runs.log import Run
    from adaptfocus.trainers.settings.run import TrainConfig


app = typer.Typer(
    no_args_is_help=True, help="List, retry or export the videos that a run left out because they would not decode."
)
out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL

IndexRefused = Annotated[bool, typer.Option("--index-refused", help="Also list videos rejected at indexing.")]


@app.command("list")
def list_videos(
    run: RunUrl,
    index_refused: IndexRefused = False,
    limit: Annotated[int, typer.Option(help="Most rows to show.", min=0)] = 50,
) -> None:
    """List the videos that were left out, with reasons."""
    from adaptfocus.trainers.runs.log import Run
    from adaptfocus.trainers.runs.open import load_config

    config = load_config(run)
    rows = _rows(Run(run), config, index_refused)
    counts = Counter((row["state"], row["kind"]) for row in rows)
    out.print(f"{len(rows)} left out: " + (", ".join(f"{k} {n}" for (_, k), n in sorted(counts.items())) or "none"))
    table = Table("video", "state", "epoch", "kind", "why", "where", box=None)
    for row in rows[:limit]:
        epoch = "" if row["epoch"] is None else str(row["epoch"] + 1)
        where = f"{row['shard_url']} {row['member_name'] or ''}".strip()
        cells = (row["video_id"], row["state"], epoch, row["kind"], row["message"], where)
        table.add_row(*(escape(_plain(cell)) for cell in cells))
    if rows[:limit]:
        show(out, table)
    if len(rows) > limit:
        out.print(f"and {len(rows) - limit} more; `adaptfocus quarantine export` writes all of them")


@app.command()
def retry(
    run: RunUrl,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of videos. Default: all.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A placement setting, such as placement.decode_deadline_seconds=600."),
    ] = None,
) -> None:
    """Decode failed clips again.

    Videos that now decode are used again from the next epoch that is planned.
    """
    from adaptfocus.trainers.runs.log import Run
    from adaptfocus.trainers.runs.open import load_config
    from adaptfocus.trainers.runs.quarantine import choose_rows, read_quarantine, release_decoded
    from adaptfocus.trainers.runs.quarantine import retry as tried_again

    config = with_placement(load_config(run), overrides)  # a video is released only if training would decode it
    here = Run(run)
    tried = []
    for each in tried_again(here, config, choose_rows(read_quarantine(here, config), ids or [])):
        tried.append(each)
        out.print(_plain(f"{each.row['video_id']}: {each.error or 'decodes'}"), markup=False, highlight=False)
    back = release_decoded(here, tried)
    then = "; the next epoch that is planned uses them" if back else ""
    out.print(f"{len(tried)} tried, {len(back)} released{then}")


@app.command()
def export(
    run: RunUrl,
    out_url: Annotated[str, typer.Option("--out", help="URL of a .csv, .jsonl or .parquet file.")],
    index_refused: IndexRefused = False,
) -> None:
    """Write the list to a file."""
    import pyarrow as pa

    from adaptfocus.pipelines import store
    from adaptfocus.trainers.runs.log import Run
    from adaptfocus.trainers.runs.open import load_config
    from adaptfocus.trainers.runs.quarantine import QUARANTINE_SCHEMA

    config = load_config(run)
    table = pa.Table.from_pylist(_rows(Run(run), config, index_refused), schema=QUARANTINE_SCHEMA)
    suffix = out_url.rsplit(".", 1)[-1].lower()
    writers = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    if suffix not in writers:
        raise ConfigError(f"--out {out_url}: the name must end in .csv, .jsonl or .parquet")
    store.write_bytes(out_url, writers[suffix](table))
    out.print(f"{table.num_rows} rows -> {out_url}")


def _rows(run: Run, config: TrainConfig, index_refused: bool) -> list[dict]:
    from adaptfocus.pipelines.index.load import refused_of
    from adaptfocus.trainers.runs.quarantine import read_quarantine

    rows = read_quarantine(run, config).to_pylist()
    nothing = {"video_row": None, "epoch": None, "state": "refused"}
    return rows + ([row | nothing for url in config.index_urls for row in refused_of(url)] if index_refused else [])


def _plain(text: str) -> str:
    """Text without control characters: names and messages come from foreign files and must not control a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text or "")


def _csv(table: pa.Table) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, table.schema.names)
    writer.writeheader()
    writer.writerows(table.to_pylist())
    return text.getvalue().encode()


def _jsonl(table: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()


def _parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    data = io.BytesIO()
    pq.write_table(table, data, compression="zstd")
    return data.getvalue()
