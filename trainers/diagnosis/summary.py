"""Figures that reveal a broken run within a few epochs, and comparisons with the true intervals if they are known.

The weights of positives are computed again from what was committed, outside the training loop, and compared. The
numbers go into the epoch's summary. Intervals are read here, but never by a weak run's loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from adaptfocus.pipelines.columns import ListColumn, list_column
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.saliency.bins import Bins, fade, spikes
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, pairs_of_bags
from adaptfocus.pipelines.schemas import NEVER_VISITED
from adaptfocus.trainers.diagnosis.evidence import evidence_of, sum_ranks, sum_recency
from adaptfocus.trainers.diagnosis.sums import EpochSums, Histogram
from adaptfocus.trainers.diagnosis.true_moments import TrueMoments
from adaptfocus.trainers.method.focus import focus_weights
from adaptfocus.trainers.settings.run import TrainConfig

BAGS_AT_ONCE = 4096


def diagnose(
    config: TrainConfig,
    planner: Planner,
    before: SaliencyTable,
    after: SaliencyTable,
    ledger: pa.Table,
    epoch: int,
) -> dict[str, Any]:
    """The numbers of an epoch's summary, for an index that is in memory as a whole."""
    return summarise(config, planner.classes, sum_up(config, planner, before, after, ledger, epoch), epoch)


def summarise(config: TrainConfig, classes: Sequence[str], sums: EpochSums, epoch: int) -> dict[str, Any]:
    """The numbers of an epoch's summary.

    They are: the share of positives unmasked, mean spike-actionness, contrast of spikes, evidence by class, T relative
    to p, hit rate of salient times, precision of the weighted positives and of weak negatives. The hit rate and both
    precisions are None if no intervals are known.
    """
    unmasked, positives, weight, true_weight, background, true_background = sums.weights.tolist()
    p, contrasted = sums.probability.median(), sums.pairs_of.sum()
    return {
        "epoch": epoch,
        "bags_trained": sums.bags_trained,
        "clips_trained": sums.clips_trained,
        "bags_lost": sums.bags - sums.bags_trained,
        "share_unmasked": unmasked / positives if positives else None,
        "mean_spike_actionness": sums.spike / sums.pairs if sums.pairs else None,
        "spike_contrast": float(sums.contrast.sum() / contrasted) if contrasted else None,
        "spike_contrast_of": {
            str(classes[k]): float(sums.contrast[k] / sums.pairs_of[k]) for k in np.flatnonzero(sums.pairs_of).tolist()
        },
        "evidence": evidence_of(classes, sums),
        "temperature_over_p": config.focus.temperature / p if p else None,
        "hit_rate": sums.hits / sums.judged if sums.judged else None,
        "precision_of_positives": true_weight / weight if weight else None,
        "precision_of_negatives": true_background / background if background else None,
        **({"labels_left_out": sums.labels_left_out} if sums.labels_left_out else {}),
    }


def sum_up(
    config: TrainConfig,
    planner: Planner,
    before: SaliencyTable,
    after: SaliencyTable,
    ledger: pa.Table,
    epoch: int,
) -> EpochSums:
    """The sums of some partitions, from which `summarise` makes the summary.

    Args:
        planner: the videos of these partitions; `before` and `after` have their pairs, `ledger` their bags.
    """
    moments, staleness = TrueMoments.of(planner), config.saliency.staleness
    duration_seconds = planner.table.column("duration_seconds").to_numpy()
    trained = ledger.filter(ledger.column("ok"))
    weights = sum(
        (_sums_of(config, planner, before, moments, duration_seconds, bags, epoch) for bags in _alike(trained)),
        np.zeros(6),
    )
    a, salient = (values.numpy() for values in spikes(after.bins, epoch, staleness))
    contrast, pairs_of = _contrast_of_classes(len(planner.classes), after, staleness, epoch)
    judged, hits = _hits(planner, moments, duration_seconds, after, a, salient)
    return EpochSums(
        bags=ledger.num_rows,
        bags_trained=trained.num_rows,
        clips_trained=len(list_column(trained, "clip_id").values),
        probability=Histogram.of(list_column(trained, "probability").values),
        weights=weights,
        pairs=int((a >= 0).sum()),
        spike=float(a[a >= 0].sum(dtype=np.float64)),
        contrast=contrast,
        pairs_of=pairs_of,
        judged=judged,
        hits=hits,
        ranks=sum_ranks(len(planner.classes), trained),
        recency=sum_recency(len(planner.classes), after, epoch, staleness),
        labels_left_out=int(
            planner.labels.lengths[planner.places(trained.column("video_row").to_numpy())].sum()
            - list_column(trained, "label_ids").lengths.sum()
        ),
    )


class _Bags(NamedTuple):
    """Bags with the same numbers of clips and of labels."""

    video_row: np.ndarray  # [B]
    tau: np.ndarray  # [B, N] float64
    label_id: np.ndarray  # [B, L]
    probability: np.ndarray  # [B, N, L] float32


