"""Pre-training without labels: a model learns to tell in what order a clip's frames are shown (`task=order`).

Every video gets the labels `ORDERS`. The id of each clip decides which of them is true, and the clip is shown in that
order. The clips come with twice the frames that the model takes. The index and the batches that come out are like any
others, so plan, stream, step, commit and export need no change.

Whatever does not move in a clip looks the same in every order, so the model learns movement.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import torch

from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.draws import ORDER, uniforms
from adaptfocus.trainers.inputs.run_index import ORDERS

PARTS = 3  # that a clip is cut into; each order of them except the filmed one is a label
SWAPS = tuple(permutations(range(PARTS)))[1:]


def reorder_clips(batch: ClipBatch, seed: int) -> ClipBatch:
    """Show each clip in an order that its id decides; that order becomes its only positive label.

    Args:
        batch: clips of 2 T frames, and `ORDERS` as the labels of every bag.

    Returns:
        A batch of T frames a clip.
    """
    frames = batch.frames.shape[2] // 2
    label, shown = orders_of(torch.from_numpy(batch.clip_id.ravel()), frames, seed)
    bags, clips = batch.clip_id.shape
    chosen = np.take_along_axis(batch.frames, shown.reshape(bags, clips, frames, 1, 1, 1), axis=2)
    positive = batch.label_ids[:, None] == label.reshape(bags, clips, 1)
    return replace(batch, frames=chosen, clip_positive=positive)


def orders_of(clip_id: torch.Tensor, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The orders of clips of 2 `frames` frames: places in `ORDERS`, int64 [B], and the frames shown, int64 [B, frames].

    Shown twice as fast, a clip shows every second frame; otherwise `frames` successive ones from a drawn start.
    """
    drawn = uniforms(clip_id, seed, ORDER, 3).double().numpy()  # in float32, 0.99999994 of 13 is 13
    label, start, swap = (drawn * (len(ORDERS), frames + 1, len(SWAPS))).astype(np.int64).T
    ways = np.stack(_ways(frames))  # [3 + swaps, frames]
    way = np.where(label == 2, 3 + swap, np.where(label == 3, 2, label))
    return label, ways[way] + np.where(label == 3, 0, start)[:, None]


def _ways(frames: int) -> list[np.ndarray]:
    """The frames of each order, counted from the first: as filmed, reversed, twice as fast, each swap of the parts."""
    filmed = np.arange(frames)
    parts = np.array_split(filmed, PARTS)
    return [filmed, filmed[::-1], 2 * filmed, *(np.concatenate([parts[p] for p in swap]) for swap in SWAPS)]
