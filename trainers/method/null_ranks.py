"""Whether a label's spikes say anything: how they rank among those of videos that have not the label.

Input: what the model said of every class in the training pass, bag by bag.
Does: takes how far each bag's highest logit of a class stands out of the bag's mean, over the clips that were drawn
anywhere, and ranks the bags with the label among those without it.
Output: for each label of each bag a rank in [0, 1], and that rank's variance by chance.

Weak labels give this null distribution for free: where a label means nothing to the model, a bag with it is as likely
above as below one without it. What a whole video shows, such as its scene, shifts all of its logits and not how far one
stands out: a label that is known by its background is not one whose moments are found. Clips drawn around a salient
time are left out, because they were chosen for a high score in the videos that have the label, and in no others. Both
sides are of the same steps, so that they were scored by the same weights and looked at equally often.
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
    """Of each label place of each bag."""

    rank: np.ndarray  # [R, L] float32, share of the bags without the label that are lower, ties half; or NOT_RANKED
    variance: np.ndarray  # [R, L] float32: of the mean of m ranks the variance is the sum of these over m^2


def stands_out(logits: torch.Tensor, batch: ClipBatch) -> torch.Tensor:
    """Of logits [B N, K] the highest of each bag and class over the clips that explore, less their mean, [B, K]; nan
    where fewer than two do."""
    explores = on_device(batch, "explores", logits.device)
    each, out = logits.detach().unflatten(0, explores.shape), ~explores.unsqueeze(-1)
    number = explores.sum(dim=1, dtype=each.dtype).unsqueeze(-1)
    highest, mean = each.masked_fill(out, -torch.inf).amax(dim=1), each.masked_fill(out, 0.0).sum(dim=1) / number
    return (highest - mean).masked_fill(number < 2, torch.nan)


def null_ranks(found: np.ndarray, label_ids: np.ndarray, ok: np.ndarray) -> Ranks:
    """Rank bags with a label among the bags without it.

    Args:
        found: [R, K] of `stands_out`; what is not finite is not ranked.
        label_ids: [R, L], padded with NO_LABEL.
        ok: [R], whether a bag could be decoded.

    With m bags that have the label and n that have not, the mean of the m ranks is Mann and Whitney's U / (m n), whose
    variance by chance is (m + n + 1) / (12 m n). It is shared out evenly, so that ranks of several commits and workers
    add up.
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
