"""Where the marks of a chart stand, as plain numbers; the templates turn them into SVG.

Input: numbers with their units.
Does: picks ticks, thins long curves without losing their extremes, places bars, clips and intervals.
Output: frozen records. Across, a place is a percentage of the plot's width; downwards it is pixels: a chart
then fills any width while its text keeps its size, on a phone as on a desktop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PLOT_HEIGHT_PX = 170
BARS_HEIGHT_PX = 64
TOP_PX = 26  # above both kinds of plot: the label of the y axis, or of the spike
CLIPS_GAP_PX = 32  # below the bars: the strip's own label
CLIP_ROW_PX = 7  # one epoch's clips stand a row below the last one's
MAX_STRIP_PX = 84  # 30 epochs then share their rows' height; more rows than pixels would be a grey block
# A plot on a desktop is about 350 px wide: more points than that only make the file longer.
MAX_POINTS = 300
MAX_HOVERS = 60
MAX_CLIPS = 240  # drawn per timeline; the report says how many were left out
HUES, MARKS, DASHES = (
    6,
    ("circle", "square", "triangle", "diamond", "plus", "ring"),
    ("", "7 4", "2 3", "9 3 2 3"),
)
_CLOCK_STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True)
class Style:
    """How one run looks everywhere in a report: hue, mark and dash differ together, never hue alone."""

    hue: int  # 0 .. HUES - 1, a CSS variable
    mark: str  # one of MARKS
    dash: str  # an SVG dash array, "" for a solid line


@dataclass(frozen=True)
class Tick:
    """A tick's place (percent across or pixels down), its text and its alignment (start, middle, end)."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Point:
    """A place in a plot (percent across, pixels down) and what hovering over it says."""

    x: float
    y: float
    hover: str = ""


@dataclass(frozen=True)
class Series:
    """One curve: its unbroken pieces in a box of 1000 x PLOT_HEIGHT_PX, its marks and hover targets."""

    run: str
    style: Style
    pieces: list[str]  # "x,y x,y ..." each
    marks: list[Point]
    hovers: list[Point]
    last: str


@dataclass(frozen=True)
class LineChart:
    """Curves of one name, one for each run, over common axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[Series]
    description: str
    note: str


@dataclass(frozen=True)
class Span:
    """A piece of the time axis, in percent of it, at pixels down; and what hovering over it says."""

    x: float
    width: float
    y: float
    height: float
    hover: str = ""


@dataclass(frozen=True)
class Clip:
    """A drawn clip: centre and extent in percent, row in pixels, and whether it explores or focuses."""

    x: float
    y: float
    start: float
    width: float
    reason: str
    hover: str


@dataclass(frozen=True)
class Timeline:
    """One action in one video: saliency bars, the spike, true intervals, and the clips drawn, by epoch."""

    bars: list[Span]
    unvisited: list[float]  # centres in percent
    spike_bar: Span | None
    salient_at: float | None  # percent
    salient_text: Tick | None
    intervals: list[Span]
    clips: list[Clip]
    epoch_labels: list[Tick]  # pixels down
    y_ticks: list[Tick]
    time_ticks: list[Tick]
    base_px: float  # the bars' foot
    bottom_px: float  # the time axis
    height_px: float
    clips_note: str


def clock(seconds: float) -> str:
    """``83.04 -> "1:23"``, ``3723 -> "1:02:03"``: hours only where there are any; whole seconds."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """``812.4 -> "13 min 32 s"``, ``7260 -> "2 h 1 min"``, ``42.04 -> "42.0 s"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = (f"{hours:,} h", f"{minutes} min") if hours else (f"{minutes} min", f"{rest} s")
    return " ".join(part.replace(" ", "\u00a0") for part in parts)  # a number stays with its unit


