"""Whether each class has been found at all, compared with chance. No intervals are needed.

For each class, this counts how the videos with the label rank among those without it, and how many salient times are
merely the newest visit. The numbers go into the epoch's summary. They come only from the epoch's ledger and the
snapshot after it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.columns import list_column
from adaptfocus.pipelines.saliency.bins import spike_bins
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import NEVER_VISITED
from adaptfocus.trainers.diagnosis.sums import EpochSums

RECENCY = ("salient", "salient_new", "salient_new_by_chance", "salient_new_variance")


def evidence_of(classes: Sequence[str], sums: EpochSums) -> dict[str, dict[str, float | int | None]]:
    """The evidence for each class that a trained bag has; None where nothing could be compared.

    `bags`: the number of ranked bags with the label. `above_untagged`: their mean rank among bags without it (an AUC:
    .5 by chance). `z`: the number of standard deviations by which that exceeds .5. `z_at_most`: the z of a perfect
    ranking. `salient`: pairs of a video and the class with at least two visited bins. `salient_new`: those of their
    salient times that were last visited in this epoch. `salient_new_by_chance` and `salient_new_variance`: mean and
    variance of that number if every visited bin were equally likely to be salient.
    """
    has_label, bags, total, spread = sums.ranks
    with np.errstate(divide="ignore", invalid="ignore"):
        above, deviation = total / bags, np.sqrt(spread) / bags
        found = {
            "bags": bags.astype(np.int64),
            "above_untagged": above,
            "z": (above - 0.5) / deviation,
            "z_at_most": 0.5 / deviation,
        } | dict(zip(RECENCY, sums.recency, strict=True))
    return {
        str(classes[k]): {name: _number(values, k) for name, values in found.items()}
        for k in np.flatnonzero(has_label).tolist()
    }


def sum_ranks(classes: int, trained: pa.Table) -> np.ndarray:
    """`EpochSums.ranks` of the bags of a ledger that were trained, float64 [4, K]."""
    label, rank, variance = (list_column(trained, name).values for name in ("label_ids", "null_rank", "null_variance"))
    label = label.astype(np.int64)
    has_label = np.bincount(label, minlength=classes)
    if len(rank) != len(label):  # the ledger of a version that did not rank
        label, rank, variance = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    label, rank, variance = (values[rank >= 0] for values in (label, rank, variance))
    of_ranked = (np.bincount(label, weights, classes) for weights in (np.ones(len(label)), rank, variance))
    return np.stack([has_label, *of_ranked])


def sum_recency(classes: int, after: SaliencyTable, epoch: int, staleness: float) -> np.ndarray:
    """`EpochSums.recency` of the pairs of a snapshot, float64 [4, K]: the rows are RECENCY."""
    seen = after.bins.epoch.numpy()
    visited, new = seen != NEVER_VISITED, seen == epoch
    several = visited.sum(axis=1) > 1
    _, best = spike_bins(after.bins, epoch, staleness)
    is_new = np.take_along_axis(new, best.numpy(), axis=1)[:, 0]
    share = new.sum(axis=1) / np.maximum(visited.sum(axis=1), 1)
    values = (np.ones(len(several)), is_new.astype(float), share, share * (1 - share))
    return np.stack([np.bincount(after.label_id[several], each[several], classes) for each in values])


def _number(values: np.ndarray, k: int) -> float | int | None:
    return values[k].item() if np.isfinite(values[k]) else None
