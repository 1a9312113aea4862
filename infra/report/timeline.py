"""Where the marks of one action's timeline stand: saliency over a video, true intervals, and the clips drawn.

All runs share one time axis. Horizontal places are in percent of the plot, vertical places in pixels. One run has
bars; several runs have steps, which can lie over each other. The templates turn the frozen Timeline into SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptfocus.infra.report.charts import TOP_PX, Point, Style, Tick, anchor, clock, number

BARS_HEIGHT_PX = 64
CLIPS_GAP_PX = 32  # below the bars: the strip's own label
CLIP_ROW_PX = 7  # each epoch's clips are one row below those of the previous epoch
MAX_STRIP_PX = 84  # more than 13 epochs get thinner rows; more rows than pixels would be a grey block
MAX_CLIPS = 240  # drawn per timeline; the report says how many were left out
SHORT_SECONDS = 60  # times of shorter videos are shown in tenths of a second
_CLOCK_STEPS_SECONDS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400),
)


@dataclass(frozen=True)
class Span:
    """A piece of the time axis (in percent, with its vertical place in pixels) and its hover text."""

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
class Seen:
    """One action of one video as one run sees it."""

    run: str
    style: Style
    score_bins: Sequence[float | None]
    tau_bins: Sequence[float | None]
    spike_tau: float | None
    salient_seconds: float | None
    # center_seconds, half_width_seconds, reason, epoch, clip_id
    clips: Sequence[tuple[float, float, str, int, int | None]]


@dataclass(frozen=True)
class Lane:
    """A run's marks: bars or steps, the spike, and its clips, by epoch."""

    run: str
    style: Style
    bars: list[Span]
    steps: list[str]  # "x,y x,y ..." in a box of 1000 x the plot's height; empty where there are bars
    unvisited: list[float]  # centres in percent
    spike_bar: Span | None
    spike_point: Point | None
    salient_at: float | None  # percent
    salient_text: Tick | None
    clips: list[Clip]
    epoch_labels: list[Tick]  # pixels down
    clips_label_px: float
    clips_bottom_px: float
    clips_note: str


@dataclass(frozen=True)
class Timeline:
    """One action in one video, over one axis of time."""

    lanes: list[Lane]
    intervals: list[Span]
    y_ticks: list[Tick]
    time_ticks: list[Tick]
    base_px: float  # the bars' foot
    bottom_px: float  # the time axis
    height_px: float


def timeline(
    duration_seconds: float, intervals_seconds: Sequence[tuple[float, float]] | None, seen: Sequence[Seen]
) -> Timeline:
    """One action's saliency over one video. Scores are probabilities; a bin never visited is None."""
    base = float(TOP_PX + BARS_HEIGHT_PX)
    highest = max([s or 0.0 for each in seen for s in each.score_bins])
    top_score = next(t for t in (0.1, 0.25, 0.5, 1.0) if t >= min(1.0, highest))
    lanes: list[Lane] = []
    bottom = base
    for each in seen:
        lanes.append(_lane(each, duration_seconds, top_score, bottom, as_bars=len(seen) == 1))
        bottom = lanes[-1].clips_bottom_px
    return Timeline(
        lanes=lanes,
        intervals=[_interval(start, end, duration_seconds, base) for start, end in intervals_seconds or ()],
        y_ticks=[Tick(base - BARS_HEIGHT_PX * f, number(f * top_score)) for f in (0, 0.5, 1)],
        time_ticks=time_ticks(duration_seconds),
        base_px=base,
        bottom_px=bottom,
        height_px=bottom + 34,
    )


def _lane(seen: Seen, duration_seconds: float, top_score: float, top_px: float, as_bars: bool) -> Lane:
    """One run's lane. `top_px` is the highest place for its clips."""
    bars = _bars(seen, duration_seconds, top_score)
    count, tenths = len(seen.score_bins), duration_seconds < SHORT_SECONDS
    spike = min(count - 1, int(seen.spike_tau * count)) if seen.spike_tau is not None else -1
    placed, labels, bottom, note = _clips(seen.clips, duration_seconds, top_px)
    at = None if seen.salient_seconds is None else _percent(seen.salient_seconds, duration_seconds)
    highest = bars.get(spike)
    return Lane(
        run=seen.run,
        style=seen.style,
        bars=[bar for b, bar in bars.items() if b != spike] if as_bars else [],
        steps=[] if as_bars else _steps(bars, count),
        unvisited=[(b + 0.5) * 100 / count for b in range(count) if b not in bars] if as_bars else [],
        spike_bar=highest if as_bars else None,
        spike_point=None if highest is None or at is None else Point(at, highest.y, f"{seen.run}: {highest.hover}"),
        salient_at=at,
        salient_text=None if at is None else Tick(at, clock(seen.salient_seconds or 0.0, tenths), anchor(at)),
        clips=placed,
        epoch_labels=labels,
        clips_label_px=top_px + 19,
        clips_bottom_px=bottom,
        clips_note=note,
    )


