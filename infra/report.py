"""One page about one or several training runs, in one file that needs nothing else.

Input: ReportData, gathered by whoever knows where runs are stored.
Does: computes the verdict, lays out table, curves and timelines, fills the templates with everything escaped.
Output: an HTML document without scripts or outside references: it works offline, by mail, on paper.

Scores (mAP, hit rates, saliency) are fractions in [0, 1] here and percent on the page.
"""

from __future__ import annotations

import base64
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jinja2

from infra import charts
from pipelines import storage

# Where there are too few seeds to measure a spread: single Noisy runs were seen to differ by 7 points
# (standard deviation over seeds, 30 epochs, synthetic world), other regimes by 1 to 4.
SINGLE_RUN_SPREAD_POINTS = 7.0
# Student's t, two-sided 95 %, for n paired differences: three seeds prove less than two standard errors
# suggest.
_T95 = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31}
_SAME_BUDGET = 0.01  # relative; a padded last batch moves the number of clips by less

# By name in lower case; a curve of another name is drawn without a note.
DIAGNOSTIC_NOTES = {
    "share of positives unmasked": (
        "Clip focusing keeps the positives near the salient time. Near 1 it masks nothing; near 0 training starves."
    ),
    "mean a": ("Mean spike-actionness. It should rise after warm-up; if it stays flat, no action has been found."),
    "precision of weighted positives": (
        "Share of the positives' weight on clips that truly show the action (needs true intervals)."
    ),
    "lambda hit rate": (
        "Share of salient times inside a true interval (needs true intervals). Compare it with chance."
    ),
    "effective t": ("Softness of the weights relative to the scores: small is hard selection, large is no selection."),
}


@dataclass(frozen=True)
class Curve:
    """One quantity of one run. Curves of the same name share a chart."""

    name: str
    unit: str
    xs: Sequence[float]
    ys: Sequence[float]
    run: str
    x_label: str = "epoch"

    def __post_init__(self) -> None:
        if len(self.xs) != len(self.ys):
            raise ValueError(f"curve {self.name!r} of {self.run!r}: {len(self.xs)} xs but {len(self.ys)} ys")


@dataclass(frozen=True)
class RunRow:
    """What is known about a run; None for what is not. Scores are fractions in [0, 1]."""

    run: str
    regime: str
    epochs: int | None = None
    clips_trained: int | None = None
    map_max: float | None = None
    map_mean: float | None = None
    per_time_map: float | None = None
    hit_rate: float | None = None
    clips_per_video: float | None = None
    seconds: float | None = None
    workers: int | None = None
    notes: str = ""
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("map_max", "map_mean", "per_time_map", "hit_rate"):
            value = getattr(self, name)
            if value is not None and not (0 <= value <= 1):
                raise ValueError(f"run {self.run!r}: {name} is {value}, must be a fraction in [0, 1] or None")


@dataclass(frozen=True)
class ActionTimeline:
    """Saliency of one action in one video: n bins over it, None where never visited."""

    label: str
    score_bins: Sequence[float | None]  # [n]
    tau_bins: Sequence[float | None]  # [n] fraction of the video
    spike_score: float | None
    spike_tau: float | None
    salient_seconds: float | None
    intervals_seconds: Sequence[tuple[float, float]] | None = None
    hit: bool | None = None

    def __post_init__(self) -> None:
        if not self.score_bins or len(self.score_bins) != len(self.tau_bins):
            raise ValueError(
                f"action {self.label!r}: {len(self.score_bins)} scores, {len(self.tau_bins)} taus; "
                "there must be as many of both, and at least one"
            )


class DrawnClip(NamedTuple):
    """A drawn clip: ``reason`` is "explore" or "focus"; ``label`` is the action it was drawn around."""

    center_seconds: float
    half_width_seconds: float
    reason: str
    label: str | None
    epoch: int


class Thumbnail(NamedTuple):
    """A frame as JPEG or PNG, for the action it belongs to."""

    label: str
    seconds: float
    image: bytes


class Dropped(NamedTuple):
    """What was left out: a stable kind, how often, and one message as an example."""

    kind: str
    count: int
    example: str


@dataclass(frozen=True)
class VideoSample:
    """One video as one run saw it."""

    run: str
    video_id: str
    duration_seconds: float
    labels: Sequence[str]
    actions: Sequence[ActionTimeline]
    drawn_clips: Sequence[DrawnClip] = ()
    thumbnails: Sequence[Thumbnail] = ()

    def __post_init__(self) -> None:
        if not self.duration_seconds > 0:
            raise ValueError(f"video {self.video_id!r}: duration is {self.duration_seconds} s, must be above 0")


