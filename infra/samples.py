"""Some videos as each run saw them: saliency over time, the clips drawn, a picture of each spike.

Input: runs on an index. Does: chooses the same videos for all of them, reads snapshots and plans, cuts frames.
Output: VideoSamples, those of one video side by side, and what could not be shown, with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.report_data import ActionTimeline, DrawnClip, Dropped, Thumbnail, VideoSample
from infra.thumbnails import frame_jpeg
from pipelines import storage
from pipelines.clip_plan import Planner
from pipelines.errors import AdaptFocusError, BadVideoError
from pipelines.plan_store import read_plan
from pipelines.records import NEVER_VISITED, PLAN_SCHEMA
from pipelines.saliency_table import Bins, SaliencyTable, spikes
from pipelines.shard_index import load_index
from pipelines.tables import read_table
from trainers.checkpoint import Run
from trainers.config import TrainConfig
from trainers.epochs import SALIENCY, read_excluded, read_saliency


@dataclass(frozen=True)
class Videos:
    """An index, opened."""

    planner: Planner
    fingerprint: str
    hit_chance: float | None  # how often a random moment lies in a true interval of an action; None: none known


@dataclass(frozen=True)
class Seen:
    """A run's newest snapshot: what it believes after `epochs` epochs."""

    name: str
    config: TrainConfig
    saliency: SaliencyTable
    epochs: int
    drawn: dict[int, list[DrawnClip]]  # by video row


def open_videos(index_url: str) -> Videos:
    """Raises InputError: there is no index."""
    index = load_index(index_url)
    return Videos(Planner.of(index.table, index.classes), index.fingerprint, _chance_of_a_hit(index.table))


def samples_of(
    runs: Sequence[tuple[Run, str, TrainConfig, Videos]], count: int
) -> tuple[list[VideoSample], list[Dropped]]:
    """`count` videos of each index, as each of its runs sees them; and what cannot be shown."""
    shown: list[tuple[int, VideoSample]] = []
    unseen: list[Dropped] = []
    for run, name, config, videos in runs:
        if json.loads(storage.read_bytes(run.at("index.json")))["fingerprint"] != videos.fingerprint:
            why = f"{config.index} has changed since {name} was trained: its rows are other videos now"
            unseen.append(Dropped("index_changed", count, why, "sample videos"))
            continue
        rows = _chosen(videos.planner, count, _excluded_by(runs, config.index))
        seen = _seen(run, name, config, videos.planner, set(rows))
        for place, row in enumerate(rows):
            sample, lost = _sample(seen, videos.planner, row)
            shown.append((place, sample))
            unseen += lost
    return [sample for _, sample in sorted(shown, key=lambda item: item[0])], unseen


