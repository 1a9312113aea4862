"""`adaptfocus index`: index the videos of tars as they are, and list what the index left out.

The work is done by `pipelines.index.build`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from adaptfocus.infra.cli.gc import DryRun, OlderThan, show_removed
from adaptfocus.infra.cli.options import Address, Classes, Processes
from adaptfocus.infra.cli.tasks import check_address, over_cluster
from adaptfocus.infra.running.wording import counts_line, many
from adaptfocus.pipelines.errors import ConfigError

if TYPE_CHECKING:
    from adaptfocus.pipelines.over import Over

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
    compact: Annotated[
        bool, typer.Option("--compact", help="Join what growth has left, and free space: index INDEX --compact.")
    ] = False,
    keep_snapshots: Annotated[
        int | None,
        typer.Option(
            help="With --compact: snapshots to keep. Runs begun on older ones cannot be resumed. Default: all.", min=1
        ),
    ] = None,
    dry_run: DryRun = False,
    older_than: OlderThan = 24.0,
) -> None:
    """Index WebDataset tars as they are.

    Run it again after a change: only new and changed shards are read. An index of an earlier version is taken over.
    """
    from adaptfocus.infra.running.progress import progress_bar
    from adaptfocus.pipelines.annotations.label_checks import label_warnings
    from adaptfocus.pipelines.annotations.manifest import read_classes
    from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION
    from adaptfocus.pipelines.index.build import build_index
    from adaptfocus.pipelines.over import in_processes
    from adaptfocus.pipelines.store.urls import absolute

    check_address(ray, address)
    if compact:
        if len(shards) > 1 or out_url:
            raise ConfigError("--compact is of one index, and takes no tars: `adaptfocus index INDEX --compact`")
        (index_url,) = shards
        with over_cluster(ray, address, workers, absolute(index_url) if ray else index_url) as over:
            _compact(index_url, keep_snapshots, dry_run, older_than, over or in_processes(workers))
        return
    if keep_snapshots or dry_run:
        raise ConfigError("--keep-snapshots and --dry-run are of --compact; give that too")
    if out_url is None:
        if not show_refused:
            raise ConfigError("--out is missing: the folder of the index")
        for url in shards:
            _show(url)
        return
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


def _compact(index_url: str, keep_snapshots: int | None, dry_run: bool, older_than: float, over: Over) -> None:
    """Join small partitions, and remove what no kept snapshot names."""
    from adaptfocus.infra.running.progress import quiet_or_bar
    from adaptfocus.pipelines.index.compact import find_small, join_partitions, remove_unneeded

    small = find_small(index_url)
    if small is None:
        out.print("nothing to join: all partitions are as large as those of a new index", highlight=False)
    else:
        what = f"{many(small.partitions, 'partition')} to {small.partitions_after}"
        what += f", without {many(small.dead_rows, 'row')} of videos that have gone" if small.dead_rows else ""
        out.print(f"{'would join' if dry_run else 'joining'} {what}", highlight=False)
        if not dry_run:
            with quiet_or_bar("joining partitions", is_quiet=False) as progress:
                join_partitions(index_url, over, progress=progress)
            out.print("videos have new rows: a run stays with the snapshot that it was begun on", highlight=False)
    with quiet_or_bar("removing", dry_run) as progress:
        removed = remove_unneeded(
            index_url, keep_snapshots, 3600 * older_than, over,
            dry_run=dry_run, is_joined_later=dry_run and small is not None, progress=progress,
        )  # fmt: skip
    show_removed([*removed], dry_run)


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
