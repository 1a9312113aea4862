"""Moments of a run: those it has planned, and new ones from its saliency, by the code that draws its plans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.partitions import source_of
from adaptfocus.pipelines.library.index import Index
from adaptfocus.pipelines.library.moments import InPieces, Moments, Piece, Sampler, digest
from adaptfocus.pipelines.plan.order import label_weights, order_of_epoch
from adaptfocus.pipelines.plan.published import read_drawn, read_plan
from adaptfocus.pipelines.plan.settings import DrawRules
from adaptfocus.pipelines.plan.windows import windows_in_order
from adaptfocus.pipelines.schemas import STEP_SCHEMA
from adaptfocus.trainers.epochs.window_tasks import WindowTask
from adaptfocus.trainers.inputs.unused_videos import count_unused
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import Manifest, read_manifest
from adaptfocus.trainers.settings.run import TrainConfig

_DRAWN = pa.schema([STEP_SCHEMA.field(name) for name in ("video_row", "clips")])


def planned(run: Run, epoch: int) -> Moments:
    """The clips of a plan, in the order of its slots.

    Raises:
        InputError: the epoch is not planned, or its plan is damaged.
    """
    facts = read_plan(run.epoch_url(epoch, "plan"))
    if facts is None:
        raise InputError(f"{run.url} has no plan of epoch {epoch} (epochs count from 0)")
    slices = tuple(facts.slices())
    clips = read_drawn(slices[0][0], _DRAWN, 0, 1).column("clips")[0] if slices else ()
    counts = [(stop - start) * len(clips) for _, start, stop in slices]
    return InPieces(counts, _Planned(slices).piece, digest("plan", facts.folder_url, facts.num_bags, len(clips)))


@dataclass(frozen=True)
class _Planned:
    slices: tuple[tuple[str, int, int], ...]

    def piece(self, number: int) -> Piece:
        url, start, stop = self.slices[number]
        return _moments_of(read_drawn(url, _DRAWN, start, stop))


def sampler_of(
    run: Run, config: TrainConfig, index: Index, epochs: int, clips_per_video: int | None,
    explore_probability: float | None, seed: int | None,
) -> Sampler:  # fmt: skip
    """A sampler from the saliency after so many epochs of a run; the arguments are those of `Run.sampler`.

    Raises:
        ConfigError: a number is out of range. InputError: there is no such saliency.
    """
    rules = config.draw_rules
    clips = rules.clips_per_bag if clips_per_video is None else clips_per_video
    explore = config.plan.explore_probability if explore_probability is None else explore_probability
    if not 1 <= clips <= 255 or not 0 <= explore <= 1:
        raise ConfigError(
            f"{clips} clips of each video, of which a share of {explore} explores: take 1 to 255, and 0 to 1"
        )
    rules = replace(rules, clips_per_bag=clips, explore_probability=explore, focus_from_epoch=0)
    manifest = read_manifest(run, epochs) if epochs else {}
    if seed is not None:
        config = config.model_copy(update={"seed": seed})
    return _Salient(config, index, manifest, epochs, rules)


class _Size(NamedTuple):
    uids: tuple[int, ...]
    videos: int


@dataclass(frozen=True)
class _Salient:
    config: TrainConfig
    index: Index
    manifest: Manifest
    epochs: int
    rules: DrawRules

    def __call__(self, epoch: int) -> Moments:
        usable = {uid: self._usable(uid) for uid in self.index.partitions}
        size = self.config.plan.window_videos
        windows = [
            _Size(uids, sum(usable[uid] for uid in uids))
            for uids in windows_in_order(usable, self.config.seed, epoch, size)
        ]
        said = digest(
            "salient", self.config.url, self.index.fingerprint, self.epochs, self.rules, self.config.seed, epoch
        )
        counts = [each.videos * self.rules.clips_per_bag for each in windows]
        return InPieces(counts, _Windows(self, epoch, tuple(each.uids for each in windows)).piece, said)

    def _usable(self, uid: int) -> int:
        partition, files = self.index.partitions[uid], self.manifest.get(uid)
        return partition.rows - count_unused(self.config, [partition]).videos - (files.excluded_rows if files else 0)


@dataclass(frozen=True)
class _Windows:
    sampler: _Salient
    epoch: int
    windows: tuple[tuple[int, ...], ...]

    def piece(self, number: int) -> Piece:
        """The clips of one window of partitions."""
        own, uids = self.sampler, self.windows[number]
        by_source = groupby(sorted(uids), key=source_of)
        drawn = [self._draw(tuple(own_uids)) for _, own_uids in by_source]
        ids = [each for one in drawn for each in one.ids]
        rows, seconds = (np.concatenate(each) for each in zip(*((one.rows, one.seconds) for one in drawn), strict=True))
        order = np.array(order_of_epoch(ids, own.config.seed, self.epoch), np.int64)
        return Piece(np.repeat(rows[order], own.rules.clips_per_bag), seconds[order].ravel())

    def _draw(self, uids: tuple[int, ...]) -> _Drawn:
        """The clips of some partitions of one index."""
        own, facts = self.sampler, self.sampler.index.facts
        counts = np.array([facts.label_counts.get(name, 0) for name in facts.classes], np.int64)
        weights = label_weights(counts, own.rules.focus_balance)
        files = {uid: own.manifest[uid] for uid in uids if uid in own.manifest}
        partitions = tuple(own.index.partitions[uid] for uid in uids)
        task = WindowTask(own.config, tuple(facts.classes), weights, own.epochs + self.epoch, partitions, files)
        planner = task.planner()
        usable = task.usable(planner)
        rows = planner.video_rows[usable]
        slots = np.arange(len(rows))
        bags = replace(task.drawer(planner), rules=own.rules).bags(rows, np.zeros_like(slots), slots)
        seconds = _moments_of(bags).seconds.reshape(len(rows), own.rules.clips_per_bag)
        return _Drawn([planner.ids[place] for place in usable.tolist()], rows, seconds)


class _Drawn(NamedTuple):
    ids: list[str]
    rows: np.ndarray  # [V] int64
    seconds: np.ndarray  # [V, N] float64


def _moments_of(bags: pa.Table) -> Piece:
    clips = bags.column("clips").combine_chunks()
    rows = np.repeat(bags.column("video_row").to_numpy(), clips.value_lengths().to_numpy())
    return Piece(rows, clips.flatten().field("center_seconds").to_numpy())
