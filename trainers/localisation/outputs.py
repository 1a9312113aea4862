"""The files of a localisation, written part by part by whoever has the scores of that part.

OUT/localisation.json          the settings and what was found; written last
OUT/scores/                    scores along time: a feature set (pipelines/features/store.py) of [T, K] a video
OUT/thresholds.json            one threshold a label, and what it comes from
OUT/videos/000000.parquet      VIDEOS_SCHEMA: one row a video, with the highest score of each label
OUT/intervals/000000.parquet   INTERVALS_SCHEMA: where a score is at least its threshold
OUT/proposals/000000.parquet   INTERVALS_SCHEMA: ranked candidates, which overlap, for mAP
OUT/activitynet.json           the proposals, as ActivityNet's evaluation reads them
OUT/tracks/NAME.vtt, .srt      the intervals as subtitles
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.columns import rows_as_lists
from adaptfocus.pipelines.features.store import FEATURES_SCHEMA, VideoFeatures, part_urls
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.localisation.intervals import Intervals, Rules, intervals_above, propose
from adaptfocus.trainers.localisation.thresholds import Thresholds
from adaptfocus.trainers.localisation.tracks import safe_name, subrip, webvtt

INTERVALS_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("label", pa.string()),
        ("start_seconds", pa.float64()),  # from the first frame shown
        ("end_seconds", pa.float64()),
        ("score", pa.float64()),
    ]
)
VIDEOS_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("video_row", pa.int64()),  # in the index
        ("duration_seconds", pa.float64()),
        ("steps", pa.int64()),
        ("track", pa.string()),  # name of the files in tracks/, without .vtt or .srt
        ("labels", pa.list_(pa.string())),  # that are at least at their threshold at some time, best first
        ("scores", pa.list_(pa.float32())),  # the highest score of each label, in the order of thresholds.json
    ]
)


@dataclass(frozen=True)
class Outputs:
    """Where and how the files of a localisation are written. It is sent to other processes."""

    url: str
    thresholds: Thresholds
    rules: Rules
    top: int | None = None  # at most so many labels of a video get intervals: those with the highest scores
    tracks: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        return self.thresholds.labels

    @property
    def scores_url(self) -> str:
        return store.join(self.url, "scores")

    def part(self, what: str, name: str) -> str:
        return store.join(self.url, what, f"{name}.parquet")


class Written(NamedTuple):
    """What a part has."""

    videos: int
    intervals: int
    proposals: int
    without: int  # videos without an interval


def write_part(out: Outputs, name: str) -> Written:
    """Write everything about the videos of one part of the scores."""
    videos, shown, proposals = [], [], []
    for video in videos_of_part(out.scores_url, name):
        track = safe_name(video.video_id)
        limits = limits_of(video, out)
        own = intervals_above(video.features, video.center_seconds, video.duration_seconds, limits, out.rules)
        shown.append((video.video_id, own))
        every = propose(video.features, video.center_seconds, video.duration_seconds, out.rules)
        proposals.append((video.video_id, every))
        videos.append((video, track, _labels_over(video, limits, out.classes)))
        if out.tracks:
            _write_tracks(out, track, own)
    write_table(_table_of_videos(videos, len(out.classes)), out.part("videos", name))
    for what, found in (("intervals", shown), ("proposals", proposals)):
        write_table(_table_of_intervals(found, out.classes), out.part(what, name))
    counts = [len(own.label) for _, own in shown]
    return Written(len(videos), sum(counts), sum(len(own.label) for _, own in proposals), counts.count(0))


def videos_of_part(scores_url: str, name: str) -> Iterator[VideoFeatures]:
    """The videos of one part of the scores; `features` are scores [T, K]."""
    table = read_table(part_urls(scores_url, name)[0], FEATURES_SCHEMA)
    for row in range(table.num_rows):
        values = {name: table[name][row] for name in FEATURES_SCHEMA.names}
        yield VideoFeatures(
            values["video_id"].as_py(),
            values["video_row"].as_py(),
            values["split"].as_py(),
            tuple(values["labels"].as_py()),
            values["duration_seconds"].as_py(),
            values["center_seconds"].values.to_numpy(),
            values["features"].values.to_numpy().reshape(values["shape"].as_py()),
        )


def spans_of(intervals: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[tuple[int, float, float]]:
    """Intervals of a row of an index as (label, start_seconds, end_seconds); those of other labels are left out."""
    number_of = {label: k for k, label in enumerate(classes)}
    return [
        (number_of[each["label"]], each["start_seconds"], each["end_seconds"])
        for each in intervals
        if each["label"] in number_of
    ]


def read_part(out_url: str, what: str, name: str) -> pa.Table:
    """One part of the intervals or of the proposals."""
    return read_table(store.join(out_url, what, f"{name}.parquet"), INTERVALS_SCHEMA)


def write_activitynet(out: Outputs, names: Sequence[str]) -> None:
    """Write all proposals as one JSON, part by part as text: Python objects of it would be twenty times as large."""
    pieces = [text for name in names for text in _activitynet_of(read_part(out.url, "proposals", name), out, name)]
    text = '{"version": "VERSION 1.3", "results": {\n' + ",\n".join(pieces) + '\n}, "external_data": {}}\n'
    store.write_bytes(store.join(out.url, "activitynet.json"), text.encode())


def _activitynet_of(table: pa.Table, out: Outputs, name: str) -> Iterator[str]:
    """One line for each video of a part, also for those without a proposal."""
    of_video: dict[str, list[dict]] = {
        video_id: [] for video_id in read_table(out.part("videos", name), VIDEOS_SCHEMA)["video_id"].to_pylist()
    }
    for row in table.to_pylist():
        segment = [row["start_seconds"], row["end_seconds"]]
        of_video[row["video_id"]].append({"label": row["label"], "score": row["score"], "segment": segment})
    for video_id, found in of_video.items():
        yield f"{json.dumps(video_id)}: {json.dumps(found, ensure_ascii=False)}"


def limits_of(video: VideoFeatures, out: Outputs) -> np.ndarray:
    """The thresholds of a video's labels; nan for those that are not among its `top`."""
    limits = out.thresholds.values
    if out.top is None or out.top >= len(limits):
        return limits
    best = np.argsort(-video.features.max(axis=0), kind="stable")[: out.top]
    chosen = np.full(len(limits), np.nan)
    chosen[best] = limits[best]
    return chosen


