"""Some videos as each run saw them: saliency over time, the clips drawn, and a picture of each spike.

All runs on an index show the same videos. What could not be shown is returned with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.infra.report.data import ActionTimeline, DrawnClip, Dropped, Thumbnail, VideoSample
from adaptfocus.infra.report.sample_choice import (
    Choice,
    RunSeen,
    Videos,
    refuse_unknown,
    rows_of_ids,
    saliency_of,
    seen_by,
    worst_videos,
)
from adaptfocus.infra.report.thumbnails import SIZE_PIXELS, STRIP_PIXELS, frames_jpeg
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, BadVideoError
from adaptfocus.pipelines.index.partitions import LOADED_SCHEMA, source_of
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, read_drawn, read_plan
from adaptfocus.pipelines.plan.windows import uid_of
from adaptfocus.pipelines.saliency.bins import Bins, fade, spikes
from adaptfocus.pipelines.schemas import BY_SCORE, NEVER_VISITED, NO_LABEL, STEP_SCHEMA
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.inputs.run_index import describe_sources
from adaptfocus.trainers.runs.growth import last_decided
from adaptfocus.trainers.runs.log import RESTORE, SALIENCY, Run
from adaptfocus.trainers.runs.open import facts_of_run
from adaptfocus.trainers.runs.snapshots import read_manifest
from adaptfocus.trainers.settings.run import TrainConfig

STRIP_FRAMES = 8  # as many as can be told apart on a phone
_ROWS, _DRAWN = (pa.schema([STEP_SCHEMA.field(n) for n in names]) for names in (["video_row"], ["video_row", "clips"]))


REASONS = {NO_LABEL: ("explore", None), BY_SCORE: ("score", None)}  # of a clip that focuses on no action


@dataclass(frozen=True)
class Seen:
    """What a run knows of the videos that are shown, after `epochs` epochs."""

    name: str
    config: TrainConfig
    bins: dict[int, Bins]  # by video row
    epochs: int
    drawn: dict[int, list[DrawnClip]]  # by video row


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
    refuse_unknown([videos for *_, videos in runs], video_ids)
    shown: list[tuple[tuple[int, int], VideoSample]] = []
    unseen: list[Dropped] = []
    same = [r for r in runs if fingerprint_of(r[0]) == r[3].fingerprint]
    for run, name, config, _ in runs:
        if all(r[0] is not run for r in same):
            why = f"{describe_sources(config)} has changed since {name} was trained: its rows are other videos now"
            unseen.append(Dropped("index_changed", len(video_ids) or count, why, "sample videos"))
    indexes = dict.fromkeys(seen_by(config, videos.fingerprint) for _, _, config, videos in same)
    for number, index in enumerate(indexes):
        own = [r for r in same if seen_by(r[2], r[3].fingerprint) == index]
        videos, opened = own[0][3], [_opened(run, name, config) for run, name, config, _ in own]
        choices = rows_of_ids(videos, video_ids) if video_ids else worst_videos(videos, opened, count)
        planner = _planner(videos, [choice.row for choice in choices])
        strips, lost = _strips(planner, choices)
        unseen += lost
        for each in opened if choices else ():
            seen = _seen(each, videos, planner)
            for place, choice in enumerate(choices):
                sample, lost = _sample(seen, planner, choice.row)
                shown.append(((number, place), replace(sample, why=choice.why, strip=strips[choice.row])))
                unseen += lost
    return [sample for _, sample in sorted(shown, key=lambda item: item[0])], unseen


def fingerprint_of(run: Run) -> str:
    """The fingerprint of the index that a run's last planned epoch is of."""
    last = last_decided(run)
    return last.fingerprint if last else strict_json.read(run.at("index.json"), RESTORE)["fingerprint"]


def _opened(run: Run, name: str, config: TrainConfig) -> RunSeen:
    """A run with a checkpoint has at least the snapshot of epoch 0."""
    epochs = next(e for e in range(config.epochs, -1, -1) if e == 0 or store.exists(run.epoch_url(e, SALIENCY)))
    return RunSeen(run, name, config, tuple(facts_of_run(run, config).classes), read_manifest(run, epochs), epochs)


def _planner(videos: Videos, rows: Sequence[int]) -> Planner:
    """Some videos of an index, with all columns. Only their partitions are read, one after the other."""
    uids = {uid_of(row) for row in rows}
    parts = (videos.read(each) for each in videos.partitions if each.uid in uids)
    tables = [part.filter(pc.field("video_row").isin(rows)) for part in parts]
    return Planner.of(pa.concat_tables([LOADED_SCHEMA.empty_table(), *tables]), videos.classes)


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


def _seen(opened: RunSeen, videos: Videos, planner: Planner) -> Seen:
    bins, uids = {}, {uid_of(row) for row in planner.video_rows.tolist()}
    for partition in (each for each in videos.partitions if each.uid in uids):
        table = saliency_of(opened, partition)
        for row in (each for each in planner.video_rows.tolist() if uid_of(each) == partition.uid):
            pairs = table.pairs_of(row)
            bins[row] = Bins(*(each[pairs].clone() for each in (table.bins.score, table.bins.tau, table.bins.epoch)))
    return Seen(opened.name, opened.config, bins, opened.epochs, _drawn(opened, planner))


def _drawn(opened: RunSeen, planner: Planner) -> dict[int, list[DrawnClip]]:
    """Every clip that was drawn from some videos, epoch by epoch."""
    half, wanted = (opened.config.clip.frames - 1) / 2, planner.video_rows.tolist()
    rates = planner.table.column("frame_rate_hz").to_pylist()
    clips = {source: opened.config.clip_of(source) for source in range(len(opened.config.index_urls))}
    width_of = {
        row: half * clips[source_of(uid_of(row))].stride_seconds(rate) for row, rate in zip(wanted, rates, strict=True)
    }
    found: dict[int, list[DrawnClip]] = {row: [] for row in wanted}
    for epoch in range(opened.epochs):
        plan = read_plan(opened.run.epoch_url(epoch, "plan"))
        for bag in _bags_of(plan, wanted) if plan else ():
            width = width_of[bag["video_row"]]
            for clip in bag["clips"]:
                label = clip["focus_label_id"]
                reason, name = REASONS.get(label) or ("focus", planner.classes[label])
                found[bag["video_row"]].append(
                    DrawnClip(clip["center_seconds"], width, reason, name, epoch + 1, clip["clip_id"])
                )
    return found


def _bags_of(plan: PlanFacts, rows: Sequence[int]) -> Iterator[dict]:
    """The bags of some videos. Only windows that can have some are read, and clips only where there are some."""
    uids = {uid_of(row) for row in rows}
    slices = (
        plan.slices()
        if plan.old_parts is not None
        else (
            each
            for window in plan.windows
            if window.bags and (not window.uids or not uids.isdisjoint(window.uids))
            for each in plan.slices(window.first_slot, window.first_slot + window.bags)
        )
    )
    for part in slices:
        if np.isin(read_drawn(part[0], _ROWS, *part[1:])["video_row"].to_numpy(), rows).any():
            yield from read_drawn(part[0], _DRAWN, *part[1:]).filter(pc.field("video_row").isin(rows)).to_pylist()


def _sample(seen: Seen, planner: Planner, row: int) -> tuple[VideoSample, list[Dropped]]:
    video = planner.video(row)
    bins = seen.bins[row]
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


def _where(values: np.ndarray, visited: np.ndarray) -> list[float | None]:
    return [float(v) if ok else None for v, ok in zip(values, visited, strict=True)]
