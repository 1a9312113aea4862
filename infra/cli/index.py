"""`adaptfocus index`: index the videos of tars as they are, and list what the index left out.

The work is done by `pipelines.index.build`.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.console import Console

from adaptfocus.infra.cli.options import Address, Classes, Processes
from adaptfocus.infra.cli.tasks import check_address, over_cluster
from adaptfocus.infra.running.wording import counts_line, many
from adaptfocus.pipelines.errors import ConfigError

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL


def index(
    shards: Annotated[list[str], typer.Argument(help="Tars: URLs, globs, {000..009} ranges, or folders.")],
    out_url: Annotated[str | None, typer.Option("--out", help="URL of the index's folder (required).")] = None,
    classes: Classes = None,
    labels: Annotated[
        str | None, typer.Option(help="URL of a CSV or JSONL with id and labels, for tars without labels.")
    ] = None,
    workers: Processes = None,
    isolate: Annotated[bool, typer.Option(help="Read each video in its own process, with a time limit.")] = True,
    prefix_shard: Annotated[
        bool, typer.Option("--prefix-shard", help="Use SHARD/KEY as id, for tars that repeat each other's keys.")
    ] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Read the tars on a Ray cluster, and deal their videos to partitions there.")
    ] = False,
    address: Address = None,
    show_refused: Annotated[
        bool,
        typer.Option(
            "--show-refused",
            help="List all refused videos with reasons. Of an existing index: index INDEX --show-refused.",
        ),
    ] = False,
) -> None:
    """Index WebDataset tars as they are.

    Run it again after a change: only new and changed shards are read. An index of an earlier version is taken over.
    """
    from adaptfocus.infra.running.progress import progress_bar
    from adaptfocus.pipelines.annotations.label_checks import label_warnings
    from adaptfocus.pipelines.annotations.manifest import read_classes
    from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION
    from adaptfocus.pipelines.index.build import build_index
    from adaptfocus.pipelines.store.urls import absolute

    if out_url is None:
        if not show_refused:
            raise ConfigError("--out is missing: the folder of the index")
        for url in shards:
            _show(url)
        return
    check_address(ray, address)
    if ray:  # tasks run in other folders
        out_url, labels = absolute(out_url), labels and absolute(labels)
    with over_cluster(ray, address, workers, out_url) as over, progress_bar("indexing shards") as progress:
        done = build_index(
            shards, out_url, classes=read_classes(classes) if classes else None, labels_url=labels, workers=workers,
            progress=progress, isolation=DEFAULT_ISOLATION if isolate else None, prefix_shard=prefix_shard, over=over,
        )  # fmt: skip
    out.print(f"{many(done.videos, 'video')} of {many(len(done.classes), 'class')} in {many(done.shards, 'shard')} "
              f"({done.shards_unchanged} unchanged) -> {out_url}")  # fmt: skip
    counts_line(out, "refused (rows in refused/)", done.refused, list(done.reasons))
    if sum(done.refused.values()) > len(done.reasons) and not show_refused:
        out.print(f"    adaptfocus index {out_url} --show-refused lists all", markup=False, soft_wrap=True)
    counts_line(out, "intervals cut or dropped", done.intervals_changed)
    counts_line(out, "indexed with changes (rows in refused/)", done.noted)
    if done.unlabelled:
        out.print(f"  without labels: {many(done.unlabelled, 'video')}")
    if done.labels_without_video:
        first = ", ".join(map(repr, done.unmatched_ids))
        more = ", ..." if done.labels_without_video > len(done.unmatched_ids) else ""
        out.print(f"  ids in {labels} that no video has: {done.labels_without_video} ({first}{more})", markup=False,
                  highlight=False, soft_wrap=True)  # fmt: skip
    for warning in label_warnings(done.classes):
        out.print(f"  warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if show_refused:
        _show(out_url)


def _show(index_url: str) -> None:
    """Print all rows of an index's refused/, one a line, and how many there are of each kind."""
    from adaptfocus.pipelines.index.checks import line_of
    from adaptfocus.pipelines.index.load import refused_of

    counts: Counter[str] = Counter()
    for row in refused_of(index_url):
        counts[row["kind"]] += 1
        out.print(line_of(row), markup=False, highlight=False, soft_wrap=True)
    counts_line(out, "in all", dict(counts))
    if not counts:
        out.print(f"nothing was refused in {index_url}", markup=False, highlight=False, soft_wrap=True)