def number(value: float) -> str:
    """Three significant digits, thousands apart, no exponent where a person would not write one."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.4f}"


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, from at or below `low` to at or above `high`."""
    if not high > low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / max(1, wanted - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def time_ticks(duration_seconds: float, wanted: int = 5) -> list[Tick]:
    """Ticks of a time axis at clock steps that people count in; both ends are kept inside the plot."""
    step = next((s for s in _CLOCK_STEPS_SECONDS if duration_seconds / s <= wanted), _CLOCK_STEPS_SECONDS[-1])
    values = [i * step for i in range(int(duration_seconds // step) + 1)]
    return [Tick(100 * v / duration_seconds, clock(v), _anchor(100 * v / duration_seconds)) for v in values]


def styles_of(runs: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """(run, regime) in their order -> a style each: a regime has a hue and a mark, its runs differ by dash.

    With one regime only, hue and mark tell the runs apart instead.
    """
    regimes = list(dict.fromkeys(regime for _, regime in runs))
    styles: dict[str, Style] = {}
    seen: dict[str, int] = {}
    for run, regime in runs:
        if run in styles:
            continue
        nth = seen.get(regime, 0)
        seen[regime] = nth + 1
        key, dash = (regimes.index(regime), nth) if len(regimes) > 1 else (nth, nth // HUES)
        styles[run] = Style(key % HUES, MARKS[key % len(MARKS)], DASHES[dash % len(DASHES)])
    return styles


def thin(xs: Sequence[float], ys: Sequence[float], limit: int = MAX_POINTS) -> tuple[list[float], list[float]]:
    """About `limit` points: of each stretch the lowest and the highest, so that no spike is smoothed away."""
    if len(xs) <= limit:
        return list(xs), list(ys)
    kept = {0, len(xs) - 1}
    width = 2 * len(xs) / limit
    for part in range(math.ceil(len(xs) / width)):
        stretch = list(range(int(part * width), min(len(xs), int((part + 1) * width))))
        finite = [i for i in stretch if math.isfinite(ys[i])]
        kept.update({min(finite, key=lambda i: ys[i]), max(finite, key=lambda i: ys[i])} if finite else stretch[:1])
    order = sorted(kept)
    return [xs[i] for i in order], [ys[i] for i in order]


def line_chart(
    title: str,
    unit: str,
    x_label: str,
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    styles: dict[str, Style],
) -> LineChart:
    """(run, xs, ys) over common axes; values that are not numbers break the line and are counted."""
    finite = [
        (x, y) for _, xs, ys in curves for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)
    ]
    x_low, x_high = (min(x for x, _ in finite), max(x for x, _ in finite)) if finite else (0.0, 1.0)
    y_low, y_high = (min(y for _, y in finite), max(y for _, y in finite)) if finite else (0.0, 1.0)
    if 0 < y_low < 0.5 * y_high:
        y_low = 0.0  # a curve that falls by half or more is read against zero
    ticks = nice_ticks(y_low, y_high)
    x_low, x_high = (x_low, x_high) if x_high > x_low else (x_low - 0.5, x_high + 0.5)
    frame = (x_low, x_high, ticks[0], ticks[-1])
    series = [
        _series(run, xs, ys, frame, styles[run], (x_label, unit), (i + 1) / (len(curves) + 1))
        for i, (run, xs, ys) in enumerate(curves)
    ]
    across = [v for v in nice_ticks(x_low, x_high) if x_low <= v <= x_high]
    lost = sum(len(xs) for _, xs, _ in curves) - len(finite)
    return LineChart(
        title=title,
        x_label=x_label,
        y_label=unit,
        x_ticks=[Tick(_across(v, frame), number(v), _anchor(_across(v, frame))) for v in across],
        y_ticks=[Tick(_down(v, frame), number(v)) for v in ticks],
        series=series,
        description=f"{title} in {unit} by {x_label}. " + " ".join(f"{s.run}: {s.last}." for s in series),
        note=f"{lost} value{'s' * (lost > 1)} left out: not a number or infinite." if lost else "",
    )


def timeline(
    duration_seconds: float,
    score_bins: Sequence[float | None],
    tau_bins: Sequence[float | None],
    spike_tau: float | None,
    salient_seconds: float | None,
    intervals_seconds: Sequence[tuple[float, float]] | None,
    clips: Sequence[tuple[float, float, str, int]],  # center_seconds, half_width_seconds, reason, epoch
) -> Timeline:
    """One action's saliency over one video. Scores are probabilities; a bin never visited is None."""
    base = float(TOP_PX + BARS_HEIGHT_PX)
    top_score = next(t for t in (0.1, 0.25, 0.5, 1.0) if t >= min(1.0, max([s or 0.0 for s in score_bins])))
    width = 100 / len(score_bins)
    bars: dict[int, Span] = {}
    for b, (score, tau) in enumerate(zip(score_bins, tau_bins, strict=True)):
        if score is None:
            continue
        height = max(1.0, BARS_HEIGHT_PX * min(1.0, score / top_score))
        start, end = (clock(duration_seconds * (b + i) / len(score_bins)) for i in (0, 1))
        seen = f", visited around {clock(tau * duration_seconds)}" if tau is not None else ""
        bars[b] = Span(b * width, width, base - height, height, f"{start} to {end}: saliency {score:.2f}{seen}")
    spike = min(len(score_bins) - 1, int(spike_tau * len(score_bins))) if spike_tau is not None else -1
    placed, labels, bottom, note = _clips(clips, duration_seconds, base)
    salient = None if salient_seconds is None else _percent(salient_seconds, duration_seconds)
    return Timeline(
        bars=[bar for b, bar in bars.items() if b != spike],
        unvisited=[(b + 0.5) * width for b in range(len(score_bins)) if b not in bars],
        spike_bar=bars.get(spike),
        salient_at=salient,
        salient_text=None if salient is None else Tick(salient, clock(salient_seconds or 0.0), _anchor(salient)),
        intervals=[_interval(start, end, duration_seconds, base) for start, end in intervals_seconds or ()],
        clips=placed,
        epoch_labels=labels,
        y_ticks=[Tick(base - BARS_HEIGHT_PX * f, number(f * top_score)) for f in (0, 0.5, 1)],
        time_ticks=time_ticks(duration_seconds),
        base_px=base,
        bottom_px=bottom,
        height_px=bottom + 34,
        clips_note=note,
    )


def _series(
    run: str,
    xs: Sequence[float],
    ys: Sequence[float],
    frame: tuple[float, float, float, float],
    style: Style,
    units: tuple[str, str],
    shift: float,
) -> Series:
    """Thin, scale and split one curve. `shift` in (0, 1) keeps the marks of runs from hiding each other."""
    xs, ys = thin(xs, ys)
    pieces: list[list[str]] = [[]]
    points: list[Point] = []
    for x, y in zip(xs, ys, strict=True):
        if not (math.isfinite(x) and math.isfinite(y)):
            pieces.append([])
            continue
        at = Point(
            _across(x, frame),
            _down(y, frame),
            f"{run}, {units[0]} {number(x)}: {number(y)} {units[1]}".strip(),
        )
        points.append(at)
        pieces[-1].append(f"{at.x * 10:.1f},{at.y:.1f}")
    every = max(1, len(points) // 5)
    # The end is always marked; a mark within half a step of it would only smudge it.
    marks = points[int(every * shift) : max(0, len(points) - 1 - every // 2) : every] + points[-1:]
    stride = max(1, math.ceil(len(points) / MAX_HOVERS))
    last = next(
        ((x, y) for x, y in zip(xs[::-1], ys[::-1], strict=True) if math.isfinite(x) and math.isfinite(y)),
        None,
    )
    return Series(
        run=run,
        style=style,
        pieces=[" ".join(p) for p in pieces if p],
        marks=marks,
        hovers=points[::stride],
        last=f"{number(last[1])} at {units[0]} {number(last[0])}" if last else "no finite value",
    )


def _clips(
    clips: Sequence[tuple[float, float, str, int]], duration_seconds: float, base_px: float
) -> tuple[list[Clip], list[Tick], float, str]:
    """Rows of clips below the bars, the oldest epoch on top; the latest MAX_CLIPS of them."""
    kept = sorted(clips, key=lambda c: c[3])[-MAX_CLIPS:]
    if not kept:
        return [], [], base_px, ""
    first, last = kept[0][3], kept[-1][3]
    strip = min(MAX_STRIP_PX, max(CLIP_ROW_PX, CLIP_ROW_PX * (last - first)))
    top = base_px + CLIPS_GAP_PX

    def row(epoch: int) -> float:
        return top + strip * ((epoch - first) / (last - first) if last > first else 0.5)

    placed = []
    for center, half, reason, epoch in kept:
        start, end = max(0.0, center - half), min(duration_seconds, center + half)
        x = _percent(start, duration_seconds)
        extent = _percent(end, duration_seconds) - x
        hover = f"epoch {epoch}, {reason}: {clock(start)} to {clock(end)}"
        placed.append(Clip(_percent(center, duration_seconds), row(epoch), x, extent, reason, hover))
    labels = [Tick(row(epoch), str(epoch)) for epoch in sorted({first, last})]
    left_out = len(clips) - len(kept)
    note = f"The latest {len(kept)} clips are drawn; {left_out} earlier ones are left out." if left_out else ""
    return placed, labels, top + strip + 8, note


def _interval(start_seconds: float, end_seconds: float, duration_seconds: float, base_px: float) -> Span:
    """A true interval as a band behind the bars, cut at the video's ends."""
    x = _percent(start_seconds, duration_seconds)
    width = max(0.4, _percent(end_seconds, duration_seconds) - x)
    return Span(x, width, TOP_PX, base_px - TOP_PX, f"true interval {clock(start_seconds)} to {clock(end_seconds)}")


def _percent(seconds: float, duration_seconds: float) -> float:
    return 100 * min(1.0, max(0.0, seconds / duration_seconds))


def _across(x: float, frame: tuple[float, float, float, float]) -> float:
    return 100 * (x - frame[0]) / (frame[1] - frame[0])


def _down(y: float, frame: tuple[float, float, float, float]) -> float:
    return TOP_PX + PLOT_HEIGHT_PX * (frame[3] - y) / (frame[3] - frame[2])


def _anchor(percent: float) -> str:
    """Text near an end of the axis is aligned to it, so that it stays inside the chart."""
    return "start" if percent < 6 else "end" if percent > 94 else "middle"