def _alike(trained: pa.Table) -> Iterator[_Bags]:
    """The bags of a ledger that have labels, in groups of the same shape. A bag at a time took .4 ms of CPU."""
    columns = [list_column(trained, name) for name in ("tau", "label_ids", "probability")]
    rows = trained.column("video_row").to_numpy()
    shapes = np.stack([column.lengths for column in columns[:2]], axis=1)  # clips and labels
    for clips, labels in np.unique(shapes[shapes[:, 1] > 0], axis=0).tolist():
        of_shape = np.flatnonzero((shapes == (clips, labels)).all(axis=1))
        for first in range(0, len(of_shape), BAGS_AT_ONCE):
            bags = of_shape[first : first + BAGS_AT_ONCE]
            tau, label_id, p = (
                column.values[column.begins[bags, None] + np.arange(size)]
                for column, size in zip(columns, (clips, labels, clips * labels), strict=True)
            )
            yield _Bags(rows[bags], tau, label_id.astype(np.int64), p.reshape(len(bags), clips, labels))


def _sums_of(
    config: TrainConfig,
    planner: Planner,
    before: SaliencyTable,
    moments: TrueMoments,
    duration_seconds: np.ndarray,
    bags: _Bags,
    epoch: int,
) -> np.ndarray:
    """`EpochSums.weights` of some bags."""
    place = planner.places(bags.video_row)
    seconds = duration_seconds[place]
    weight, background = _weights(config, before, bags, seconds, epoch)  # [B, N, L]
    pairs = bags.label_id.shape[1]
    at = np.repeat(bags.tau * seconds[:, None], pairs, axis=0)  # [B L, N]
    truth = moments.show(np.repeat(place, pairs), bags.label_id.ravel(), at)
    truth = truth.reshape(len(seconds), pairs, -1).transpose(0, 2, 1)
    known = moments.is_known[place][:, None, None]
    of_all, of_true = weight * known, weight * (truth & known)
    of_background, of_right = background * known, background * (~truth & known)
    totals = (each.sum(dtype=np.float64) for each in (of_all, of_true, of_background, of_right))
    return np.array([(weight > 0).sum(), weight.size, *totals], np.float64)


def contrasts(saliency: SaliencyTable, epoch: int, staleness: float) -> torch.Tensor:
    """The contrast of each pair's spike: a minus the mean of its visited bins, both faded, [R]; nan if none is visited.

    It needs no intervals. If it stays near 0, the salient times are arbitrary choices of the model, and do not follow
    the action.
    """
    faded = fade(saliency.bins, epoch, staleness)
    seen = saliency.bins.epoch != NEVER_VISITED
    return faded.amax(-1) - (faded * seen).sum(-1) / seen.sum(-1)


def _contrast_of_classes(
    classes: int, saliency: SaliencyTable, staleness: float, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the contrasts of each class's visited pairs, and the number of these, both float64 [K]."""
    found, label = contrasts(saliency, epoch, staleness).numpy(), saliency.label_id
    seen = ~np.isnan(found)
    return np.bincount(label[seen], found[seen], classes), np.bincount(label[seen], minlength=classes).astype(float)


def salient_hit_rate(planner: Planner, saliency: SaliencyTable, epoch: int, staleness: float) -> float | None:
    """The share of salient times inside a true interval of their action; None if no interval is known."""
    duration_seconds = planner.table.column("duration_seconds").to_numpy()
    found = (values.numpy() for values in spikes(saliency.bins, epoch, staleness))
    judged, hits = _hits(planner, TrueMoments.of(planner), duration_seconds, saliency, *found)
    return hits / judged if judged else None


def _hits(
    planner: Planner,
    moments: TrueMoments,
    duration_seconds: np.ndarray,
    saliency: SaliencyTable,
    a: np.ndarray,
    salient: np.ndarray,
) -> tuple[int, int]:
    """The number of pairs with a spike and a true interval, and of those whose salient time lies in an interval."""
    place = planner.places(saliency.video_row)
    seconds = salient.astype(np.float64) * duration_seconds[place]
    judged = (a >= 0) & moments.has_interval(place, saliency.label_id)
    hits = moments.show(place, saliency.label_id, seconds[:, None])[:, 0]
    return int(judged.sum()), int(hits[judged].sum())


def _weights(
    config: TrainConfig, before: SaliencyTable, bags: _Bags, seconds: np.ndarray, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """The weights of these bags' labels at their clips as positives and as weak negatives, both [B, N, L].

    In the weak regimes they are those of training. Full, whose positives come from intervals, is treated here as if it
    trusted every label. Weak negatives count from the first epoch in which all steps have them.
    """
    if not config.focus.active(epoch):
        return np.ones(bags.probability.shape), np.zeros(bags.probability.shape)
    number, labels = bags.label_id.shape
    own = ListColumn(bags.label_id.ravel(), np.arange(number) * labels, np.full(number, labels))
    pairs = torch.from_numpy(pairs_of_bags(before, bags.video_row, own).reshape(number, labels))
    bins = Bins(*(values[pairs] for values in (before.bins.score, before.bins.tau, before.bins.epoch)))
    p, tau, duration = (torch.from_numpy(each) for each in (bags.probability, bags.tau, seconds))
    weights = focus_weights(p, tau, duration, bins, epoch, config.focus, config.saliency)
    beta = config.focus.background_at(epoch, epoch / config.epochs)
    return weights.positive.numpy(), beta * weights.background.numpy()
