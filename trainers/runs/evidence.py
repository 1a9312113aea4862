"""Whether each class has been found at all, compared with chance. No intervals are needed.

For each class, this counts how the videos with the label rank among those without it, and how many salient times are
merely the newest visit. The numbers go into the epoch's summary. They come only from the epoch's ledger and the
snapshot after it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.saliency.bins import spike_bins
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import NEVER_VISITED
from adaptfocus.pipelines.store.tables import list_column


def evidence_of_classes(
    classes: Sequence[str], ledger: pa.Table, after: SaliencyTable, epoch: int, staleness: float
) -> dict[str, dict[str, float | int | None]]:
    """The evidence for each class that a trained bag has; None where nothing could be compared.

    `bags`: the number of ranked bags with the label. `above_untagged`: their mean rank among bags without it (an AUC:
    .5 by chance). `z`: the number of standard deviations by which that exceeds .5. `z_at_most`: the z of a perfect
    ranking. `salient`: pairs of a video and the class with at least two visited bins. `salient_new`: those of their
    salient times that were last visited in this epoch. `salient_new_by_chance` and `salient_new_variance`: mean and
    variance of that number if every visited bin were equally likely to be salient.
    """
    ranked = _of_ranks(len(classes), ledger)
    recent = _of_recency(len(classes), after, epoch, staleness)
    has_bags = np.zeros(len(classes), bool)
    has_bags[list_column(ledger.filter(ledger.column("ok")), "label_ids").values.astype(np.int64)] = True
    return {
        str(classes[k]): {name: _number(values, k) for name, values in (ranked | recent).items()}
        for k in np.flatnonzero(has_bags).tolist()
    }


def _of_ranks(classes: int, ledger: pa.Table) -> dict[str, np.ndarray]:
    trained = ledger.filter(ledger.column("ok"))
    label, rank, variance = (list_column(trained, name).values for name in ("label_ids", "null_rank", "null_variance"))
    if len(rank) != len(label):  # the ledger of a version that did not rank
        label, rank, variance = (np.zeros(0) for _ in range(3))
    label, rank, variance = (values[rank >= 0] for values in (label.astype(np.int64), rank, variance))
    bags, total, spread = (np.bincount(label, w, classes) for w in (np.ones(len(label)), rank, variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        above, deviation = total / bags, np.sqrt(spread) / bags
        return {
            "bags": bags.astype(np.int64),
            "above_untagged": above,
            "z": (above - 0.5) / deviation,
            "z_at_most": 0.5 / deviation,
        }


def _of_recency(classes: int, after: SaliencyTable, epoch: int, staleness: float) -> dict[str, np.ndarray]:
    seen = after.bins.epoch.numpy()
    visited, new = seen != NEVER_VISITED, seen == epoch
    several = visited.sum(axis=1) > 1
    _, best = spike_bins(after.bins, epoch, staleness)
    is_new = np.take_along_axis(new, best.numpy(), axis=1)[:, 0]
    share = new.sum(axis=1) / np.maximum(visited.sum(axis=1), 1)
    label = after.label_id[several]
    sums = {
        "salient": np.ones(len(several)),
        "salient_new": is_new.astype(float),
        "salient_new_by_chance": share,
        "salient_new_variance": share * (1 - share),
    }
    return {name: np.bincount(label, values[several], classes) for name, values in sums.items()}


def _number(values: np.ndarray, k: int) -> float | int | None:
    return values[k].item() if np.isfinite(values[k]) else None
