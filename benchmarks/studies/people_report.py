"""The report of the benchmark on people: a table for each corpus as Markdown, and curves as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.figures import Figure
from benchmarks.studies.regime_figures import Outcome, Row, Spread, rows_of
from benchmarks.studies.regime_report import chart as regime_chart
from benchmarks.studies.regime_report import commit, machine
from benchmarks.studies.variants import VARIANTS

HEAD = """| variant | mAP, max | mAP, mean | per-time mAP | hit rate | max, over noisy | n |
|---|---|---|---|---|---|---|
"""


def markdown(outcomes: Sequence[Outcome], found: Sequence[Figure], epochs: int, views: int) -> str:
    """The page of results."""
    parts = [
        "# Long videos of real people, stitched from trimmed clips\n",
        f"{len(outcomes)} runs of {epochs} epochs, {views} views a test video, commit {commit()}, {machine()}.\n",
        "Nobody who is in a training video is in a test video. Mean \u00b1 standard deviation over seeds (n - 1), in "
        "per cent; the rows of a table are paired by seed.\n",
    ]
    for corpus in dict.fromkeys(each.world for each in outcomes):
        parts.append(f"## {corpus}\n\n{HEAD}" + "\n".join(_row(row) for row in rows_of(outcomes, corpus)) + "\n")
        parts.append(f"![mAP by epochs trained](images/people-{corpus}.svg)\n")
    shares = [
        f"- `{each.name}`: {each.value:.2f} ({each.low:.2f} to {each.high:.2f})"
        for each in found
        if each.unit == "share"
    ]
    return "\n".join([*parts, "## Share of the way from `noisy` to `full`\n", *shares, ""])


def chart(outcomes: Sequence[Outcome], corpus: str) -> str:
    """mAP by epochs trained, as an SVG that needs nothing else."""
    return regime_chart(outcomes, corpus)


def _row(row: Row) -> str:
    over = row.over.get("noisy")
    cells = [
        f"`{row.variant}`: {VARIANTS[row.variant].what}",
        *map(_spread, (row.map_max, row.map_mean, row.per_time_map)),
    ]
    cells += [_spread(row.hit_rate), f"{over.mean:+.1f} \u00b1 {over.std:.1f}" if over else "", str(row.map_max.n)]
    return f"| {' | '.join(cells)} |"


def _spread(spread: Spread | None) -> str:
    return f"{spread.mean:.1f} \u00b1 {spread.std:.1f}" if spread else ""
