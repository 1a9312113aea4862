"""Tables of runs: the facts of a few side by side, many runs with their differing settings, and classes by their AP.

The best is marked where scores can be ranked. A cell has a text and a value to sort by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adaptfocus.infra.report import charts
from adaptfocus.infra.report.data import RunRow
from adaptfocus.infra.report.verdict_facts import SIDE_BY_SIDE, percent, rankable_runs


@dataclass(frozen=True)
class Cell:
    """A cell of a table: `value` is the sort key, `note` is small text after the main text."""

    text: str
    value: float | str | None = None
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class TableRow:
    """A name (of a fact, a run or a class), its cells, and a remark that stands below the name."""

    name: str
    cells: list[Cell]
    note: str = ""


@dataclass(frozen=True)
class ClassTable:
    """AP of each class that has test videos."""

    runs: list[str]
    rows: list[TableRow]  # cells: test videos, then AP of each run
    without: list[str]  # classes without a test video, which have no AP


_FACTS: list[tuple[str, Callable[[RunRow], object], Callable[..., str], bool]] = [
    ("Regime", lambda r: r.regime, str, False),
    ("mAP, max over views (%)", lambda r: r.map_max, percent, True),
    ("mAP, mean over views (%)", lambda r: r.map_mean, percent, True),
    ("Per-time mAP (%)", lambda r: r.per_time_map, percent, True),
    ("Salient times inside a true interval (%)", lambda r: r.hit_rate, percent, True),
    ("… of random moments (%)", lambda r: r.hit_chance, percent, False),
    ("Test videos", lambda r: r.evaluated and r.evaluated.videos, "{:,}".format, False),
    (
        "Test videos that do not decode",
        lambda r: (r.evaluated and r.evaluated.undecodable) or None,
        "{:,}".format,
        False,
    ),
    ("Test index", lambda r: r.evaluated and r.evaluated.fingerprint and r.evaluated.fingerprint[:8], str, False),
    ("Views x crops", lambda r: _views(r), str, False),
    ("Scored after epoch", lambda r: r.evaluated and r.evaluated.epoch, "{:,}".format, False),
    ("Epochs", lambda r: _epochs(r), str, False),
    ("Bags per epoch", lambda r: r.bags_per_epoch, "{:,}".format, False),
    ("Clips trained", lambda r: r.clips_trained, "{:,}".format, False),
    ("Clips per video and epoch", lambda r: r.clips_per_video, "{:g}".format, False),
    ("Training time", lambda r: r.seconds, charts.duration, False),
    ("Waiting for clips (% of the time)", lambda r: r.spent and r.spent.waiting, "{:.0%}".format, False),
    ("Workers", lambda r: r.workers, "{:,}".format, False),
    ("Seed", lambda r: r.seed, str, False),
    ("Notes", lambda r: r.notes or None, str, False),
]
_INTERVALS = {
    "mAP, max over views (%)": "map_max", "mAP, mean over views (%)": "map_mean", "Per-time mAP (%)": "per_time_map",
}  # fmt: skip
_OF_MANY = (*_INTERVALS, "Salient times inside a true interval (%)", "Test videos", "Views x crops", "Epochs",
            "Training time", "Waiting for clips (% of the time)", "Notes")  # fmt: skip


def comparison_table(runs: Sequence[RunRow]) -> list[TableRow]:
    """A row for each fact, a column for each run: a few runs then fit a phone. Facts known of no run are left out."""
    alike = rankable_runs(runs)
    rankable = alike if len(runs) > SIDE_BY_SIDE or len(alike) == sum(r.map_max is not None for r in runs) else []
    rows = []
    for name, value, text, compare in _FACTS:
        values = [value(r) for r in runs]
        if all(v is None for v in values):
            continue
        ranked = [v for i, v in enumerate(values) if v is not None and (name not in _INTERVALS or i in rankable)]
        highest = max(ranked) if compare and len(set(ranked)) > 1 else None  # type: ignore[type-var]
        cells = []
        for i, (r, v) in enumerate(zip(runs, values, strict=True)):
            best = v is not None and v == highest and (name not in _INTERVALS or i in rankable)
            sort_by = v if isinstance(v, float | int | str) else None
            cells.append(Cell("" if v is None else text(v), sort_by, best, _interval(r, name)))
        rows.append(TableRow(name, cells))
    return rows


def table_of_many(runs: Sequence[RunRow]) -> tuple[list[str], list[TableRow]]:
    """One row for each run -> (titles of the columns, rows). Settings that differ come after the score.

    The best comes first. Runs that were scored on other videos or views than most come after them, unranked.
    """
    facts = {row.name: row.cells for row in comparison_table(runs) if row.name in _OF_MANY}
    settings = sorted(runs[0].settings, key=lambda key: key == "seed") if runs else []
    scored = [name for name in facts if name in _INTERVALS]
    columns = [*scored[:1], *settings, *scored[1:], *(name for name in facts if name not in _INTERVALS)]
    ranked = rankable_runs(runs)

    def place(i: int) -> tuple[bool, float]:
        score = runs[i].map_max
        return i not in ranked, 1.0 if score is None else -score

    rows = []
    for i in sorted(range(len(runs)), key=place):
        given = {key: Cell(text, _number(text)) for key, text in runs[i].settings.items()}
        cells = [facts[c][i] if c in facts else given[c] for c in columns]
        rows.append(TableRow(runs[i].run, cells, _why_unranked(runs[i], i in ranked)))
    return columns, rows


def _why_unranked(run: RunRow, ranked: bool) -> str:
    if ranked:
        return ""
    return "not evaluated" if run.map_max is None else "scored on other videos or views than most: not ranked"


def class_table(runs: Sequence[RunRow]) -> ClassTable:
    """The AP of each class in each run, lowest of the last run first; and its number of test videos if recorded."""
    scored = [r for r in runs if r.evaluated and r.evaluated.class_ap]
    classes = list(dict.fromkeys(name for r in scored for name in r.evaluated.class_ap))  # type: ignore[union-attr]
    rows, without = [], []
    for name in classes:
        aps = [r.evaluated.class_ap.get(name) for r in scored]  # type: ignore[union-attr]
        counts = [n for r in scored if (n := r.evaluated.class_positives.get(name)) is not None]  # type: ignore[union-attr]
        if all(ap is None for ap in aps):
            without.append(name)
            continue
        count = Cell(" / ".join(dict.fromkeys(map(str, counts))), counts[0]) if counts else Cell("")
        best = max((ap for ap in aps if ap is not None), default=None) if len(set(aps)) > 1 else None
        rows.append(TableRow(name, [count, *(Cell(percent(ap), ap, ap is not None and ap == best) for ap in aps)]))
    rows.sort(key=lambda row: (float(row.cells[-1].value if row.cells[-1].value is not None else -1), row.name))
    return ClassTable([r.run for r in scored], rows, without)


def _views(r: RunRow) -> str | None:
    e = r.evaluated
    return f"{e.views} x {e.crops or 1}" if e and e.views else None


def _epochs(r: RunRow) -> str | None:
    if r.epochs is None:
        return None
    return (
        f"{r.epochs:,} of {r.epochs_planned:,}"
        if r.epochs_planned and r.epochs != r.epochs_planned
        else f"{r.epochs:,}"
    )


def _interval(r: RunRow, name: str) -> str:
    found = r.evaluated.intervals.get(_INTERVALS[name]) if r.evaluated and name in _INTERVALS else None
    return f"{percent(found[0])}–{percent(found[1])}" if found else ""


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
