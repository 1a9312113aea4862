"""One page about one or several training runs, in one file that needs nothing else.

The page is an HTML document without outside references: it works offline, by mail and on paper. Everything in it is
escaped. Its only script is our own, allowed by its hash. It sorts, filters and enlarges; the page is complete
without it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby

from adaptfocus.infra.report import charts
from adaptfocus.infra.report.comparison import class_table, comparison_table, table_of_many
from adaptfocus.infra.report.data import Curve, ReportData
from adaptfocus.infra.report.glossary import CHART_NOTES, GLOSSARY
from adaptfocus.infra.report.sample_views import hit_or_miss, sample_view
from adaptfocus.infra.report.templates import template
from adaptfocus.infra.report.verdict import SIDE_BY_SIDE, choose_full_runs, judge
from adaptfocus.infra.running.time_spent import bottleneck_of
from adaptfocus.pipelines import store


def write_report(data: ReportData, url: str) -> None:
    """Render and write the page to a URL. Raises StorageError if the place cannot be written."""
    # A file name may contain bytes that are not UTF-8. One odd name must not prevent the report.
    store.write_bytes(url, render_report(data).encode("utf-8", errors="replace"))


def render_report(data: ReportData) -> str:
    """The whole page as text."""
    many = len(data.runs) > SIDE_BY_SIDE
    known = [] if many else [(r.run, r.regime) for r in data.runs]
    others = [c.run for c in (*data.curves, *data.diagnostics)] + [s.run for s in data.samples]
    styles = charts.styles_of(known + [(run, run) for run in others if run not in dict(known)])
    full = [r for r in data.runs if r.run in choose_full_runs(data.runs)]
    if many:
        full.sort(key=lambda r: r.map_max or 0.0)
    script = (files("adaptfocus.infra") / "templates" / "report.js").read_text(encoding="utf-8")
    return template("report.html.j2").render(
        data=data,
        verdict=judge(data.runs, data.evaluation),
        found=[r for r in full if r.found],
        advice=[f"{r.run}: {bottleneck_of(r.spent).says}" for r in full if r.spent],
        many=table_of_many(data.runs) if many else None,
        table=comparison_table(data.runs),
        classes=class_table(full),
        styles=styles,
        curve_charts=_line_charts(data.curves, styles),
        diagnostic_charts=_line_charts(data.diagnostics, styles),
        notes=CHART_NOTES,
        glossary=GLOSSARY,
        hit_or_miss=hit_or_miss,
        samples=[sample_view(list(same), styles) for _, same in groupby(data.samples, key=lambda s: s.video_id)],
        chart=charts,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
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
