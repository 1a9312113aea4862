"""Where the marks of one action's timeline stand: saliency over a video, true intervals, and the clips drawn.

Input: bins, times in seconds, clips by epoch. Does: places them, across in percent of the plot, downwards in pixels.
Output: a frozen Timeline, which the templates turn into SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.charts import TOP_PX, Tick, anchor, clock, number

BARS_HEIGHT_PX = 64
CLIPS_GAP_PX = 32  # below the bars: the strip's own label
CLIP_ROW_PX = 7  # one epoch's clips stand a row below the last one's
MAX_STRIP_PX = 84  # 30 epochs then share their rows' height; more rows than pixels would be a grey block
MAX_CLIPS = 240  # drawn per timeline; the report says how many were left out
_CLOCK_STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


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
        salient_text=None if salient is None else Tick(salient, clock(salient_seconds or 0.0), anchor(salient)),
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


def time_ticks(duration_seconds: float, wanted: int = 5) -> list[Tick]:
    """Ticks of a time axis at clock steps that people count in; both ends are kept inside the plot."""
    step = next((s for s in _CLOCK_STEPS_SECONDS if duration_seconds / s <= wanted), _CLOCK_STEPS_SECONDS[-1])
    values = [i * step for i in range(int(duration_seconds // step) + 1)]
    return [Tick(100 * v / duration_seconds, clock(v), anchor(100 * v / duration_seconds)) for v in values]


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