def _chosen(planner: Planner, count: int, excluded: set[int]) -> list[int]:
    """Labelled videos, evenly over the index: chosen neither for their looks nor for the scores."""
    usable = [row for row, ids in enumerate(planner.label_ids) if ids and row not in excluded]
    count = min(count, len(usable))
    return [usable[(2 * i + 1) * len(usable) // (2 * count)] for i in range(count)]


def _excluded_by(runs: Sequence[tuple[Run, str, TrainConfig, Videos]], index_url: str) -> set[int]:
    """Video rows that any run on this index gave up: there is nothing to see in them."""
    tables = [read_excluded(run, _newest_snapshot(run, config)) for run, _, config, _ in runs
              if config.index == index_url]  # fmt: skip
    return {row for table in tables for row in table.column("video_row").to_pylist()}


def _seen(run: Run, name: str, config: TrainConfig, planner: Planner, rows: set[int]) -> Seen:
    epochs = _newest_snapshot(run, config)
    return Seen(name, config, read_saliency(run, epochs), epochs, _drawn(run, config, rows, planner, epochs))


def _newest_snapshot(run: Run, config: TrainConfig) -> int:
    """Epochs whose scores are merged; a run with a checkpoint has at least the snapshot of epoch 0."""
    return next(e for e in range(config.epochs, -1, -1) if e == 0 or storage.exists(run.epoch_url(e, SALIENCY)))


def _drawn(run: Run, config: TrainConfig, rows: set[int], planner: Planner, epochs: int) -> dict[int, list[DrawnClip]]:
    """Every clip that was drawn of some videos, epoch by epoch."""
    half = (config.clip.frames - 1) / 2
    wanted = sorted(rows)
    found: dict[int, list[DrawnClip]] = {row: [] for row in rows}
    for epoch in range(epochs):
        plan = read_plan(run.epoch_url(epoch, "plan"))
        for url, start, stop in plan.slices(0) if plan else ():
            part = read_table(url, PLAN_SCHEMA, start, stop).select(["video_row", "clips"])
            for bag in part.filter(pc.field("video_row").isin(wanted)).to_pylist():
                rate = planner.table.column("frame_rate_hz")[bag["video_row"]].as_py()
                width = half * config.clip.stride_seconds(rate)
                for clip in bag["clips"]:
                    label = clip["focus_label_id"]
                    reason, name = ("explore", None) if label < 0 else ("focus", planner.classes[label])
                    found[bag["video_row"]].append(DrawnClip(clip["center_seconds"], width, reason, name, epoch + 1))
    return found


def _sample(seen: Seen, planner: Planner, row: int) -> tuple[VideoSample, list[Dropped]]:
    video = planner.table.slice(row, 1).to_pylist()[0]
    pairs = seen.saliency.pairs_of(row)
    bins = Bins(*(t[pairs] for t in (seen.saliency.bins.score, seen.saliency.bins.tau, seen.saliency.bins.epoch)))
    labels = [planner.classes[k] for k in planner.label_ids[row]]
    actions = [_timeline(seen, bins, n, label, video) for n, label in enumerate(labels)]
    pictures: list[Thumbnail] = []
    lost: list[Dropped] = []
    for action in actions:
        if action.salient_seconds is None:
            continue
        try:
            pictures.append(Thumbnail(action.label, action.salient_seconds, frame_jpeg(video, action.salient_seconds)))
        except AdaptFocusError as error:
            kind = error.kind if isinstance(error, BadVideoError) else "storage_error"
            why = f"{video['video_id']}, frame at {action.salient_seconds:.2f} s: {error}"
            lost.append(Dropped(kind, 1, why, "pictures"))
    drawn = seen.drawn[row]
    return VideoSample(
        seen.name, video["video_id"], video["duration_seconds"], labels, actions, drawn, pictures
    ), lost  # fmt: skip


def _timeline(seen: Seen, bins: Bins, number: int, label: str, video: dict) -> ActionTimeline:
    """Bins are shown as faded as the spike is found: the spike is then the highest of them."""
    last, staleness = max(0, seen.epochs - 1), seen.config.saliency.staleness
    own = Bins(bins.score[number], bins.tau[number], bins.epoch[number])
    visited = own.epoch.numpy() != NEVER_VISITED
    faded, _ = spikes(Bins(own.score[:, None], own.tau[:, None], own.epoch[:, None]), last, staleness)
    a, salient = (float(v) for v in spikes(own, last, staleness))
    seconds = salient * video["duration_seconds"] if visited.any() else None
    spans = video["intervals"]
    truth = None if spans is None else [(s["start_seconds"], s["end_seconds"]) for s in spans if s["label"] == label]
    return ActionTimeline(
        label=label,
        score_bins=_where(faded.numpy(), visited),
        tau_bins=_where(own.tau.numpy(), visited),
        spike_score=a if visited.any() else None,
        spike_tau=salient if visited.any() else None,
        salient_seconds=seconds,
        intervals_seconds=truth,
        hit=None if truth is None or seconds is None else any(s <= seconds <= e for s, e in truth),
    )


def _chance_of_a_hit(table: pa.Table) -> float | None:
    """Mean, over (video, action) with known intervals, of the share of the video that the action covers."""
    shares = []
    columns = (table.column(name).to_pylist() for name in ("duration_seconds", "labels", "intervals"))
    for duration, labels, spans in zip(*columns, strict=True):
        if spans is None:
            continue
        for label in labels:
            own = sorted((s["start_seconds"], s["end_seconds"]) for s in spans if s["label"] == label)
            shares.append(min(1.0, _covered_seconds(own) / duration))
    return float(np.mean(shares)) if shares else None


def _covered_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """Of sorted spans; what two of them cover counts once."""
    total, reached = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _where(values: np.ndarray, visited: np.ndarray) -> list[float | None]:
    return [float(v) if ok else None for v, ok in zip(values, visited, strict=True)]
