"""Whether a label's spikes (its high scores at single moments) mean anything: null ranks.

For each class, each bag (the clips of one video in a batch) gets a number: how far its highest logit stands out of the
bag's mean. Only clips that were drawn anywhere in the video count. The bags with a label are then ranked among those
without it. Each label of each bag gets a rank in [0, 1], and the variance that this rank has by chance.

Weak labels give this null distribution for free: if a label means nothing to the model, a bag with it is as likely to
rank above as below one without it. What the whole video shows, such as its scene, shifts all of its logits, and does
not change how far one stands out. So a label that is only recognised by its background does not count as found. Clips
drawn around a salient time are left out: they were chosen for a high score, and only in the videos that have the label.
Both sides come from the same steps, so the same weights scored them, and both were looked at equally often.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from adaptfocus.pipelines.schemas import NO_LABEL
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.transfer import on_device

NOT_RANKED = -1.0


class Ranks(NamedTuple):
    """Rank and variance at each label place of each bag."""

    # [R, L] float32: the share of the bags without the label that are lower, where ties count half; or NOT_RANKED.
    rank: np.ndarray
    variance: np.ndarray  # [R, L] float32: the mean of m ranks has the variance sum(these) / m^2


def stands_out(logits: torch.Tensor, batch: ClipBatch) -> torch.Tensor:
    """How far the highest logit of each bag and class stands out, [B, K].

    From logits [B N, K]: the maximum minus the mean over the clips that explore; nan where fewer than two explore.
    """
    explores = on_device(batch, "explores", logits.device)
    each, out = logits.detach().unflatten(0, explores.shape), ~explores.unsqueeze(-1)
    number = explores.sum(dim=1, dtype=each.dtype).unsqueeze(-1)
    highest, mean = each.masked_fill(out, -torch.inf).amax(dim=1), each.masked_fill(out, 0.0).sum(dim=1) / number
    return (highest - mean).masked_fill(number < 2, torch.nan)


def null_ranks(found: np.ndarray, label_ids: np.ndarray, ok: np.ndarray) -> Ranks:
    """Rank bags with a label among the bags without it.

    Args:
        found: [R, K], from `stands_out`; a number that is not finite is not ranked.
        label_ids: [R, L], padded with NO_LABEL.
        ok: [R], whether a bag could be decoded.

    With m bags that have the label and n that do not, the mean of the m ranks is Mann and Whitney's U / (m n). Its
    variance by chance is (m + n + 1) / (12 m n). Each rank gets an equal part of it, so that the variances of several
    commits and workers add up.
    """
    rank = np.full(label_ids.shape, NOT_RANKED, np.float32)
    variance = np.zeros(label_ids.shape, np.float32)
    usable = ok[:, None] & np.isfinite(found)
    for k in np.unique(label_ids[label_ids != NO_LABEL]).tolist():
        rows, places = np.nonzero(label_ids == k)
        untagged = usable[:, k].copy()
        untagged[rows] = False
        null = np.sort(found[untagged, k])
        own = usable[rows, k]
        rows, places = rows[own], places[own]
        n, m = len(null), len(rows)
        if n and m:
            lower, not_higher = (np.searchsorted(null, found[rows, k], side) for side in ("left", "right"))
            rank[rows, places] = (lower + not_higher) / (2 * n)
            variance[rows, places] = (m + n + 1) / (12 * n)
    return Ranks(rank, variance)
