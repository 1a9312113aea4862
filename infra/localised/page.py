"""The page of a localisation: one HTML file, with the videos next to it where they are plain local files."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptfocus.infra.localised.views import VideoView, view_of
from adaptfocus.infra.report.templates import template
from adaptfocus.infra.running.progress import progress_bar
from adaptfocus.pipelines import store
from adaptfocus.pipelines.features.store import open_features
from adaptfocus.pipelines.index.load import read_light_rows, refused_of
from adaptfocus.pipelines.url_secrets import redact_secrets
from adaptfocus.trainers.localisation.intervals import intervals_above
from adaptfocus.trainers.localisation.outputs import limits_of, videos_of_part

if TYPE_CHECKING:
    from adaptfocus.infra.running.localisation import Found

MOST_REASONS = 20
SOURCES = {
    "intervals": "intervals",
    "labels": "video-level labels",
    "given": "given",
    "default": "median of the others",
}


def write_page(found: Found, most_videos: int) -> str:
    """Render and write the page -> its URL. Raises StorageError if the place cannot be written."""
    url = store.join(found.out.url, "index.html")
    views = []
    with progress_bar("drawing videos") as progress:
        wanted = min(most_videos, found.done.videos)
        for view in views_of(found, most_videos, url):
            views.append(view)
            progress(len(views), wanted)
    command = redact_secrets(shlex.join(["adaptfocus", *sys.argv[1:]]))
    store.write_bytes(url, render(found, views, command).encode("utf-8", errors="replace"))
    return url


def render(found: Found, views: list[VideoView], command: str) -> str:
    """The whole page as text."""
    done, out = found.done, found.out
    return template("localised.html.j2").render(
        title="When each action happens",
        created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        tiles=_tiles(found),
        views=views,
        videos=done.videos,
        has_truth=any(lane.true is not None for view in views for lane in view.lanes),
        can_play=any(view.source for view in views),
        thresholds=[row | {"from": SOURCES[row["from"]]} for row in out.thresholds.to_json()["thresholds"]],
        is_calibrated=found.job.calibrate is not None,
        metrics=_metrics(found.scores),
        reasons=reasons_of(found)[:MOST_REASONS],
        refused=sum(done.refused.values()) + sum((found.indexed.refused if found.indexed else {}).values()),
    )


def views_of(found: Found, most: int, page_url: str) -> Iterator[VideoView]:
    """Some videos, taken evenly from some of the parts, whatever was found in them."""
    out, done = found.out, found.done
    chosen = _evenly(done.parts, most)
    left = most
    for at, name in enumerate(chosen):
        videos = [*videos_of_part(out.scores_url, name)]
        for video in _evenly(videos, -(-left // (len(chosen) - at))):
            row = read_light_rows(done.index, video.video_row, video.video_row + 1, done.index_fingerprint)
            own = intervals_above(
                video.features, video.center_seconds, video.duration_seconds, limits_of(video, out), out.rules
            )
            yield view_of(video, own, out.classes, out.thresholds.values, row.to_pylist()[0], page_url)
            left -= 1


def reasons_of(found: Found) -> list[tuple[str, str, str]]:
    """(video, kind, reason) of what could not be read or decoded."""
    rows: list[dict[str, Any]] = []
    if found.indexed and found.indexed.refused:
        rows += [row for row in refused_of(found.done.index) if row["kind"] in found.indexed.refused]
    if found.done.refused:
        rows += open_features(found.out.scores_url).refused()
    return [(row["video_id"] or row["member_name"] or row["shard_url"], row["kind"], row["message"]) for row in rows]


def _tiles(found: Found) -> list[tuple[str, str, str]]:
    done = found.done
    tiles = [
        ("Videos", f"{done.videos:,}", f"{done.without:,} without an interval"),
        ("Intervals", f"{done.intervals:,}", f"a score every {done.stride_seconds:g} s"),
    ]
    if found.scores:
        tiles.append(("mAP at tIoU 0.5", f"{100 * found.scores['thumos14_ious']['at_iou']['0.5']:.1f}", "per cent"))
        tiles.append(("mAP, tIoU 0.5 to 0.95", f"{100 * found.scores['activitynet']['average']:.1f}", "per cent"))
    return tiles


def _metrics(scores: dict[str, Any] | None) -> list[tuple[str, str]]:
    from adaptfocus.infra.localised.metric_names import rows_of_metrics

    return [] if scores is None else rows_of_metrics(scores)


def _evenly(items: Any, most: int) -> list:
    """At most so many items, from end to end."""
    if len(items) <= most:
        return [*items]
    return [items[at] for at in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]