def _bars(seen: Seen, duration_seconds: float, top_score: float) -> dict[int, Span]:
    """Bin -> its bar; a bin that was never visited has no bar."""
    count, tenths = len(seen.score_bins), duration_seconds < SHORT_SECONDS
    bars: dict[int, Span] = {}
    for b, (score, tau) in enumerate(zip(seen.score_bins, seen.tau_bins, strict=True)):
        if score is None:
            continue
        height = max(1.0, BARS_HEIGHT_PX * min(1.0, score / top_score))
        start, end = (clock(duration_seconds * (b + i) / count, tenths) for i in (0, 1))
        visited = f", visited around {clock(tau * duration_seconds, tenths)}" if tau is not None else ""
        hover = f"{start} to {end}: saliency {score:.2f}{visited}"
        bars[b] = Span(b * 100 / count, 100 / count, TOP_PX + BARS_HEIGHT_PX - height, height, hover)
    return bars


def _steps(bars: Mapping[int, Span], count: int) -> list[str]:
    """The bars' tops as lines, broken where a bin was never visited."""
    pieces: list[list[str]] = [[]]
    for b in range(count):
        if b not in bars:
            pieces.append([])
            continue
        bar = bars[b]
        pieces[-1] += [f"{10 * x:.1f},{bar.y:.1f}" for x in (bar.x, bar.x + bar.width)]
    return [" ".join(piece) for piece in pieces if piece]


def time_ticks(duration_seconds: float, wanted: int = 5) -> list[Tick]:
    """Ticks of a time axis at clock steps that people count in; both ends are kept inside the plot."""
    step = next((s for s in _CLOCK_STEPS_SECONDS if duration_seconds / s <= wanted), _CLOCK_STEPS_SECONDS[-1])
    values = [i * step for i in range(int(duration_seconds / step + 1e-9) + 1)]
    return [Tick(100 * v / duration_seconds, clock(v, step < 1), anchor(100 * v / duration_seconds)) for v in values]


def _clips(
    clips: Sequence[tuple[float, float, str, int, int | None]], duration_seconds: float, base_px: float
) -> tuple[list[Clip], list[Tick], float, str]:
    """Rows of the latest MAX_CLIPS clips below the bars, with the oldest epoch on top."""
    kept = sorted(clips, key=lambda c: c[3])[-MAX_CLIPS:]
    if not kept:
        return [], [], base_px, ""
    first, last = kept[0][3], kept[-1][3]
    strip = min(MAX_STRIP_PX, max(CLIP_ROW_PX, CLIP_ROW_PX * (last - first)))
    top = base_px + CLIPS_GAP_PX

    def row(epoch: int) -> float:
        return top + strip * ((epoch - first) / (last - first) if last > first else 0.5)

    placed, tenths = [], duration_seconds < SHORT_SECONDS
    for center, half, reason, epoch, clip_id in kept:
        start, end = max(0.0, center - half), min(duration_seconds, center + half)
        x = _percent(start, duration_seconds)
        extent = _percent(end, duration_seconds) - x
        number = "" if clip_id is None else f", clip {clip_id}"
        hover = f"epoch {epoch}, {reason}: {clock(start, tenths)} to {clock(end, tenths)}{number}"
        placed.append(Clip(_percent(center, duration_seconds), row(epoch), x, extent, reason, hover))
    labels = [Tick(row(epoch), str(epoch)) for epoch in sorted({first, last})]
    left_out = len(clips) - len(kept)
    note = f"The latest {len(kept)} clips are drawn; {left_out} earlier ones are left out." if left_out else ""
    return placed, labels, top + strip + 8, note


def _interval(start_seconds: float, end_seconds: float, duration_seconds: float, base_px: float) -> Span:
    """A true interval as a band behind the bars, cut at the video's ends."""
    x = _percent(start_seconds, duration_seconds)
    width = max(0.4, _percent(end_seconds, duration_seconds) - x)
    start, end = (clock(at, duration_seconds < SHORT_SECONDS) for at in (start_seconds, end_seconds))
    return Span(x, width, TOP_PX, base_px - TOP_PX, f"true interval {start} to {end}")


def _percent(seconds: float, duration_seconds: float) -> float:
    return 100 * min(1.0, max(0.0, seconds / duration_seconds))
