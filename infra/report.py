"""One page about one or several training runs, in one file that needs nothing else.

Input: ReportData, gathered by whoever knows where runs are stored.
Does: lays out verdict, table, curves and timelines, fills the templates with everything escaped.
Output: an HTML document without scripts or outside references: it works offline, by mail, on paper.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from infra import charts
from infra.charts_timeline import timeline
from infra.pages import template
from infra.report_data import Curve, ReportData, VideoSample
from infra.verdict import comparison_table, judge
from pipelines import storage

# By name in lower case; a curve of another name is drawn without a note.
CHART_NOTES = {
    "training loss": "Regimes weigh positives differently: compare the shapes of their losses, not the heights.",
    "positives left unmasked": (
        "Clip focusing keeps the positives near the salient time. Near 100 it masks nothing; near 0 training starves."
    ),
    "mean spike-actionness": (
        "How sure the model is at each action's spike. It should rise after warm-up; flat, it has found no action."
    ),
    "precision of weak negatives": (
        "Of the weight that labels far from their salient times had as negatives, the share on clips that truly do not "
        "show the action. None before weak negatives begin."
    ),
    "precision of weighted positives": (
        "Share of the positives' weight on clips that truly show the action. No better than random moments, "
        "training still learns from clips without the action."
    ),
    "salient times inside a true interval": "How often the spike is where the action truly is.",
    "temperature over median p": (
        "Softness of the weights relative to the scores: small is hard selection, large is no selection."
    ),
}


def write_report(data: ReportData, url: str) -> None:
    """Render and write the page to a URL. Raises StorageError if the place cannot be written."""
    # A file name may carry bytes that are not UTF-8; one odd name must not cost the report.
    storage.write_bytes(url, render_report(data).encode("utf-8", errors="replace"))


def render_report(data: ReportData) -> str:
    """The whole page as text."""
    known = [(r.run, r.regime) for r in data.runs]
    others = [c.run for c in (*data.curves, *data.diagnostics)]
    styles = charts.styles_of(known + [(run, run) for run in others if run not in dict(known)])
    return template("report.html.j2").render(
        data=data,
        verdict=judge(data.runs),
        table=comparison_table(data.runs),
        styles=styles,
        curve_charts=_line_charts(data.curves, styles),
        diagnostic_charts=_line_charts(data.diagnostics, styles),
        notes=CHART_NOTES,
        samples=[_sample_view(s) for s in data.samples],
        chart=charts,
    )


def _line_charts(curves: Sequence[Curve], styles: dict[str, charts.Style]) -> list[charts.LineChart]:
    """One chart for each name, in order of first appearance."""
    named: dict[str, list[Curve]] = {}
    for curve in curves:
        named.setdefault(curve.name, []).append(curve)
    return [
        charts.line_chart(name, same[0].unit, same[0].x_label, [(c.run, c.xs, c.ys) for c in same], styles)
        for name, same in named.items()
    ]


def _sample_view(sample: VideoSample) -> dict:
    """A video with a timeline for each action: the exploring clips, and those that focus on the action."""
    pictures = [(label, seconds, _data_uri(image)) for label, seconds, image in sample.thumbnails]
    actions = []
    for action in sample.actions:
        clips = [(c[0], c[1], c[2], c[4]) for c in sample.drawn_clips if c[2] == "explore" or c[3] == action.label]
        lines = timeline(
            sample.duration_seconds, action.score_bins, action.tau_bins, action.spike_tau,
            action.salient_seconds, action.intervals_seconds, clips,
        )  # fmt: skip
        actions.append(
            {
                "action": action,
                "timeline": lines,
                "clips": len(clips),
                "focused": sum(c[2] == "focus" for c in clips),
                "pictures": [p for p in pictures if p[0] == action.label],
            }
        )
    labels = {a.label for a in sample.actions}
    known = [a.hit for a in sample.actions if a.hit is not None]
    return {
        "sample": sample,
        "actions": actions,
        "pictures": [p for p in pictures if p[0] not in labels],
        "summary": f"{sum(known)} of {len(known)} spikes inside a true interval"
        if known
        else "true intervals not known",
    }


def _data_uri(image: bytes) -> str:
    """An image inside the page; empty for bytes that are neither JPEG nor PNG."""
    for magic, kind in ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png")):
        if image.startswith(magic):
            return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    return ""
