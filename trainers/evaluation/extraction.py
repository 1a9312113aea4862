"""Weak-FEAT: features of whole videos by a run's backbone, or by one with the weights of a file.

The index is cut into parts, and these into ranges. The windows of the missing ranges are decoded and go through the
backbone, in this process or on a cluster. Whoever makes features writes them (trainers/evaluation/fragments.py); here
they are only counted. A part is joined from its fragments as soon as its videos are complete, and written to a feature
set (`pipelines.features.store`). So an extraction that was killed and is started again only does what is missing.
Videos in the run's quarantine are left out, and a video that does not decode is refused; both are recorded with a
reason.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features import store as feature_store
from adaptfocus.pipelines.index.load import open_index, read_partition, read_partitions
from adaptfocus.pipelines.index.partitions import Partition
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.stream.windows import VideoRange, WindowShape, batches_of_ranges
from adaptfocus.trainers.evaluation.feature_model import FeatureModel, Kind, Weights
from adaptfocus.trainers.evaluation.fragments import Columns, Complete, FeatureParts, Made, part_name
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.quarantine import read_quarantine
from adaptfocus.trainers.settings.run import TrainConfig

LEAST_STRIDE_SECONDS = 0.001  # finer than frames; the steps of a video are counted in 32 bits
PART_VIDEOS = 64
RANGE_VIDEOS, RANGE_STEPS = 8, 512  # that one task or thread decodes: some tens of seconds of one core
# In memory: 33 MB of 2048-vectors, 50 MB of maps, 26 MB of the scores of 400 classes.
PART_STEPS: dict[Kind, int] = {"pooled": 4096, "maps": 256, "scores": 16384}

JOINED_AT_ONCE = 64  # parts, by tasks: Ray takes a second to begin

Progress = Callable[[int, int], None]  # videos done, videos in all


@dataclass(frozen=True)
class Extraction:
    """What is to be extracted."""

    config: TrainConfig  # of the run; without one, its name and place mean nothing
    num_classes: int
    weights: Weights
    index_url: str
    kind: Kind
    stride_seconds: float
    split: str | None = None
    has_run: bool = True  # False: a backbone with the weights of a file, which no run here has trained

    @property
    def decode(self) -> DecodeConfig:
        """Decode as the run does, but always the centred square, wherever training cropped."""
        return self.config.decode.model_copy(update={"crop_place": "centre"})

    @property
    def shape(self) -> WindowShape:
        config = self.config
        return WindowShape(config.clip, self.stride_seconds, self.decode, config.read, config.placement.isolation)

    def settings(self, fingerprint: str) -> dict[str, Any]:
        """Everything that decides what the features are."""
        config = self.config
        return {
            "kind": self.kind,
            "run": config.url if self.has_run else None,
            "backbone": config.backbone,
            **self.weights.facts,
            "window": config.clip.model_dump(mode="json"),
            "decode": self.decode.model_dump(mode="json"),
            "motion": config.input.motion,
            "stride_seconds": self.stride_seconds,
            "alignment": feature_store.ALIGNMENT,
            "index": self.index_url,
            "index_fingerprint": fingerprint,
            "split": self.split,
            "part_limits": {"videos": PART_VIDEOS, "steps": PART_STEPS[self.kind]},
        }


# (the extraction, ranges of videos, what writes windows) -> what was written of all their windows, in any order
Make = Callable[[Extraction, Sequence[VideoRange], FeatureParts], Iterable[Sequence[Made]]]


def extract(
    job: Extraction, out_url: str, make: Make, progress: Progress | None = None, over: Over = in_this_process
) -> dict[str, Any]:
    """Extract what is missing at `out_url`; return the contents of features.json.

    Args:
        over: what counts the windows of an index, joins parts and adds up what they have.

    Raises:
        ConfigError: the folder has features of other settings.
        InputError: the index cannot be used.
        StorageError: a place cannot be read or written.
    """
    if not 0 < job.stride_seconds < float("inf"):
        raise ConfigError(f"--stride-seconds is {job.stride_seconds}; it must be above 0")
    if job.stride_seconds < LEAST_STRIDE_SECONDS:
        raise ConfigError(f"--stride-seconds is {job.stride_seconds}; give at least {LEAST_STRIDE_SECONDS}")
    fingerprint = open_index(job.index_url).fingerprint
    store.check_writable(out_url)
    feature_store.claim(out_url, job.settings(fingerprint))
    steps, excluded = _counted(job, fingerprint, over)
    parts, ranges = _cut(job, steps)
    writer = FeatureParts(
        out_url, job.index_url, fingerprint, job.shape, job.split, str(job.weights.facts),
        np.array([*(rows.start for rows in parts), len(steps)]), np.array([each.start for each in ranges]), excluded,
        uuid.uuid4().hex[:8],
    )  # fmt: skip
    there = feature_store.parts_there(out_url)
    work = _Work(writer, steps, [number for number in range(len(parts)) if part_name(number) not in there])
    at_once = 1 if over is in_this_process else JOINED_AT_ONCE
    for made in make(job, work.without_left_over(ranges), writer):
        work.add(made)
        if len(work.complete) >= at_once:
            work.join(over)
        if progress:
            progress(work.videos, len(steps))
    work.join(over)
    if work.waiting:
        raise RuntimeError(f"{len(work.waiting)} of {len(parts)} parts did not come back complete")
    facts = feature_store.finish(out_url, [part_name(number) for number in range(len(parts))], over)
    writer.forget_fragments()
    return facts


def _cut(job: Extraction, steps: np.ndarray) -> tuple[list[range], list[range]]:
    """The parts of an extraction, and the ranges of these: what one task or thread decodes."""
    numbers = steps.tolist()
    parts = parts_of(numbers, PART_STEPS[job.kind], PART_VIDEOS)
    return parts, [each for rows in parts for each in parts_of(numbers, RANGE_STEPS, RANGE_VIDEOS, rows)]


def make_here(job: Extraction, ranges: Sequence[VideoRange], write: FeatureParts) -> Iterator[Sequence[Made]]:
    """Features made in this process: `placement.decode_workers` threads decode while the backbone runs."""
    if not ranges:
        return
    model = FeatureModel(job.config, job.num_classes, job.weights, job.kind)
    for batch in batches_of_ranges(ranges, job.shape, job.config.placement.decode_workers):
        yield write.write(add_features(batch.columns(), model))


def add_features(columns: Columns, model: FeatureModel) -> Columns:
    """Replace the frames of windows by their features; the other columns stay."""
    return {name: values for name, values in columns.items() if name != "frames"} | {
        "features": model(columns["frames"])
    }


def parts_of(steps: Sequence[int], most_steps: int, most_videos: int, rows: range | None = None) -> list[range]:
    """Cut rows of the index (all, or `rows`) into parts of at most so many videos and steps, but at least one video.

    The parts only depend on the index and the stride, so a process that continues the extraction finds the same parts.
    """
    rows = range(len(steps)) if rows is None else rows
    parts, first, held = [], rows.start, 0
    for row in rows:
        if row > first and (held + steps[row] > most_steps or row - first == most_videos):
            parts.append(range(first, row))
            first, held = row, 0
        held += steps[row]
    return [*parts, range(first, rows.stop)] if rows else []


def _counted(job: Extraction, fingerprint: str, over: Over) -> tuple[np.ndarray, dict[int, str]]:
    """The number of windows of each video, int32 [V], and why some videos are not tried (by row)."""
    count = partial(count_windows, job, _quarantined(job.config) if job.has_run else {})
    steps: list[np.ndarray] = [np.zeros(0, np.int32)]
    excluded: dict[int, str] = {}
    first = 0
    for own, why in over(read_partitions(job.index_url, fingerprint), count):
        excluded |= {first + row: reason for row, reason in why.items()}
        steps.append(own)
        first += len(own)
    return np.concatenate(steps), excluded


def count_windows(
    job: Extraction, quarantined: Mapping[tuple[str, str], str], partition: Partition
) -> tuple[np.ndarray, dict[int, str]]:
    """`_counted` for one partition; rows are counted from its first."""
    table = read_partition(job.index_url, partition, ["shard_url", "member_name", "duration_seconds"])
    steps = np.array([job.shape.steps(seconds) for seconds in table["duration_seconds"].to_pylist()], np.int32)
    if not quarantined:
        return steps, {}
    places = zip(table["shard_url"].to_pylist(), table["member_name"].to_pylist(), strict=True)
    return steps, {row: quarantined[place] for row, place in enumerate(places) if place in quarantined}


def _quarantined(config: TrainConfig) -> dict[tuple[str, str], str]:
    """(shard, member) -> why, of videos in the run's quarantine. The index may be another one with the same members."""
    try:
        rows = read_quarantine(Run(config.url), config).to_pylist()
    except InputError:  # nothing is planned yet
        return {}
    return {
        (row["shard_url"], row["member_name"]): f"{row['kind']} in epoch {row['epoch'] + 1}: {row['message']}"
        for row in rows
        if row["state"] == "quarantined"
    }


