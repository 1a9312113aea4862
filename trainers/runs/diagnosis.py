"""Figures that reveal a broken run within a few epochs, and comparisons with the true intervals if they are known.

The weights of positives are computed again from what was committed, outside the training loop, and compared. The
numbers go into the epoch's summary. Intervals are read here, but never by a weak run's loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adaptfocus.pipelines.plan.draw import Planner
from adaptfocus.pipelines.plan.labels import is_shown
from adaptfocus.pipelines.saliency.bins import Bins, fade, spikes
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import NEVER_VISITED
from adaptfocus.trainers.method.focus import focus_weights
from adaptfocus.trainers.metrics.video import hit_rate
from adaptfocus.trainers.runs.evidence import evidence_of_classes
from adaptfocus.trainers.settings.run import TrainConfig


def diagnose(
    config: TrainConfig,
    planner: Planner,
    before: SaliencyTable,
    after: SaliencyTable,
    ledger: pa.Table,
    epoch: int,
) -> dict[str, Any]:
    """The numbers of an epoch's summary.

    They are: the share of positives unmasked, mean spike-actionness, contrast of spikes, evidence by class, T relative
    to p, hit rate of salient times, precision of the weighted positives and of weak negatives. The hit rate and both
    precisions are None if no intervals are known.
    """
    unmasked = positives = 0
    weight_total = weight_true = background_total = background_true = 0.0
    probabilities: list[np.ndarray] = []
    trained = ledger.filter(ledger.column("ok")).to_pylist()
    for bag in trained:
        where = before.pairs_of(bag["video_row"])
        if where.start == where.stop:
            continue
        weight, background = _weights(config, before, where, bag, planner, epoch)
        truth = _inside(planner, bag)
        unmasked += int((weight > 0).sum())
        positives += weight.size
        probabilities.append(np.asarray(bag["probability"]))
        if truth is not None:
            weight_total += float(weight.sum())
            weight_true += float(weight[truth].sum())
            background_total += float(background.sum())
            background_true += float(background[~truth].sum())
    a, _ = spikes(after.bins, epoch, config.saliency.staleness)
    visited, contrast = a[a >= 0], contrasts(after, epoch, config.saliency.staleness)[a >= 0]
    p = float(np.median(np.concatenate(probabilities))) if probabilities else 0.0
    return {
        "epoch": epoch,
        "bags_trained": len(trained),
        "clips_trained": sum(len(bag["clip_id"]) for bag in trained),
        "bags_lost": ledger.num_rows - len(trained),
        "share_unmasked": unmasked / positives if positives else None,
        "mean_spike_actionness": float(visited.mean()) if len(visited) else None,
        "spike_contrast": float(contrast.mean()) if len(contrast) else None,
        "spike_contrast_of": contrast_of_classes(planner, after, config.saliency.staleness, epoch),
        "evidence": evidence_of_classes(planner.classes, ledger, after, epoch, config.saliency.staleness),
        "temperature_over_p": config.focus.temperature / p if p else None,
        "hit_rate": salient_hit_rate(planner, after, epoch, config.saliency.staleness),
        "precision_of_positives": weight_true / weight_total if weight_total else None,
        "precision_of_negatives": background_true / background_total if background_total else None,
    }


def contrasts(saliency: SaliencyTable, epoch: int, staleness: float) -> torch.Tensor:
    """The contrast of each pair's spike: a minus the mean of its visited bins, both faded, [R]; nan if none is visited.

    It needs no intervals. If it stays near 0, the salient times are arbitrary choices of the model, and do not follow
    the action.
    """
    faded = fade(saliency.bins, epoch, staleness)
    seen = saliency.bins.epoch != NEVER_VISITED
    return faded.amax(-1) - (faded * seen).sum(-1) / seen.sum(-1)


def contrast_of_classes(planner: Planner, saliency: SaliencyTable, staleness: float, epoch: int) -> dict[str, float]:
    """The mean contrast of each class that has a visited pair."""
    found, label = contrasts(saliency, epoch, staleness).numpy(), saliency.label_id
    seen = ~np.isnan(found)
    return {planner.classes[k]: float(found[seen & (label == k)].mean()) for k in np.unique(label[seen]).tolist()}


def salient_hit_rate(planner: Planner, saliency: SaliencyTable, epoch: int, staleness: float) -> float | None:
    """The share of salient times inside a true interval of their action; None if no interval is known."""
    a, salient = spikes(saliency.bins, epoch, staleness)
    durations = planner.table.column("duration_seconds").to_numpy()
    seconds = np.where(a.numpy() >= 0, salient.double().numpy() * durations[saliency.video_row], np.nan)
    intervals = planner.table.column("intervals").to_pylist()
    own = [
        [(s["start_seconds"], s["end_seconds"]) for s in intervals[row] or [] if s["label"] == planner.classes[label]]
        for row, label in zip(saliency.video_row.tolist(), saliency.label_id.tolist(), strict=True)
    ]
    rate = hit_rate(seconds.tolist(), own)
    return None if np.isnan(rate) else rate


def _weights(
    config: TrainConfig, before: SaliencyTable, where: slice, bag: dict, planner: Planner, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """The weights of this bag's labels at its clips as positives and as weak negatives, both [clips, labels].

    In the weak regimes they are those of training. Full, whose positives come from intervals, is treated here as if it
    trusted every label. Weak negatives count from the first epoch in which all steps have them.
    """
    p = torch.tensor(bag["probability"]).reshape(1, len(bag["tau"]), -1)
    if not config.focus.active(epoch):
        return np.ones(p.shape[1:]), np.zeros(p.shape[1:])
    duration = planner.table.column("duration_seconds")[bag["video_row"]].as_py()
    bins = Bins(*(t[where][None] for t in (before.bins.score, before.bins.tau, before.bins.epoch)))
    tau = torch.tensor([bag["tau"]], dtype=torch.float64)
    seconds = torch.tensor([duration], dtype=torch.float64)
    weights = focus_weights(p, tau, seconds, bins, epoch, config.focus, config.saliency)
    beta = config.focus.background_at(epoch, epoch / config.epochs)
    return weights.positive[0].numpy(), beta * weights.background[0].numpy()


def _inside(planner: Planner, bag: dict) -> np.ndarray | None:
    """Whether each clip's centre is inside a true interval of each label: [clips, labels]; None if unknown."""
    row = bag["video_row"]
    spans = planner.table.column("intervals")[row].as_py()
    if spans is None:
        return None
    duration = planner.table.column("duration_seconds")[row].as_py()
    truth = [[is_shown(spans, planner.classes[k], t * duration) for k in bag["label_ids"]] for t in bag["tau"]]
    return np.array(truth).reshape(len(bag["tau"]), len(bag["label_ids"]))
