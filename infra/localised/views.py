"""One localised video, laid out for the page: pictures, and a lane a label with scores, found and true intervals."""

from __future__ import annotations

import base64
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from adaptfocus.infra.report.sample_views import data_uri
from adaptfocus.infra.report.thumbnails import STRIP_PIXELS, frames_jpeg
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.features.store import VideoFeatures
from adaptfocus.trainers.localisation.intervals import Intervals
from adaptfocus.trainers.localisation.outputs import spans_of
from adaptfocus.trainers.localisation.tracks import webvtt

MOST_LANES = 8  # labels of a video
MOST_POINTS = 400  # of a curve
MOST_BARS = 200  # intervals of a lane
STRIP_FRAMES = 10
CURVE_HEIGHT = 40.0  # of the viewBox


@dataclass(frozen=True)
class Bar:
    """A stretch of the time axis: x and width in per cent."""

    x: float
    width: float
    start_seconds: float
    hover: str


@dataclass(frozen=True)
class Lane:
    """One label of the video."""

    label: str
    peak: str
    path: str  # the area below the scores, in a viewBox of 1000 x CURVE_HEIGHT
    threshold_y: float
    found: list[Bar]
    true: list[Bar] | None  # None: nobody knows
    left_out: int  # bars that are not drawn


@dataclass(frozen=True)
class VideoView:
    """One video."""

    video_id: str
    duration_seconds: float
    lanes: list[Lane]
    hidden_lanes: int  # labels with intervals that are not drawn
    strip: list[tuple[float, str]]  # seconds, picture as a data URI
    strip_note: str  # why there are no pictures
    source: str  # URL of the video for a player; empty if it cannot be played
    track: str  # the intervals as a data URI of WebVTT


def view_of(
    video: VideoFeatures,
    own: Intervals,
    classes: Sequence[str],
    thresholds: np.ndarray,
    row: dict[str, Any],
    page_url: str,
) -> VideoView:
    """The view of one video.

    Args:
        own: its intervals.
        row: of the index.
        page_url: where the page will be; links to local videos are relative to it.
    """
    spans = None if row["intervals"] is None else spans_of(row["intervals"], classes)
    peaks = video.features.max(axis=0)
    there = set(own.label.tolist()) | {k for k, _, _ in spans or []}
    order = sorted(there, key=lambda k: -peaks[k]) or [int(peaks.argmax())]
    strip, note = _strip(row, video.duration_seconds)
    cues = [
        (start, end, f"{classes[k]} {score:.2f}")
        for k, start, end, score in zip(*(each.tolist() for each in own), strict=True)
    ]
    return VideoView(
        video.video_id, video.duration_seconds,
        [_lane(k, video, own, spans, classes, float(thresholds[k])) for k in order[:MOST_LANES]],
        max(len(order) - MOST_LANES, 0), strip, note, source_of(row, page_url),
        "data:text/vtt;base64," + base64.b64encode(webvtt(cues).encode()).decode(),
    )  # fmt: skip


def source_of(row: dict[str, Any], page_url: str) -> str:
    """Where a browser that shows the page finds a plain video file; empty for one inside a tar, or in a bucket."""
    is_plain = row["member_offset_bytes"] == 0 and row["member_size_bytes"] == row["shard_size_bytes"]
    url = row["shard_url"]
    if not is_plain:
        return ""
    if url.startswith(("http://", "https://")):
        return url
    if not (store.is_local(url) and store.is_local(page_url)):
        return ""
    path, folder = (store.filesystem(each)[1] for each in (url, posixpath.dirname(page_url)))
    return quote(os.path.relpath(path, folder))


def _lane(
    label: int,
    video: VideoFeatures,
    own: Intervals,
    spans: list[tuple[int, float, float]] | None,
    classes: Sequence[str],
    threshold: float,
) -> Lane:
    mine = own.take(own.label == label)
    found = list(zip(*(each.tolist() for each in mine[1:]), strict=True))
    true = None if spans is None else [(start, end, None) for k, start, end in spans if k == label]
    return Lane(
        classes[label],
        f"{video.features[:, label].max():.2f}",
        _path(video.center_seconds, video.features[:, label], video.duration_seconds),
        CURVE_HEIGHT * (1 - threshold),
        [_bar(each, video.duration_seconds) for each in found[:MOST_BARS]],
        None if true is None else [_bar(each, video.duration_seconds) for each in true[:MOST_BARS]],
        max(len(found) - MOST_BARS, 0) + max(len(true or []) - MOST_BARS, 0),
    )


def _bar(span: tuple[float, float, float | None], duration_seconds: float) -> Bar:
    start, end, score = span
    said = "true" if score is None else f"found, {score:.2f}"
    width = max(100 * (end - start) / duration_seconds, 0.2)
    return Bar(100 * start / duration_seconds, width, start, f"{said}: {start:.1f} to {end:.1f} s")


def _path(times: np.ndarray, scores: np.ndarray, duration_seconds: float) -> str:
    """The curve as an area. Of more points than MOST_POINTS, the highest of each group stays."""
    groups = np.array_split(np.arange(len(times)), min(len(times), MOST_POINTS))
    kept = [group[scores[group].argmax()] for group in groups]
    x = 1000 * times[kept] / duration_seconds
    y = CURVE_HEIGHT * (1 - scores[kept])
    points = [(0.0, y[0]), *zip(x.tolist(), y.tolist(), strict=True), (1000.0, y[-1])]
    line = " ".join(f"L{a:.1f} {b:.1f}" for a, b in points)
    return f"M0 {CURVE_HEIGHT:g} {line} L1000 {CURVE_HEIGHT:g} Z"


def _strip(row: dict[str, Any], duration_seconds: float) -> tuple[list[tuple[float, str]], str]:
    """Pictures at even times, or the reason why there are none."""
    seconds = ((np.arange(STRIP_FRAMES) + 0.5) * duration_seconds / STRIP_FRAMES).tolist()
    try:
        images = frames_jpeg(row, seconds, STRIP_PIXELS)
    except AdaptFocusError as error:
        return [], f"there are no pictures: {error}"
    return [(at, data_uri(image)) for at, image in zip(seconds, images, strict=True)], ""
