"""One page about one probe, in one file that needs nothing else.

Input: a ProbeResult. Does: lays out scores, losses, classes, and some test videos beside what is true.
Output: an HTML document without scripts or outside references.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptfocus.infra.report import charts
from adaptfocus.infra.report.templates import template
from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.tasks import BACKGROUND
from adaptfocus.trainers.probes.results import ProbeResult, Strips

HEAD_NOTES = {
    "segmentation": (
        "A multi-stage dilated temporal network after MS-TCN: three stages of eight layers and 32 channels. Scores "
        "are taken at 15 Hz; F1@n counts segments that overlap a true one of their class by n per cent."
    ),
    "activity": (
        "Two heads: mlp sees the mean and the maximum over time, and so no order; temporal, after Timeception, sees 64 "
        "stretches of the video through depthwise convolutions over time."
    ),
    "grounding": (
        "A map of proposals after 2D-TAN: every stretch of 32 clips gets a score for the sentence, whose words are "
        "vectors learned on the task."
    ),
}
NO_ACTION = {BACKGROUND, "SIL"}  # drawn as nothing


def write_probe_report(result: ProbeResult, url: str, created: str, command: str) -> None:
    """Render and write the page to a URL. Raises StorageError if the place cannot be written."""
    store.write_bytes(url, render_probe_report(result, created, command).encode("utf-8", errors="replace"))


def render_probe_report(result: ProbeResult, created: str, command: str) -> str:
    """The whole page as text."""
    metrics = result.metrics()
    first = result.outcomes[0]
    numbers = _numbers(first.strips)
    return template("probe.html.j2").render(
        title=f"Probe: {result.task}",
        created=created,
        command=command,
        tiles=[
            {
                "name": name,
                "value": _percent(metrics[name][0]),
                "detail": f"± {_percent(metrics[name][1])}, {len(result.outcomes)} seeds"
                if len(result.outcomes) > 1
                else "one seed",
            }
            for name in result.headline
            if name in metrics
        ],
        metrics=[
            {"name": name, "mean": _percent(mean), "std": _percent(std), "of_seed": [_percent(v) for v in values]}
            for name, (mean, std, values) in metrics.items()
        ],
        seeds=[outcome.seed for outcome in result.outcomes],
        loss_charts=_loss_charts(result),
        details=[
            {"title": t.title, "columns": t.columns, "rows": [[_cell(value) for value in row] for row in t.rows]}
            for t in first.details
        ],
        strips=first.strips,
        numbers=numbers,
        legend=list(numbers.items()) if len(numbers) > 2 else [],
        facts=_facts(result),
        missing=[(split, ids) for split, ids in result.missing.items() if ids],
        head_note=HEAD_NOTES[result.task],
        chart=charts,
    )


def _loss_charts(result: ProbeResult) -> list[charts.LineChart]:
    """One chart a head, one curve a seed."""
    runs = [f"seed {outcome.seed}" for outcome in result.outcomes]
    styles = charts.styles_of([(run, "seeds") for run in runs])
    return [
        charts.line_chart(
            f"Loss, {head}",
            "loss",
            "epoch",
            [
                (run, list(range(1, len(outcome.losses[head]) + 1)), outcome.losses[head])
                for run, outcome in zip(runs, result.outcomes, strict=True)
            ],
            styles,
        )
        for head in result.outcomes[0].losses
    ]


def _numbers(strips: Sequence[Strips]) -> dict[str, int | None]:
    """Every label that is drawn, and its number, from which its colour follows; None for what is no action."""
    labels = sorted({span.label for strip in strips for _, spans in strip.rows for span in spans})
    actions = [label for label in labels if label not in NO_ACTION]
    return {label: n for n, label in enumerate(actions, start=1)} | {
        label: None for label in labels if label in NO_ACTION
    }


def _facts(result: ProbeResult) -> list[tuple[str, str]]:
    facts: list[tuple[str, Any]] = [("features", ", ".join(result.features)), ("annotations", result.annotations)]
    facts += [("dimensions", result.dim), ("stride", f"{result.stride_seconds:g} s")]
    facts += [
        (f"{split}: {what}", f"{count:,}") for split, counts in result.items.items() for what, count in counts.items()
    ]
    facts += [(f"schedule: {name}", value) for name, value in result.schedule.items()]
    seconds = sum(outcome.seconds for outcome in result.outcomes)
    return [(name, str(value)) for name, value in [*facts, ("time", charts.duration(seconds))]]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "–"
    return _percent(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
