"""Some videos as each run saw them: saliency over time, the clips drawn, and a picture of each spike.

All runs on an index show the same videos. What could not be shown is returned with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.infra.report.data import ActionTimeline, DrawnClip, Dropped, Thumbnail, VideoSample
from adaptfocus.infra.report.sample_choice import Choice, Snapshot, refuse_unknown, rows_of_ids, worst_videos
from adaptfocus.infra.report.thumbnails import SIZE_PIXELS, STRIP_PIXELS, frames_jpeg
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, BadVideoError
from adaptfocus.pipelines.index.load import NoSnapshotError, load_index
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import read_drawn, read_plan
from adaptfocus.pipelines.saliency.bins import Bins, fade, spikes
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import NEVER_VISITED, STEP_SCHEMA
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.runs.growth import last_decided
from adaptfocus.trainers.runs.log import RESTORE, SALIENCY, Run
from adaptfocus.trainers.runs.snapshots import read_excluded, read_saliency
from adaptfocus.trainers.settings.run import TrainConfig

STRIP_FRAMES = 8  # as many as can be told apart on a phone


@dataclass(frozen=True)
class Videos:
    """An opened index."""

    planner: Planner
    fingerprint: str
    hit_chance: (
        float | None
    )  # how often a random moment lies in a true interval of an action; None if no interval is known


@dataclass(frozen=True)
class Seen:
    """A run's newest snapshot: its saliency after `epochs` epochs."""

    name: str
    config: TrainConfig
    saliency: SaliencyTable
    epochs: int
    drawn: dict[int, list[DrawnClip]]  # by video row


def open_videos(index_url: str, fingerprint: str) -> Videos:
    """The videos of a snapshot of an index, or of the newest one if there is none with this fingerprint.

    Raises InputError: there is no index.
    """
    try:
        index = load_index(index_url, fingerprint=fingerprint)
    except NoSnapshotError:
        index = load_index(index_url)
    return Videos(Planner.of(index.table, index.classes), index.fingerprint, _chance_of_a_hit(index.table))


def samples_of(
    runs: Sequence[tuple[Run, str, TrainConfig, Videos]], count: int, video_ids: Sequence[str] = ()
) -> tuple[list[VideoSample], list[Dropped]]:
    """Videos of each index as its runs see them, the same for each run; and what cannot be shown.

    Args:
        count: number of videos, if none are asked for by id.
        video_ids: ids of videos to show instead.

    Raises:
        InputError: no index has a video with that id.
    """
    refuse_unknown([videos.planner for *_, videos in runs], video_ids)
    shown: list[tuple[tuple[int, int], VideoSample]] = []
    unseen: list[Dropped] = []
    same = [r for r in runs if fingerprint_of(r[0]) == r[3].fingerprint]
    for run, name, config, _ in runs:
        if all(r[0] is not run for r in same):
            why = f"{config.index} has changed since {name} was trained: its rows are other videos now"
            unseen.append(Dropped("index_changed", len(video_ids) or count, why, "sample videos"))
    indexes = dict.fromkeys((config.index, videos.fingerprint) for _, _, config, videos in same)
    for number, index in enumerate(indexes):
        own = [r for r in same if (r[2].index, r[3].fingerprint) == index]
        planner = own[0][3].planner
        choices = rows_of_ids(planner, video_ids) if video_ids else _worst(own, count)
        strips, lost = _strips(planner, choices)
        unseen += lost
        for run, name, config, _ in own:
            seen = _seen(run, name, config, planner, {choice.row for choice in choices})
            for place, choice in enumerate(choices):
                sample, lost = _sample(seen, planner, choice.row)
                shown.append(((number, place), replace(sample, why=choice.why, strip=strips[choice.row])))
                unseen += lost
    return [sample for _, sample in sorted(shown, key=lambda item: item[0])], unseen


def fingerprint_of(run: Run) -> str:
    """The fingerprint of the index that a run's last planned epoch is of."""
    last = last_decided(run)
    return last.fingerprint if last else strict_json.read(run.at("index.json"), RESTORE)["fingerprint"]


def _worst(runs: Sequence[tuple[Run, str, TrainConfig, Videos]], count: int) -> list[Choice]:
    """The worst videos by the newest snapshot of any of the runs."""
    if not count:
        return []
    snapshots = []
    for run, name, config, _ in runs:
        epochs = _newest_snapshot(run, config)
        snapshots.append(Snapshot(name, read_saliency(run, epochs), epochs, config.saliency.staleness))
    return worst_videos(runs[0][3].planner, snapshots, count, _excluded_by(runs, runs[0][2].index))


def _strips(planner: Planner, choices: Sequence[Choice]) -> tuple[dict[int, list[tuple[float, bytes]]], list[Dropped]]:
    """Row of a video -> frames evenly over it. They are the same for all runs."""
    found: dict[int, list[tuple[float, bytes]]] = {}
    lost: list[Dropped] = []
    for choice in choices:
        video = planner.video(choice.row)
        times = [(n + 0.5) / STRIP_FRAMES * video["duration_seconds"] for n in range(STRIP_FRAMES)]
        pictures, dropped = _pictures(video, times, STRIP_PIXELS, f"{STRIP_FRAMES} frames along it")
        found[choice.row] = [(at, picture) for at, picture in zip(times, pictures, strict=False)]
        lost += dropped
    return found, lost