@dataclass(frozen=True)
class ReportData:
    """All that one page shows."""

    title: str
    created: str
    command: str
    runs: Sequence[RunRow]
    curves: Sequence[Curve] = ()
    diagnostics: Sequence[Curve] = ()
    samples: Sequence[VideoSample] = ()
    dropped: Sequence[Dropped] = ()
    config_text: str = ""
    ledger: Sequence[tuple[str, str | int | float]] = ()


@dataclass(frozen=True)
class Tile:
    """A number that matters, large, with what it is made of below it."""

    name: str
    value: str
    details: list[str]


@dataclass(frozen=True)
class Verdict:
    """``outcome`` is won, lost, open (chance may explain it) or none (nothing to compare)."""

    outcome: str
    sentence: str
    caveats: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)


@dataclass(frozen=True)
class TableRow:
    """One fact over all runs; `best` are the columns with the highest value, where higher is better."""

    name: str
    cells: list[str]
    best: set[int]


def write_report(data: ReportData, url: str) -> None:
    """Render and write the page to a URL. Raises StorageError if the place cannot be written."""
    # A file name may carry bytes that are not UTF-8; one odd name must not cost the report.
    storage.write_bytes(url, render_report(data).encode("utf-8", errors="replace"))


def render_report(data: ReportData) -> str:
    """The whole page as text."""
    known = [(r.run, r.regime) for r in data.runs]
    others = [c.run for c in (*data.curves, *data.diagnostics)]
    styles = charts.styles_of(known + [(run, run) for run in others if run not in dict(known)])
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("infra", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["clock"] = charts.clock
    return env.get_template("report.html.j2").render(
        data=data,
        verdict=judge(data.runs),
        table=comparison_table(data.runs),
        styles=styles,
        curve_charts=_line_charts(data.curves, styles),
        diagnostic_charts=_line_charts(data.diagnostics, styles),
        notes=DIAGNOSTIC_NOTES,
        samples=[_sample_view(s) for s in data.samples],
        dropped_total=sum(row[1] for row in data.dropped),
        chart=charts,
    )


def judge(runs: Sequence[RunRow]) -> Verdict:
    """Compare Ours with Noisy (else the last regime with the first) by mAP, as far as the data carries."""
    groups = _groups(runs)
    tiles = [_tile(name, rows) for name, rows in groups.items()]
    if len(groups) < 2:
        score = f", mAP {_percent(runs[0].map_max)}" if runs and runs[0].map_max is not None else ""
        return Verdict(
            "none",
            f"{'One run' if runs else 'No run'}{score}: there is nothing to compare it with.",
            tiles=tiles,
        )
    ours, base, caveats = _pair(groups)
    mean = {name: _mean([r.map_max for r in rows]) for name, rows in groups.items()}
    new, old = mean[ours], mean[base]
    if new is None or old is None:
        missing = " and ".join(n for n in (ours, base) if mean[n] is None)
        return Verdict("none", f"No verdict: the mAP of {missing} is not known.", caveats, tiles)
    points, (chance, why) = 100 * (new - old), _chance(groups[ours], groups[base])
    caveats += _budget_caveats([*groups[ours], *groups[base]])
    unequal = ", on unequal budgets" if len(caveats) and caveats[-1].startswith("Unequal") else ""
    scores = f"{_percent(new)} mAP against {_percent(old)} for {base}"
    if abs(points) <= chance:
        outcome = "open"
        sentence = (
            f"No clear winner: {ours} has {scores}, and a difference of {points:+.1f} points may be chance{unequal}."
        )
    elif points > 0:
        outcome, sentence = "won", f"{ours} won: {scores}, {points:.1f} points more{unequal}."
    else:
        outcome, sentence = "lost", f"{ours} did not win: {scores}, {-points:.1f} points less{unequal}."
    caveats.insert(0, f"Differences up to {chance:.1f} points count as chance here: {why}")
    upper = next((mean[n] for n in groups if _role(n) == "full"), None)
    if upper is not None and upper > old and _role(base) == "noisy":
        share = 100 * (new - old) / (upper - old)
        caveats.append(
            f"Of the gap between {base} and training with true intervals ({_percent(upper)}), {share:.0f} % is closed."
        )
    return Verdict(
        outcome,
        sentence,
        caveats,
        [*tiles, Tile("Difference", f"{points:+.1f}", ["points of mAP", f"{ours} − {base}"])],
    )


def comparison_table(runs: Sequence[RunRow]) -> list[TableRow]:
    """Facts downwards, runs across: two runs then fit a phone; more scroll inside the table's box."""

    def row(name: str, values: list, text: Callable[..., str], compare: bool = False) -> TableRow:
        known = [v for v in values if v is not None]
        best = {i for i, v in enumerate(values) if v == max(known)} if compare and len(set(known)) > 1 else set()
        return TableRow(name, ["" if v is None else text(v) for v in values], best)

    return [
        row("Regime", [r.regime for r in runs], str),
        row("mAP, max over views (%)", [r.map_max for r in runs], _percent, True),
        row("mAP, mean over views (%)", [r.map_mean for r in runs], _percent, True),
        row("Per-time mAP (%)", [r.per_time_map for r in runs], _percent, True),
        row("Salient time inside a true interval (%)", [r.hit_rate for r in runs], _percent, True),
        row("Epochs", [r.epochs for r in runs], "{:,}".format),
        row("Clips trained", [r.clips_trained for r in runs], "{:,}".format),
        row("Clips per video and epoch", [r.clips_per_video for r in runs], "{:g}".format),
        row("Wall time", [r.seconds for r in runs], charts.duration),
        row("Workers", [r.workers for r in runs], "{:,}".format),
        row("Seed", [r.seed for r in runs], str),
        row("Notes", [r.notes or None for r in runs], str),
    ]


def _groups(runs: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """Runs by regime; by name where all have the same regime."""
    by_regime = len({r.regime for r in runs}) > 1
    groups: dict[str, list[RunRow]] = {}
    for r in runs:
        groups.setdefault(r.regime if by_regime else r.run, []).append(r)
    return groups


def _role(regime: str) -> str:
    """ "ours", "noisy", "full" or "" from a regime's name; noisy-OR is a loss, not the Noisy regime."""
    text = regime.lower().replace("noisy-or", "").replace("noisy_or", "")
    words = {"ours": "ours", "adaptfocus": "ours", "noisy": "noisy", "full": "full", "clean": "full"}
    return next((role for word, role in words.items() if word in text), "")


def _pair(groups: dict[str, list[RunRow]]) -> tuple[str, str, list[str]]:
    """(contender, baseline, caveats)."""
    names = list(groups)
    ours, noisy = [n for n in names if _role(n) == "ours"], [n for n in names if _role(n) == "noisy"]
    if not ours or not noisy:
        return names[-1], names[0], []
    best = max(ours, key=lambda n: _mean([r.map_max for r in groups[n]]) or 0.0)
    chosen = f"{best} is the best of {len(ours)} variants, chosen after the fact, which flatters it."
    return best, noisy[0], [chosen] if len(ours) > 1 else []


def _chance(ours: Sequence[RunRow], base: Sequence[RunRow]) -> tuple[float, str]:
    """How many points of mAP chance explains, and why we think so."""
    by_seed = {r.seed: r.map_max for r in base if r.seed is not None and r.map_max is not None}
    pairs = [100 * (r.map_max - by_seed[r.seed]) for r in ours if r.map_max is not None and r.seed in by_seed]
    if len(pairs) >= 3:
        error = statistics.stdev(pairs) / math.sqrt(len(pairs))
        return _T95.get(len(pairs), 2.0) * error, f"the 95 % interval over {len(pairs)} pairs of runs with equal seeds."
    return SINGLE_RUN_SPREAD_POINTS, (
        "fewer than three pairs of runs with equal seeds, so the spread is not measured; "
        "single runs of one setting were seen to differ by that much."
    )


def _budget_caveats(rows: Sequence[RunRow]) -> list[str]:
    """Named differences of budget. A comparison means little if one side trained on more."""
    found = []
    for what, values in (
        ("epochs", [r.epochs for r in rows if r.epochs is not None]),
        ("clips trained", [r.clips_trained for r in rows if r.clips_trained is not None]),
    ):
        if values and max(values) - min(values) > _SAME_BUDGET * max(values):
            found.append(f"Unequal budgets: {min(values):,} to {max(values):,} {what}.")
    return found


def _tile(name: str, rows: Sequence[RunRow]) -> Tile:
    scores = [r.map_max for r in rows if r.map_max is not None]
    spread = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    means = {
        "mean over views": _mean([r.map_mean for r in rows]),
        "per-time": _mean([r.per_time_map for r in rows]),
        "salient time hits": _mean([r.hit_rate for r in rows]),
    }
    details = [f"mAP in %, {len(rows)} run{'s' * (len(rows) > 1)}"]
    details += [f"{what} {_percent(value)}" for what, value in means.items() if value is not None]
    score = _mean(scores)
    return Tile(name, "not known" if score is None else _percent(score) + spread, details)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"


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
        lines = charts.timeline(
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
