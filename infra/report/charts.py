"""Where the marks of a chart stand, as plain numbers; the templates turn them into SVG.

Input: numbers with their units.
Does: picks ticks, styles runs, thins long curves without losing their extremes.
Output: frozen records. Across, a place is a percentage of the plot's width; downwards it is pixels: a chart
then fills any width while its text keeps its size, on a phone as on a desktop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PLOT_HEIGHT_PX = 170
TOP_PX = 26  # above every plot: the label of the y axis, or of the spike
# A plot on a desktop is about 350 px wide: more points than that only make the file longer.
MAX_POINTS = 300
MAX_HOVERS = 60
HUES, MARKS, DASHES = (
    6,
    ("circle", "square", "triangle", "diamond", "plus", "ring"),
    ("", "7 4", "2 3", "9 3 2 3"),
)


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


def clock(seconds: float, tenths: bool = False) -> str:
    """``83.04 -> "1:23"``, ``3723 -> "1:02:03"``: hours only where there are any; whole seconds, or ``"1:23.0"``."""
    whole = round(10 * seconds) if tenths else 10 * round(seconds)
    hours, minutes, rest = whole // 36_000, whole // 600 % 60, whole % 600 / 10
    text = f"{rest:04.1f}" if tenths else f"{rest:02.0f}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


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


def nice_ticks(low: float, high: float, wanted: int = 5, whole: bool = False) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, from at or below `low` to at or above `high`.

    `whole` leaves out steps below 1: nobody counts half epochs.
    """
    if not high > low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / max(1, wanted - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


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
        key, again = (regimes.index(regime), nth) if len(regimes) > 1 else (nth, 0)
        dash = again + key // HUES  # hues that come round again differ by dash
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
    across = [v for v in nice_ticks(x_low, x_high, whole=x_label == "epoch") if x_low <= v <= x_high]
    lost = sum(len(xs) for _, xs, _ in curves) - len(finite)
    return LineChart(
        title=title,
        x_label=x_label,
        y_label=unit,
        x_ticks=[Tick(_across(v, frame), number(v), anchor(_across(v, frame))) for v in across],
        y_ticks=[Tick(_down(v, frame), number(v)) for v in ticks],
        series=series,
        description=f"{title} in {unit} by {x_label}. " + " ".join(f"{s.run}: {s.last}." for s in series),
        note=f"{lost} value{'s' * (lost > 1)} left out: not a number or infinite." if lost else "",
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


def _across(x: float, frame: tuple[float, float, float, float]) -> float:
    return 100 * (x - frame[0]) / (frame[1] - frame[0])


def _down(y: float, frame: tuple[float, float, float, float]) -> float:
    return TOP_PX + PLOT_HEIGHT_PX * (frame[3] - y) / (frame[3] - frame[2])


def anchor(percent: float) -> str:
    """Text near an end of the axis is aligned to it, so that it stays inside the chart."""
    return "start" if percent < 6 else "end" if percent > 94 else "middle"