def _pictures(video: dict, times: Sequence[float], size_pixels: int, what: str) -> tuple[list[bytes], list[Dropped]]:
    """The frames at some times, or no frames and the reason."""
    try:
        return (frames_jpeg(video, times, size_pixels) if times else []), []
    except AdaptFocusError as error:
        kind = error.kind if isinstance(error, BadVideoError) else "storage_error"
        return [], [Dropped(kind, 1, f"{video['video_id']}, {what}: {error}", "pictures")]


def _excluded_by(runs: Sequence[tuple[Run, str, TrainConfig, Videos]], index_url: str) -> set[int]:
    """Rows of the videos that any run on this index excludes: there is nothing to see in them."""
    tables = [read_excluded(run, _newest_snapshot(run, config)) for run, _, config, _ in runs
              if config.index == index_url]  # fmt: skip
    return {row for table in tables for row in table.column("video_row").to_pylist()}


def _seen(run: Run, name: str, config: TrainConfig, planner: Planner, rows: set[int]) -> Seen:
    epochs = _newest_snapshot(run, config)
    return Seen(name, config, read_saliency(run, epochs), epochs, _drawn(run, config, rows, planner, epochs))


def _newest_snapshot(run: Run, config: TrainConfig) -> int:
    """The number of epochs whose scores are merged. A run with a checkpoint has at least the snapshot of epoch 0."""
    return next(e for e in range(config.epochs, -1, -1) if e == 0 or store.exists(run.epoch_url(e, SALIENCY)))


def _drawn(run: Run, config: TrainConfig, rows: set[int], planner: Planner, epochs: int) -> dict[int, list[DrawnClip]]:
    """Every clip that was drawn from some videos, epoch by epoch."""
    half, wanted = (config.clip.frames - 1) / 2, sorted(rows)
    rates = planner.table.column("frame_rate_hz").to_numpy()[planner.places(wanted)].tolist()
    width_of = {row: half * config.clip.stride_seconds(rate) for row, rate in zip(wanted, rates, strict=True)}
    found: dict[int, list[DrawnClip]] = {row: [] for row in rows}
    for epoch in range(epochs):
        plan = read_plan(run.epoch_url(epoch, "plan"))
        for url, start, stop in plan.slices(0) if plan else ():
            part = read_drawn(url, STEP_SCHEMA, start, stop).select(["video_row", "clips"])
            for bag in part.filter(pc.field("video_row").isin(wanted)).to_pylist():
                width = width_of[bag["video_row"]]
                for clip in bag["clips"]:
                    label = clip["focus_label_id"]
                    reason, name = ("explore", None) if label < 0 else ("focus", planner.classes[label])
                    found[bag["video_row"]].append(DrawnClip(clip["center_seconds"], width, reason, name, epoch + 1))
    return found


def _sample(seen: Seen, planner: Planner, row: int) -> tuple[VideoSample, list[Dropped]]:
    video = planner.video(row)
    pairs = seen.saliency.pairs_of(row)
    bins = Bins(*(t[pairs] for t in (seen.saliency.bins.score, seen.saliency.bins.tau, seen.saliency.bins.epoch)))
    labels = [planner.classes[k] for k in planner.label_ids[int(planner.places([row])[0])]]
    actions = [_timeline(seen, bins, n, label, video) for n, label in enumerate(labels)]
    pictures: list[Thumbnail] = []
    lost: list[Dropped] = []
    for action in actions:
        if action.salient_seconds is not None:
            what = f"frame at {action.salient_seconds:.2f} s"
            images, dropped = _pictures(video, [action.salient_seconds], SIZE_PIXELS, what)
            pictures += [Thumbnail(action.label, action.salient_seconds, image) for image in images]
            lost += dropped
    return VideoSample(
        seen.name, video["video_id"], video["duration_seconds"], labels, actions, seen.drawn[row], pictures
    ), lost  # fmt: skip


def _timeline(seen: Seen, bins: Bins, number: int, label: str, video: dict) -> ActionTimeline:
    """Scores are faded as they are for finding the spike, so that the spike is the highest bin shown."""
    last, staleness = max(0, seen.epochs - 1), seen.config.saliency.staleness
    own = Bins(bins.score[number], bins.tau[number], bins.epoch[number])
    visited = own.epoch.numpy() != NEVER_VISITED
    faded = fade(own, last, staleness)
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
    """The share of a video that an action covers: the mean over (video, action) pairs with known intervals."""
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
    """The time that sorted spans cover; time in two spans counts once."""
    total, reached = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _where(values: np.ndarray, visited: np.ndarray) -> list[float | None]:
    return [float(v) if ok else None for v, ok in zip(values, visited, strict=True)]