def _labels_over(video: VideoFeatures, limits: np.ndarray, classes: Sequence[str]) -> list[str]:
    highest = video.features.max(axis=0)
    return [str(classes[k]) for k in np.argsort(-highest, kind="stable").tolist() if highest[k] >= limits[k]]


def _write_tracks(out: Outputs, track: str, own: Intervals) -> None:
    cues = [
        (start, end, f"{out.classes[label]} {score:.2f}")
        for label, start, end, score in zip(*(each.tolist() for each in own), strict=True)
    ]
    for ending, text in ((".vtt", webvtt(cues)), (".srt", subrip(cues))):
        store.write_bytes(store.join(out.url, "tracks", track + ending), text.encode())


def _table_of_intervals(found: Iterable[tuple[str, Intervals]], classes: Sequence[str]) -> pa.Table:
    names = np.array(classes, object)
    columns: list[list] = [[], [], [], [], []]
    for video_id, own in found:
        columns[0] += [video_id] * len(own.label)
        columns[1] += names[own.label].tolist()
        for column, values in zip(columns[2:], own[1:], strict=True):
            column += values.tolist()
    arrays = [pa.array(column, field.type) for column, field in zip(columns, INTERVALS_SCHEMA, strict=True)]
    return pa.table(arrays, schema=INTERVALS_SCHEMA)


def _table_of_videos(videos: Sequence[tuple[VideoFeatures, str, list[str]]], classes: int) -> pa.Table:
    highest = [video.features.max(axis=0) for video, _, _ in videos]
    columns = {
        "video_id": [video.video_id for video, _, _ in videos],
        "video_row": [video.video_row for video, _, _ in videos],
        "duration_seconds": [video.duration_seconds for video, _, _ in videos],
        "steps": [len(video.center_seconds) for video, _, _ in videos],
        "track": [track for _, track, _ in videos],
        "labels": [labels for _, _, labels in videos],
        "scores": rows_as_lists(np.stack(highest) if highest else np.zeros((0, classes), np.float32)),
    }
    return pa.table(columns, schema=VIDEOS_SCHEMA)
