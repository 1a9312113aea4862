"""Weak-FEAT: features of whole videos by a run's backbone, or by one with the weights of a file.

The index is cut into parts. The windows of the missing parts are decoded and go through the backbone, in this process
or on a cluster. Each part is written to a feature set (`pipelines.features.store`) as soon as its videos are complete,
so an extraction that was killed and is started again only does what is missing. Videos in the run's quarantine are left
out, and a video that does not decode is refused; both are recorded with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features import store as feature_store
from adaptfocus.pipelines.features.store import COUNTED, VideoFeatures
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.stream.batches import BAD_VIDEO, decode_text
from adaptfocus.pipelines.stream.windows import VideoRange, WindowShape, batches_of_ranges
from adaptfocus.trainers.evaluation.feature_model import FeatureModel, Kind, Weights
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.quarantine import read_quarantine
from adaptfocus.trainers.settings.run import TrainConfig

PART_VIDEOS = 64
RANGE_VIDEOS, RANGE_STEPS = 8, 512  # that one task or thread decodes: some tens of seconds of one core
PART_STEPS: dict[Kind, int] = {"pooled": 4096, "maps": 256}  # in memory: 33 MB of 2048-vectors, 50 MB of maps

Progress = Callable[[int, int], None]  # videos done, videos in all
Columns = Mapping[str, np.ndarray]  # those of a WindowBatch, with "features" [B, ...] instead of "frames"


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


# (the extraction, ranges of videos) -> features of all their windows, in any order
Make = Callable[[Extraction, Sequence[VideoRange]], Iterable[Columns]]


def extract(job: Extraction, out_url: str, make: Make, progress: Progress | None = None) -> dict[str, Any]:
    """Extract what is missing at `out_url`; return the contents of features.json.

    Raises:
        ConfigError: the folder has features of other settings.
        InputError: the index cannot be used.
        StorageError: a place cannot be read or written.
    """
    if not 0 < job.stride_seconds < float("inf"):
        raise ConfigError(f"--stride-seconds is {job.stride_seconds}; it must be above 0")
    index = load_index(job.index_url, ["video_id", "shard_url", "member_name", "duration_seconds", "labels"])
    videos = index.table.to_pylist()
    store.check_writable(out_url)
    feature_store.claim(out_url, job.settings(index.fingerprint))
    steps = [job.shape.steps(video["duration_seconds"]) for video in videos]
    parts = dict(enumerate(parts_of(steps, PART_STEPS[job.kind], PART_VIDEOS)))
    there = feature_store.parts_there(out_url)
    missing = {number: rows for number, rows in parts.items() if _name(number) not in there}
    excluded = excluded_of(job.config, videos) if job.has_run else {}
    collected = Collected(job, out_url, videos, steps, missing, excluded)
    done = len(videos) - sum(map(len, missing.values()))
    ranges = [
        VideoRange(job.index_url, index.fingerprint, r.start, r.stop, [row for row in r if row in excluded])
        for rows in missing.values()
        for r in parts_of(steps, RANGE_STEPS, RANGE_VIDEOS, rows)
    ]
    for columns in make(job, ranges):
        collected.add(columns)
        if progress:
            progress(done + collected.videos, len(videos))
    if collected.waiting:
        raise RuntimeError(f"{len(collected.waiting)} of {len(missing)} parts did not come back complete")
    return feature_store.finish(out_url, [_name(number) for number in parts])


def make_here(job: Extraction, ranges: Sequence[VideoRange]) -> Iterator[Columns]:
    """Features made in this process: `placement.decode_workers` threads decode while the backbone runs."""
    if not ranges:
        return
    model = FeatureModel(job.config, job.num_classes, job.weights, job.kind)
    for batch in batches_of_ranges(ranges, job.shape, job.config.placement.decode_workers):
        yield add_features(batch.columns(), model)


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


def excluded_of(config: TrainConfig, videos: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Row -> reason, for videos in the run's quarantine. The index may be another one that names the same members."""
    try:
        rows = read_quarantine(Run(config.url), config).to_pylist()
    except InputError:  # nothing is planned yet
        return {}
    why = {
        (row["shard_url"], row["member_name"]): f"{row['kind']} in epoch {row['epoch'] + 1}: {row['message']}"
        for row in rows
        if row["state"] == "quarantined"
    }
    places = [(video["shard_url"], video["member_name"]) for video in videos]
    return {row: why[place] for row, place in enumerate(places) if place in why}


