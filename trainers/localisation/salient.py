"""The salient moments of a run's own videos: where its saliency peaks, partition by partition."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.cutting.moments import Moment, VideoMoments, in_groups
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.partitions import ROW_BITS, Partition
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.saliency.bins import fade
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.trainers.inputs.run_index import read_videos, run_partitions
from adaptfocus.trainers.runs.log import SALIENCY, Run
from adaptfocus.trainers.runs.open import facts_of_run, load_config
from adaptfocus.trainers.runs.snapshots import Manifest, read_left_out, read_manifest, read_saliency_of
from adaptfocus.trainers.settings.run import TrainConfig


@dataclass(frozen=True)
class SalientRules:
    """Which moments count."""

    length_seconds: float
    min_score: float = 0.0
    per_video: int = 1  # moments of one label in one video, at most; they do not overlap
    per_label: int | None = None  # moments of one label in all videos, at most; the best ones

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigError: a value is out of range.
        """
        if not 0 < self.length_seconds < float("inf"):
            raise ConfigError(f"--seconds is {self.length_seconds:g}; it must be more than 0")
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"--min-score is {self.min_score:g}; scores are probabilities, so give 0 to 1")


class Peaks(NamedTuple):
    """Moments as arrays [M], by video and label, best first."""

    video_row: np.ndarray  # int64
    label_id: np.ndarray  # int64
    center_seconds: np.ndarray  # float64, from the first frame shown
    score: np.ndarray  # float32, the faded saliency of the bin


def peaks(
    table: SaliencyTable, durations_seconds: np.ndarray, epoch: int, staleness: float, rules: SalientRules
) -> Peaks:
    """The highest bins of each pair, each at least a moment's length from the better ones.

    Args:
        durations_seconds: float64 [R], of the video of each pair of the table.
        epoch: of the last visit that may have been; bins fade from there.
    """
    left = fade(table.bins, epoch, staleness)  # -1: never visited
    times = table.bins.tau.double() * torch.from_numpy(durations_seconds)[:, None]
    found: list[Peaks] = []
    for _ in range(min(rules.per_video, left.shape[-1])):
        score, where = left.max(-1, keepdim=True)
        center = times.gather(-1, where)
        is_one = ((score[:, 0] >= rules.min_score) & (score[:, 0] >= 0)).numpy()
        found.append(
            Peaks(
                table.video_row[is_one],
                table.label_id[is_one],
                center[:, 0].numpy()[is_one],
                score[:, 0].numpy()[is_one],
            )
        )
        left = left.masked_fill((times - center).abs() < rules.length_seconds, -1.0)
    joined = [np.concatenate(each) for each in zip(*found, strict=True)]
    order = np.lexsort((-joined[3], joined[1], joined[0]))
    return Peaks(*(each[order] for each in joined))


def clip_seconds(config: TrainConfig) -> float:
    """The length of a run's clips in seconds, by its frame rate."""
    return config.clip.frames * config.clip.stride_seconds(0.0)


def salient_videos(run_url: str, rules: SalientRules, epoch: int | None = None) -> Iterator[list[VideoMoments]]:
    """The videos of a run with their salient moments, partition by partition. Videos that it left out are not given.

    Args:
        epoch: the snapshot after this epoch, counted from 0; the newest one if None.

    Raises:
        ConfigError: the URL is not that of a run. InputError: it has no such snapshot, or its index is gone.
        StorageError: a place cannot be read.
    """
    run, config = Run(run_url), load_config(run_url)
    if config.task != "labels":
        raise ConfigError(f"{run_url} has task={config.task}: it has no labels to make clips of; give another run")
    facts = facts_of_run(run, config)
    after = _snapshot(run, epoch)
    manifest = read_manifest(run, after)
    parts = [each for each in run_partitions(config, facts.fingerprint) if each.uid in manifest]
    best = None
    if rules.per_label is not None:
        best = _best(
            (_peaks_of(run, config, manifest, each, facts.classes, after, rules) for each in parts), rules.per_label
        )
    for part in parts:
        found = best if best is not None else _peaks_of(run, config, manifest, part, facts.classes, after, rules)
        own = Peaks(*(each[found.video_row >> ROW_BITS == part.uid] for each in found))
        if len(own.video_row):
            yield list(_jobs(read_videos(config, [part]), own, facts.classes, rules.length_seconds))


def _snapshot(run: Run, epoch: int | None) -> int:
    """The number of the snapshot after an epoch, or of the newest one."""
    _, commit = run.newest()
    numbers = range(commit.epoch + 1, 0, -1) if epoch is None and commit else [(epoch or 0) + 1]
    for number in numbers:
        if store.exists(run.epoch_url(number, SALIENCY)):
            return number
    said = "after any epoch" if epoch is None else f"after epoch {epoch + 1}"
    raise InputError(f"{run.url} has no saliency {said}; train at least one whole epoch, or give another --epoch")


def _peaks_of(
    run: Run,
    config: TrainConfig,
    manifest: Manifest,
    part: Partition,
    classes: list[str],
    after: int,
    rules: SalientRules,
) -> Peaks:
    videos = read_videos(config, [part], ["labels", "duration_seconds"])
    files = {part.uid: manifest[part.uid]}
    table = read_saliency_of(run, files, Planner.of(videos, classes), config.saliency)
    rows = videos["video_row"].to_numpy()
    durations = videos["duration_seconds"].to_numpy()[np.searchsorted(rows, table.video_row)]
    found = peaks(table, durations, after - 1, config.saliency.staleness, rules)
    kept = ~np.isin(found.video_row, np.array(sorted(read_left_out(run, files)), np.int64))
    return Peaks(*(each[kept] for each in found))


def _best(parts: Iterator[Peaks], per_label: int) -> Peaks:
    """The best moments of each label over all partitions. Of two with one score, the earlier video counts."""
    kept: dict[int, list[tuple[float, int, float]]] = defaultdict(list)
    for found in parts:
        columns = (found.label_id, found.score, found.video_row, found.center_seconds)
        for label, score, row, center in zip(*(each.tolist() for each in columns), strict=True):
            entry = (score, -row, -center)
            if len(kept[label]) < per_label:
                heapq.heappush(kept[label], entry)
            else:
                heapq.heappushpop(kept[label], entry)
    rows = sorted((-row, label, -center, score) for label, own in kept.items() for score, row, center in own)
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = (np.int64, np.int64, np.float64, np.float32)
    return Peaks(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))


def _jobs(videos: pa.Table, found: Peaks, classes: list[str], length_seconds: float) -> Iterator[VideoMoments]:
    moments: dict[int, list[Moment]] = defaultdict(list)
    rows = videos.filter(pc.field("video_row").isin(np.unique(found.video_row).tolist())).to_pylist()
    durations = {row["video_row"]: row["duration_seconds"] for row in rows}
    for row, label, center, score in zip(*(each.tolist() for each in found), strict=True):
        moments[row].append(_around(center, durations[row], length_seconds, classes[label], score))
    for row in rows:
        yield from in_groups(row, moments[row["video_row"]])


def _around(center: float, duration: float, length: float, label: str, score: float) -> Moment:
    """A moment of this length around a time, moved to lie inside the video."""
    start = max(min(center - length / 2, duration - length), 0.0)
    return Moment(start, min(start + length, duration), label, round(score, 6))
