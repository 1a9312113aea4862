"""The report is read by people who were not there: on phones, offline, by mail, years later."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.infra.report import charts
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
from tests.infra.report.pages import FOUND, WARNINGS, Page, png, sample


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
    assert [warning.kind for warning in WARNINGS] == ["at_chance", "too_few_videos"]
    assert len(WARNINGS[0].changes) > 3
    for said in (text for each in WARNINGS for text in (each.says, *each.reasons, *each.changes)):
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
