"""A release's summary, printed as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adaptfocus.infra.running.tables import show
from adaptfocus.infra.running.wording import many
from adaptfocus.pipelines.annotations.rows import Problem
from adaptfocus.pipelines.datasets.release_summary import ReleaseSummary

UNUSED_SHOWN = 5


def print_summary(out: Console, summary: ReleaseSummary, problems: Sequence[Problem]) -> None:
    """Print what the release has, which labels occur together, and its problems (with one example of each kind)."""
    videos = sum(split.videos for split in summary.splits)
    activities = f", {summary.activities} activities" if summary.activities else ""
    groups = f", {many(summary.groups, 'group')}" if summary.groups else ""
    sentences = f", {summary.sentences} sentences" if summary.sentences else ""
    out.print(
        escape(
            f"{summary.name}: {many(videos, 'video')}, {many(summary.classes, 'class')}{activities}{groups}{sentences}"
        )
    )
    show(out, _splits(summary))
    least, median, most = summary.videos_of_a_class
    out.print(f"{summary.labels_of_a_video:.2f} labels a video; a class has {least} to {most} videos, median {median}")
    if summary.unused_classes:
        shown = ", ".join(summary.unused_classes[:UNUSED_SHOWN])
        more = ", ..." if len(summary.unused_classes) > UNUSED_SHOWN else ""
        out.print(escape(f"{len(summary.unused_classes)} classes without a video: {shown}{more}"))
    if summary.pairs:
        pairs = Table("most often together", box=None)
        for name in ("videos", "lift"):
            pairs.add_column(name, justify="right")
        for pair in summary.pairs:
            pairs.add_row(escape(" + ".join(pair.labels)), str(pair.videos), f"{pair.lift:.2f}")
        show(out, pairs)
    if not problems:
        out.print("no problems")
        return
    kinds = Table("problem", box=None)
    kinds.add_column("times", justify="right")
    kinds.add_column("the first")
    first = {problem.kind: problem for problem in reversed(problems)}
    for kind, count in summary.problems.items():
        kinds.add_row(kind, str(count), escape(f"{first[kind].where}: {first[kind].message}"))
    show(out, kinds)


def _splits(summary: ReleaseSummary) -> Table:
    table = Table("split", box=None)
    for name in ("videos", "without labels", "labels", "hours", "intervals", "end after the video", "hold no time"):
        table.add_column(name, justify="right")
    for split in summary.splits:
        hours = "-" if split.hours is None else f"{split.hours:.1f}"
        row = (split.videos, split.without_labels, split.labels, hours, split.intervals, split.ends_after_video)
        table.add_row(escape(str(split.split or "-")), *map(str, row), str(split.no_time))
    return table
