"""Charts and timelines keep what matters, put marks where they belong, and give few and round ticks."""

from __future__ import annotations

import math

import pytest

from adaptfocus.infra.report import charts, timeline


def test_thinning_keeps_a_single_spike() -> None:
    """A loss that exploded for one step in 100,000 must still be seen."""
    ys = [1.0] * 100_000
    ys[54_321] = 50.0
    xs, thinned = charts.thin(range(100_000), ys)
    assert len(xs) <= charts.MAX_POINTS + 2
    assert thinned[xs.index(54_321)] == 50.0
    assert (xs[0], xs[-1]) == (0, 99_999)
    assert charts.thin([0, 1], [2, 3]) == ([0, 1], [2, 3])


def test_a_gap_breaks_the_line() -> None:
    chart = charts.line_chart(
        "loss", "BCE", "step", [("r", [0, 1, 2, 3], [4, math.nan, 2, 1])], charts.styles_of([("r", "r")])
    )
    assert [piece.count(",") for piece in chart.series[0].pieces] == [1, 2]
    assert chart.note == "1 value left out: not a number or infinite."
    assert chart.series[0].last == "1 at step 3"


def test_timeline_places_marks_where_they_are() -> None:
    style = charts.styles_of([("r", "r")])["r"]
    seen = timeline.Seen(
        "r", style, [0.2, None, 0.9, 0.1], [0.1, None, 0.7, 0.8], 0.7, 70.0,
        [(10.0, 20.0, "explore", 0, None), (70.0, 5.0, "focus", 3, 99)],
    )  # fmt: skip
    t = timeline.timeline(100.0, [(60.0, 130.0)], [seen])
    (lane,) = t.lanes
    assert lane.spike_bar is not None
    assert (lane.spike_bar.x, lane.spike_bar.width) == (50, 25)
    assert lane.spike_bar.height == pytest.approx(0.9 * timeline.BARS_HEIGHT_PX)
    assert [bar.x for bar in lane.bars] == [0, 75]
    assert lane.unvisited == [37.5]
    assert lane.salient_at == 70
    assert [(i.x, i.width) for i in t.intervals] == [(60, 40)]  # cut at the video's end
    assert [c.hover.partition(", clip ")[2] for c in lane.clips] == ["", "99"]
    assert [(c.start, c.width, c.reason) for c in lane.clips] == [(0, 30, "explore"), (65, 10, "focus")]
    assert lane.clips[0].y < lane.clips[1].y < t.bottom_px


def test_several_runs_lie_on_one_axis_each_with_its_clips_below() -> None:
    """A bin that one run never visited breaks its line; both are read against one scale."""
    styles = charts.styles_of([("a", "a"), ("b", "b")])
    clips = [(50.0, 1.0, "explore", 1, None)]
    low = timeline.Seen("a", styles["a"], [0.2, None, 0.1, 0.1], [0.1, None, 0.6, 0.8], 0.1, 10.0, clips)
    high = timeline.Seen("b", styles["b"], [0.1, 0.8, 0.1, 0.1], [0.1, 0.3, 0.6, 0.8], 0.3, 30.0, clips)
    t = timeline.timeline(100.0, None, [low, high])
    a, b = t.lanes
    assert [piece.count(",") for piece in a.steps] == [2, 4]
    assert [piece.count(",") for piece in b.steps] == [8]
    assert a.bars == b.bars == []
    assert a.spike_point is not None
    assert b.spike_point is not None
    assert t.base_px - a.spike_point.y == pytest.approx(0.2 * timeline.BARS_HEIGHT_PX)
    assert t.base_px - b.spike_point.y == pytest.approx(0.8 * timeline.BARS_HEIGHT_PX)
    assert t.base_px < a.clips[0].y < a.clips_bottom_px < b.clips[0].y < t.bottom_px


def test_short_videos_are_told_in_tenths_and_nobody_counts_half_epochs() -> None:
    assert [charts.clock(2.43, True), charts.clock(59.96, True), charts.clock(83.04)] == ["0:02.4", "1:00.0", "1:23"]
    assert [t.text for t in timeline.time_ticks(1.7)] == ["0:00.0", "0:00.5", "0:01.0", "0:01.5"]
    chart = charts.line_chart("loss", "BCE", "epoch", [("r", [1, 2, 3], [3, 2, 1])], charts.styles_of([("r", "r")]))
    assert [t.text for t in chart.x_ticks] == ["1", "2", "3"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.2, 0.69), (-3, 40_000), (5, 5), (0, 0), (1e-7, 3e-7)])
def test_ticks_enclose_the_data(low: float, high: float) -> None:
    ticks = charts.nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 7


@pytest.mark.parametrize("seconds", [0.4, 1, 59, 61, 600, 7200, 90_000, 1e6])
def test_time_ticks_are_few_and_distinct(seconds: float) -> None:
    ticks = timeline.time_ticks(seconds)
    assert 1 <= len(ticks) <= 13
    assert len({t.text for t in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42.04, "42.0 s"), (812.4, "13 min 32 s"), (3599.6, "1 h 0 min"), (7.3e6, "2,027 h 46 min")],
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert charts.duration(seconds).replace("\u00a0", " ") == words
