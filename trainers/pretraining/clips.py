"""Batches to pre-train on, from a set of encoded clips, through the same index and decoder as training.

`adaptfocus world --kind pretrain` writes such a set. In each epoch one clip of each video is drawn and decoded, in the
order of the epoch. The batches never end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from itertools import tee

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.draw import plan_clips
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import BAGS_PER_CHUNK, find_packets
from adaptfocus.pipelines.plan.settings import ClipConfig, DrawRules
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape, assemble_batches
from adaptfocus.pipelines.stream.threads import ahead
from adaptfocus.pipelines.worlds.trimmed import LABELS
from adaptfocus.trainers.backbones import InputSpec
from adaptfocus.trainers.batches import LabelShape, join_batches

SALIENCY = SaliencyConfig(bins=1)  # a plan needs it; no draw here uses it


def batches_of_set(
    set_url: str, seed: int, batch_clips: int, spec: InputSpec
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames uint8 [B, T, 3, S, S] and targets float32 [B, len(LABELS)], B = `batch_clips`.

    The seed decides the order of the videos, and which moment of each is shown.

    Raises:
        InputError: there is no such set, it has other labels, or one of its clips does not decode.
        ConfigError: the set has fewer clips than a batch.
        StorageError: it cannot be read.
    """
    planner = _planner(set_url, batch_clips)
    shape = ClipShape(1, spec.frames, spec.size_pixels)
    for_decoder, for_step = tee(_plans(planner, seed, batch_clips, spec))
    bags = (bag for plan in for_decoder for bag in _bags_of(plan))
    decoded = assemble_batches(read_ahead(bags), shape, batch_clips)
    for batch in ahead(join_batches(decoded, for_step, LabelShape(planner.max_labels, SALIENCY.bins))):
        _check_decoded(batch, set_url)
        targets = np.zeros((batch_clips, len(LABELS)), np.float32)
        rows, places = np.nonzero(batch.label_ids >= 0)
        targets[rows, batch.label_ids[rows, places]] = 1.0
        yield batch.frames[:, 0], targets


def _planner(set_url: str, batch_clips: int) -> Planner:
    index_url = store.join(set_url, "index", "train")
    index = load_index(index_url)
    if tuple(index.classes) != LABELS:
        raise InputError(
            f"{index_url} has the labels {', '.join(index.classes[:3])}, ...; a set to pre-train on has "
            f"{', '.join(LABELS[:3])}, ...; make one with `adaptfocus world --kind pretrain`"
        )
    if index.table.num_rows < batch_clips:
        raise ConfigError(
            f"{index_url} has {index.table.num_rows} clips, fewer than a batch of {batch_clips}; make a larger set "
            "(--train-videos)"
        )
    return Planner.of(index.table, index.classes)


def _bags_of(plan: pa.Table) -> Iterator[dict]:
    """The bags of a plan with their packets, some at once."""
    for first in range(0, plan.num_rows, BAGS_PER_CHUNK):
        yield from find_packets(plan.slice(first, BAGS_PER_CHUNK)).to_pylist()


def _plans(planner: Planner, seed: int, batch_clips: int, spec: InputSpec) -> Iterator[pa.Table]:
    """Plans of bags of one clip, epoch after epoch. Bags that do not fill a batch come first in the next epoch."""
    clip = ClipConfig(frames=spec.frames, frame_stride=spec.frame_stride, size_pixels=spec.size_pixels)
    rules = DrawRules(clips_per_bag=1, bags_per_batch=batch_clips)
    saliency = planner.empty_saliency(SALIENCY)
    carried: tuple[int, ...] = ()
    for epoch in itertools.count():
        plan = plan_clips(
            planner, saliency, seed=seed, epoch=epoch, clip=clip, rules=rules, staleness=1.0, carried=carried
        )
        carried = plan.carried
        yield plan.table


def _check_decoded(batch: DecodedBatch, set_url: str) -> None:
    lost = np.flatnonzero(~batch.ok)
    if len(lost):
        raise InputError(
            f"{set_url}: {len(lost)} of {batch.num_bags} clips did not decode ({batch.reason(lost[0])}); "
            "make the set again"
        )