class _Work:
    """Counts windows until their videos and parts are complete: 9 bytes a video, and the names of open fragments."""

    def __init__(self, parts: FeatureParts, steps: np.ndarray, missing: Sequence[int]) -> None:
        self.parts = parts
        self._left = steps.copy()
        self._is_done = np.ones(len(steps), bool)
        self.waiting: dict[int, int] = {}  # part -> its videos that are not done
        self._fragments: dict[int, dict[str, None]] = {}  # of parts that are not complete
        self.complete: list[Complete] = []
        for number in missing:
            rows = parts.rows(number)
            self._is_done[rows.start : rows.stop] = False
            self.waiting[number] = len(rows)
        self.videos = int(self._is_done.sum())
        for row in sorted(parts.excluded):
            if not self._is_done[row]:
                self._settle(row)

    def without_left_over(self, ranges: Sequence[range]) -> list[VideoRange]:
        """The ranges that are still to be made. Others are there, left by an attempt that has ended."""
        parts, found = self.parts, self.parts.left_over() if self.waiting else {}
        todo = []
        for rows in ranges:
            wanted = [row for row in rows if not self._is_done[row]]
            whole = next((made for made in found.get(rows.start, ()) if self._has_all(wanted, made)), None)
            if whole is not None and wanted:
                self.add(whole)
            elif wanted:
                left_out = [row for row in rows if row in parts.excluded]
                todo.append(VideoRange(parts.index_url, parts.fingerprint, rows.start, rows.stop, left_out))
        return todo

    def _has_all(self, rows: Sequence[int], made: Sequence[Made]) -> bool:
        bad = {each.video_row for each in made if each.is_bad}
        count = Counter[int]()
        for each in made:
            count[each.video_row] += each.windows
        return all(row in bad or 0 < self._left[row] <= count[row] for row in rows)

    def add(self, made: Iterable[Made]) -> None:
        """Take note of windows that are on the store."""
        for each in made:
            number = self.parts.part_of(each.video_row)
            if number not in self.waiting:
                continue  # a part that an earlier attempt has written
            self._fragments.setdefault(number, {})[each.fragment] = None
            if self._is_done[each.video_row]:
                continue  # windows before the place where the video breaks
            self._left[each.video_row] -= each.windows
            if each.is_bad or self._left[each.video_row] <= 0:
                self._settle(each.video_row)

    def join(self, over: Over) -> None:
        """Join the parts that are complete."""
        complete, self.complete = self.complete, []
        for _ in over(complete, self.parts.join):
            pass

    def _settle(self, row: int) -> None:
        """Mark a video as done, and its part as complete if it was the last."""
        number = self.parts.part_of(row)
        self._is_done[row] = True
        self.videos += 1
        self.waiting[number] -= 1
        if not self.waiting[number]:
            del self.waiting[number]
            self.complete.append(Complete(number, (*self._fragments.pop(number, ()),)))