class Collected:
    """Puts features of windows together to videos and parts as they come. Only unfinished parts are in memory."""

    def __init__(
        self,
        job: Extraction,
        out_url: str,
        videos: Sequence[Mapping[str, Any]],
        steps: Sequence[int],
        parts: Mapping[int, range],
        excluded: Mapping[int, str],
    ) -> None:
        self._job, self._url, self._rows, self._steps = job, out_url, videos, steps
        self.waiting = {number: set(rows) for number, rows in parts.items()}
        self._part_of = {row: number for number, rows in parts.items() for row in rows}
        self._all = dict(parts)
        self._open: dict[int, dict[str, Any]] = {}
        self._whole: dict[int, tuple[VideoFeatures, dict[str, int]]] = {}
        self._refused: dict[int, dict[str, Any]] = {}
        self.videos = 0
        for row in sorted(self._part_of.keys() & excluded.keys()):
            self._refuse(row, "quarantined", excluded[row])

    def add(self, columns: Columns) -> None:
        """Take some windows; write the parts that they complete.

        Raises:
            InputError: features are not finite. This is a fault of the weights, not of a video.
        """
        finite = np.isfinite(columns["features"].reshape(len(columns["video_row"]), -1)).all(axis=1)
        if not finite.all():
            video = self._rows[int(columns["video_row"][finite.argmin()])]["video_id"]
            raise InputError(
                f"the features of video {video!r} are not finite: the weights ({self._job.weights.facts}) have grown "
                "without bound. Use the end of an earlier epoch (--epoch), or train again with a lower "
                "optim.learning_rate. Nothing of this video was written"
            )
        for row in np.unique(columns["video_row"]).tolist():
            if row in self._refused:
                continue  # of windows before the place where the video breaks
            of_video = columns["video_row"] == row
            bad = of_video & (columns["step"] == BAD_VIDEO)
            if bad.any():
                kind, message = (decode_text(columns[name][bad][0]) for name in ("kind", "error"))
                self._open.pop(row, None)
                self._refuse(row, kind, message)
            else:
                self._put(row, {name: values[of_video] for name, values in columns.items()})

    def _put(self, row: int, columns: Columns) -> None:
        features, steps = columns["features"], self._steps[row]
        video = self._open.setdefault(
            row,
            {
                "features": np.empty((steps, *features.shape[1:]), np.float32),
                "center_seconds": np.empty(steps, np.float64),
                "have": np.zeros(steps, bool),
                **dict.fromkeys(COUNTED, 0),
            },
        )
        at = columns["step"]
        video["features"][at], video["center_seconds"][at], video["have"][at] = (
            features,
            columns["center_seconds"],
            True,
        )
        for name in COUNTED:
            video[name] += int(columns[name].sum())
        if video["have"].all():
            self._open.pop(row)
            facts = self._rows[row]
            whole = VideoFeatures(
                facts["video_id"], row, self._job.split, tuple(facts["labels"]), facts["duration_seconds"],
                video["center_seconds"], video["features"],
            )  # fmt: skip
            self._whole[row] = (whole, {name: video[name] for name in COUNTED})
            self._settle(row)

    def _refuse(self, row: int, kind: str, message: str) -> None:
        place = {name: self._rows[row][name] for name in ("shard_url", "member_name", "video_id")}
        self._refused[row] = place | {"kind": kind, "message": message, "video_row": row}
        self._settle(row)

    def _settle(self, row: int) -> None:
        """Mark a video as done, and write its part if it was the last."""
        self.videos += 1
        number = self._part_of[row]
        self.waiting[number].discard(row)
        if self.waiting[number]:
            return
        del self.waiting[number]
        rows = self._all[number]
        videos = [self._whole.pop(each) for each in rows if each in self._whole]
        refused = [self._refused[each] for each in rows if each in self._refused]
        feature_store.write_part(self._url, _name(number), videos, refused)


def _name(number: int) -> str:
    return f"{number:06d}"
