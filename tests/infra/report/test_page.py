"""The report is read by people who were not there: on phones, offline, by mail, years later."""

from __future__ import annotations

import html
import html.parser
import math
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.infra.report import charts, timeline
from adaptfocus.infra.report.data import (
    ActionTimeline,
    Curve,
    DrawnClip,
    Dropped,
    ReportData,
    RunRow,
    Thumbnail,
    VideoSample,
)
from adaptfocus.infra.report.page import render_report, write_report
from tests.infra.report.browser import look_at
from tests.infra.report.test_verdict import scored
from tests.infra.running.test_found import evidence, told

ACTIONS = [
    "putting a notebook somewhere",
    "opening a refrigerator",
    "washing a window",
    "someone is laughing",
]
# Six classes are found, five are not, one has too few videos.
FOUND = told({
    **{name: evidence(5.0) for name in (*ACTIONS, "class 0", "class 1")},
    **{f"class {n}": evidence(0.3) for n in range(2, 7)},
    "class 7": evidence(0.2, 1.0),
})  # fmt: skip


def png(hue: int) -> bytes:
    """A 160 x 90 picture with a bright square, as PNG."""
    y, x = np.mgrid[0:90, 0:160]
    pixels = np.stack([(x + hue) % 160 + 40, y + 80, 200 - (x // 2)], axis=-1).astype(np.uint8)
    pixels[30:54, 20 + hue : 44 + hue] = (250, 240, 120)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 160, 90, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def action(label: str, peak: float, hit: bool | None, rng: np.random.Generator) -> ActionTimeline:
    """Twenty bins around a peak, two of them never visited."""
    taus = (np.arange(20) + rng.uniform(0.1, 0.9, 20)) / 20
    scores = np.clip(0.08 + 0.75 * np.exp(-(((taus - peak) / 0.07) ** 2)) + rng.normal(0, 0.04, 20), 0.01, 1)
    spike = int(scores.argmax())
    score_bins: list[float | None] = [float(s) for s in scores]
    tau_bins: list[float | None] = [float(t) for t in taus]
    for b in (3, 17):
        if b != spike:
            score_bins[b] = tau_bins[b] = None
    at = float(taus[spike])
    true_at = at if hit else (at + 0.4) % 0.9
    intervals = None if hit is None else [(90 * true_at - 5, 90 * true_at + 6)]
    return ActionTimeline(label, score_bins, tau_bins, float(scores[spike]), at, 90 * at, intervals, hit)


def sample(run: str, video_id: str, rng: np.random.Generator) -> VideoSample:
    actions = [
        action(ACTIONS[0], 0.3, True, rng),
        action(ACTIONS[1], 0.93, False, rng),
        action(ACTIONS[3], 0.02, None, rng),
    ]
    clips = []
    for epoch in range(30):
        for _ in range(3):
            chosen = actions[int(rng.integers(3))]
            if epoch < 2 or rng.random() < 0.5:
                clips.append(DrawnClip(float(rng.uniform(1, 89)), 1.0, "explore", None, epoch))
            else:
                center = float(np.clip((chosen.salient_seconds or 0) + rng.uniform(-13, 13), 1, 89))
                clips.append(DrawnClip(center, 1.0, "focus", chosen.label, epoch))
    pictures = [Thumbnail(a.label, a.salient_seconds or 0.0, png(20 * i)) for i, a in enumerate(actions)]
    return VideoSample(run, video_id, 90.0, [a.label for a in actions], actions, clips, pictures)


@pytest.fixture
def data() -> ReportData:
    """Noisy against Ours, as a run of the demo might leave them."""
    rng = np.random.default_rng(3)
    steps = np.arange(720) / 24
    curves, diagnostics = [], []
    for run, end, mean in (("noisy-seed0", 0.31, 0.49), ("ours-seed0", 0.2, 0.734)):
        loss = end + (0.69 - end) * np.exp(-steps / 6) + rng.normal(0, 0.012, 720)
        curves.append(Curve("Training loss", "mean BCE", steps.tolist(), loss.tolist(), run))
        epochs = list(range(1, 31))
        score = 100 * mean * (1 - np.exp(-np.array(epochs) / 7)) + rng.normal(0, 1, 30)
        curves.append(Curve("mAP, max over views", "%", epochs, score.tolist(), run))
        curves.append(Curve("Clips per second", "clips/s", epochs, (190 + rng.normal(0, 6, 30)).tolist(), run))
        if run.startswith("ours"):
            ramp = 1 - np.exp(-np.array(epochs) / 8)
            for name, values in (
                ("Positives left unmasked", 1 - 0.55 * ramp),
                ("Mean spike-actionness", 0.1 + 0.6 * ramp),
                ("Precision of weighted positives", 0.17 + 0.55 * ramp),
                ("Salient times inside a true interval", 0.16 + 0.64 * ramp),
                ("Temperature over median p", 0.1 / (0.1 + 0.6 * ramp)),
            ):
                unit = "T / mean a" if name == "Temperature over median p" else "share"
                diagnostics.append(Curve(name, unit, epochs, values.tolist(), run))
    names = [*ACTIONS, *(f"class {n}" for n in range(8))]
    aps, counts = {n: 0.1 * i % 1 for i, n in enumerate(names)}, {n: 3 + i for i, n in enumerate(names)}
    classes = scored(0.6, 0.02, class_ap=aps, class_positives=counts)
    return ReportData(
        title="Noisy against Ours on world A",
        created="2025-03-01 14:02 UTC",
        command="adaptfocus demo --out s3://demo/runs/world-a --epochs 30 --seed 0 focus.delta=0.15",
        runs=[
            RunRow("noisy-seed0", "Noisy", 30, 28_800, 0.489, 0.435, 0.159, None, 4, 812, 2, "", 0, evaluated=classes),
            RunRow(
                "ours-seed0",
                "Ours",
                30,
                28_796,
                0.734,
                0.664,
                0.567,
                0.80,
                4,
                861,
                2,
                "resumed once",
                0,
                evaluated=classes,
                found=FOUND,
            ),
        ],
        curves=curves,
        diagnostics=diagnostics,
        samples=[sample("ours-seed0", "val_00017", rng), sample("noisy-seed0", "val_00017", rng)],
        dropped=[
            Dropped("no_video_stream", 3, "shard-000004.tar/clip_0193.mp4: the container holds audio only"),
            Dropped("decode_error", 1, "shard-000011.tar/clip_0467.mp4: Invalid data found, packet 312"),
        ],
        config_text="focus:\n  delta: 0.15\ndata:\n  index: s3://adaptfocus-demo/" + "x" * 120,
        ledger=[
            ("clips planned", [28_800, 28_800]),
            ("clips trained", [28_800, 28_796]),
            ("clips lost", [0, 4]),
            ("workers", ["2", "2, then 1 after resume"]),
        ],
    )


class Page(html.parser.HTMLParser):
    """All elements with their attributes, and all text by the element around it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self._stack: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in {"meta", "link", "img", "br", "wbr"}:
            self._stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._stack.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, text: str) -> None:
        self.text.setdefault(self._stack[-1] if self._stack else "", []).append(text.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]


def test_sections_come_in_the_order_a_reader_needs(data: ReportData) -> None:
    page = Page(render_report(data))
    order = [attrs["id"] for tag, attrs in page.elements if tag in {"section", "footer"}]
    assert order == [
        "result", "comparison", "curves", "classes", "diagnostics", "samples", "dropped", "ledger", "config", "terms",
        "method",
    ]  # fmt: skip
    linked = {a["href"] for a in page.all("a") if a["href"].startswith("#")}
    assert linked == {f"#{name}" for name in order}


def test_what_is_not_found_and_what_to_change_stand_below_the_verdict(data: ReportData) -> None:
    page = render_report(data)
    card = page[page.index('class="card found some"') : page.index('id="comparison"')]
    words = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", card)))
    assert FOUND.sentence in words
    assert len(FOUND.advice) > 3
    for said in (*FOUND.notes, *FOUND.advice):
        assert said in words
    assert "class 7 too few to tell 60 – 40" in words


def test_page_refers_to_nothing_outside_itself(data: ReportData) -> None:
    """Opened from a mail on a train, it must look the same."""
    text = render_report(data)
    page = Page(text)
    fetching = {"src", "srcset", "data", "poster", "background", "action", "formaction", "xlink:href"}
    fetched = [
        v for tag, attrs in page.elements for k, v in attrs.items() if k in fetching or (k == "href" and tag != "a")
    ]
    assert fetched  # thumbnails and marks at least
    assert [v for v in fetched if not v.startswith(("data:", "#"))] == []
    assert not [attrs for attrs in page.all("script") if attrs]
    style = " ".join(page.text["style"])
    assert "@import" not in style
    assert "url(" not in style
    assert [a["href"] for a in page.all("a") if not a["href"].startswith("#")] == ["https://arxiv.org/abs/2311.17118"]


HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


def test_names_from_outside_stay_text(data: ReportData) -> None:
    """A label, file name or message is somebody else's text; every place that shows one is tried."""
    rng = np.random.default_rng(0)
    video = sample(HOSTILE, HOSTILE, rng)
    hostile_action = replace(video.actions[0], label=HOSTILE)
    video = replace(
        video,
        labels=[HOSTILE],
        actions=[hostile_action],
        drawn_clips=[DrawnClip(10.0, 1.0, HOSTILE, HOSTILE, 0), DrawnClip(10.0, 1.0, "focus", HOSTILE, 0)],
        thumbnails=[Thumbnail(HOSTILE, 3.0, png(0)), Thumbnail("elsewhere" + HOSTILE, 3.0, b"<script>")],
    )
    hostile = ReportData(
        title=HOSTILE,
        created=HOSTILE,
        command=HOSTILE,
        runs=[
            RunRow(HOSTILE, HOSTILE, map_max=0.5, notes=HOSTILE),
            RunRow("b", "Noisy " + HOSTILE, map_max=0.4),
        ],
        curves=[Curve(HOSTILE, HOSTILE, [0, 1], [1, 2], HOSTILE, HOSTILE)],
        diagnostics=[Curve(HOSTILE, HOSTILE, [0, 1], [1, math.nan], HOSTILE, HOSTILE)],
        samples=[video],
        dropped=[Dropped(HOSTILE, 1, HOSTILE, HOSTILE)],
        config_text=HOSTILE + "</pre>",
        ledger=[(HOSTILE, [HOSTILE, HOSTILE])],
    )
    page = Page(render_report(hostile))
    assert len(page.all("script")) == 1, "only our own"
    assert all(img["src"].startswith("data:image/png;base64,") for img in page.all("img"))
    assert not [k for _, attrs in page.elements for k in attrs if k.startswith("on")]
    for place in ("h1", "h3", "b", "th", "td", "pre", "title", "desc", "text", "code"):
        assert any("<script>" in text for text in page.text[place]), place


def test_file_names_that_are_not_utf8_do_not_cost_the_report(tmp_path: Path, data: ReportData) -> None:
    odd = b"clip-\xff.mp4".decode(errors="surrogateescape")
    write_report(replace(data, dropped=[Dropped("decode_error", 1, odd)]), str(tmp_path / "deep" / "report.html"))
    assert "clip-?.mp4" in (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")


def test_every_chart_is_named_and_described(data: ReportData) -> None:
    page = Page(render_report(data))
    images = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(images) == 3 + 5 + 3, "one timeline for an action, whatever the number of runs"
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for svg in images:
        title, description = svg["aria-labelledby"].split()
        assert title in ids
        assert description in ids
    labels = [a for tag, a in page.elements if tag == "text" and "label" in a.get("class", "").split()]
    assert len(labels) == 8 * 2 + 3 * (2 + 2), "of axes; and of each run's clips"
    assert all(label.strip() for label in page.text["text"])


def test_a_report_of_a_run_that_just_began_is_still_a_page() -> None:
    """It has no score, no curve, one epoch, a curve without a finite value, and videos shorter than a second."""
    bare = ActionTimeline("waving", [None], [None], None, None, None)
    video = VideoSample(
        "r",
        "v",
        0.4,
        [],
        [bare],
        [DrawnClip(0.2, 1.0, "explore", None, 0)],
        [Thumbnail("waving", 0.1, b"GIF89a")],
    )
    text = render_report(
        ReportData("t", "", "", [RunRow("r", "Ours")], [Curve("loss", "BCE", [1], [math.nan], "r")], samples=[video])
    )
    assert "r has no evaluation &#39;test&#39; yet, so its mAP is not known." in text
    assert "adaptfocus evaluate r --index TEST_INDEX" in text
    assert "1 value left out: not a number or infinite." in text
    assert "Nothing was dropped." in text
    assert "no spike yet" in text
    assert "neither JPEG nor PNG" in text
    assert not re.search(r"\bnan\b", Page(text).text["style"][0] + "".join(str(e) for e in Page(text).elements))
    Page(render_report(ReportData("empty", "", "", [])))


def test_scores_in_percent_are_refused() -> None:
    """A report that shows 7340 % helps nobody."""
    with pytest.raises(ValueError, match=r"map_max is 73.4, must be a fraction in \[0, 1\]"):
        RunRow("r", "Ours", map_max=73.4)


def test_runs_are_told_apart_without_colour(data: ReportData) -> None:
    """Mark or dash differ between any two of nine runs: three regimes, three seeds; or nine of one, or one of nine."""
    runs = [(f"{regime}-{seed}", regime) for regime in ("full", "noisy", "ours") for seed in range(3)]
    for given in (runs, [(run, "ours") for run, _ in runs], [(run, run) for run, _ in runs]):
        styles = charts.styles_of(given)
        assert len({(s.mark, s.dash) for s in styles.values()}) == 9
    marks = {s.mark for s in charts.styles_of([(r.run, r.regime) for r in data.runs]).values()}
    uses = [u["href"] for u in Page(render_report(data)).all("use")]
    assert all(f"#m-{mark}" in uses for mark in marks)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_seen(data: ReportData, theme: int) -> None:
    """WCAG 2: text 4.5 : 1, marks 3 : 1, on the card and on the page."""
    blocks = re.findall(r":root \{(.*?)\}", "".join(Page(render_report(data)).text["style"]), re.DOTALL)
    colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", blocks[theme]))
    for name in ("text", "muted", "good", "bad", "open", "hue0"):
        assert min(contrast(colours[name], colours[b]) for b in ("card", "page")) >= 4.5, name
    for name in [f"hue{i}" for i in range(charts.HUES)] + ["bar", "spike", "truth", "focus", "explore"]:
        assert contrast(colours[name], colours["card"]) >= 3, name


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
        [(10.0, 20.0, "explore", 0), (70.0, 5.0, "focus", 3)],
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
    assert [(c.start, c.width, c.reason) for c in lane.clips] == [(0, 30, "explore"), (65, 10, "focus")]
    assert lane.clips[0].y < lane.clips[1].y < t.bottom_px


def test_several_runs_lie_on_one_axis_each_with_its_clips_below() -> None:
    """A bin that one run never visited breaks its line; both are read against one scale."""
    styles = charts.styles_of([("a", "a"), ("b", "b")])
    clips = [(50.0, 1.0, "explore", 1)]
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


def crowded(data: ReportData) -> ReportData:
    """Nine runs of three regimes, and names without a place to break, as a real cluster has them."""
    long = "a_name_without_any_place_to_break_" * 4
    runs = [
        replace(data.runs[0], run=f"{regime}-{long}-{seed}", regime=regime, seed=seed)
        for regime in ("Full", "Noisy", "Ours")
        for seed in range(3)
    ]
    curves = [replace(data.curves[i % 3], run=r.run) for i, r in enumerate(runs)]
    video = replace(data.samples[0], video_id=long, labels=[long])
    video = replace(video, actions=[replace(a, label=long + a.label) for a in video.actions])
    dropped, ledger = [Dropped(long, 1, long, long)], [(long, [long] * 9)]
    return replace(
        data,
        title=long,
        command=long,
        runs=runs,
        curves=curves,
        samples=[video, replace(video, run=runs[4].run)],
        dropped=dropped,
        ledger=ledger,
    )


@pytest.mark.chromium
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("content", ["plain", "crowded"])
def test_nothing_sticks_out_sideways(data: ReportData, tmp_path: Path, content: str, theme: str) -> None:
    """On a desktop and on a phone, in light and dark, with names as long as a cluster's."""
    page = render_report(crowded(data) if content == "crowded" else data)
    for seen in look_at(page, tmp_path, theme, f"report-{content}"):
        assert seen.problems() == [], seen.width_px
        assert seen.colour == ("rgb(17,20,24)" if theme == "dark" else "rgb(245,246,248)")
