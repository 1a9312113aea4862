"""Four figures that show a broken run within two epochs, and what the truth says where it is known.

Input: an epoch's ledger, the snapshots before and after it, intervals if the index has any.
Does: repeats the weighing of positives from what was committed, outside the training loop, and compares.
Output: numbers for the epoch's summary. Intervals are read here, never by a weak run's loss.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from pipelines.clip_plan import Planner
from pipelines.saliency_table import Bins, SaliencyTable, spikes
from trainers.config import TrainConfig
from trainers.focus import positive_weights


def diagnose(
    config: TrainConfig,
    planner: Planner,
    before: SaliencyTable,
    after: SaliencyTable,
    ledger: pa.Table,
    epoch: int,
) -> dict[str, float | int | None]:
    """Share of positives unmasked, mean spike-actionness, T relative to p, hit rate of salient times, precision of
    the weighted positives; None where no intervals are known."""
    unmasked = positives = 0
    weight_total = weight_true = 0.0
    probabilities: list[np.ndarray] = []
    trained = ledger.filter(ledger.column("ok")).to_pylist()
    for bag in trained:
        where = before.pairs_of(bag["video_row"])
        if where.start == where.stop:
            continue
        weight = _weights(config, before, where, bag, planner, epoch)
        truth = _inside(planner, bag)
        unmasked += int((weight > 0).sum())
        positives += weight.size
        probabilities.append(np.asarray(bag["probability"]))
        if truth is not None:
            weight_total += float(weight.sum())
            weight_true += float(weight[truth].sum())
    a, _ = spikes(after.bins, epoch, config.saliency.staleness)
    visited = a[a >= 0]
    p = float(np.median(np.concatenate(probabilities))) if probabilities else 0.0
    hits, known = hit_count(planner, after, epoch, config.saliency.staleness)
    return {
        "epoch": epoch,
        "bags_trained": len(trained),
        "clips_trained": sum(len(bag["clip_id"]) for bag in trained),
        "bags_lost": ledger.num_rows - len(trained),
        "share_unmasked": unmasked / positives if positives else None,
        "mean_spike_actionness": float(visited.mean()) if len(visited) else None,
        "temperature_over_p": config.focus.temperature / p if p else None,
        "hit_rate": hits / known if known else None,
        "precision_of_positives": weight_true / weight_total if weight_total else None,
    }


def hit_count(planner: Planner, saliency: SaliencyTable, epoch: int, staleness: float) -> tuple[int, int]:
    """(salient times inside a true interval of their action, salient times whose intervals are known)."""
    a, salient = spikes(saliency.bins, epoch, staleness)
    seconds = salient.double().numpy() * planner.table.column("duration_seconds").to_numpy()[saliency.video_row]
    intervals = planner.table.column("intervals")
    hits = known = 0
    for pair in np.flatnonzero(a.numpy() >= 0):
        spans = intervals[int(saliency.video_row[pair])].as_py()
        if spans is None:
            continue
        name = planner.classes[int(saliency.label_id[pair])]
        known += 1
        hits += _within(spans, name, seconds[pair])
    return hits, known


def _weights(
    config: TrainConfig, before: SaliencyTable, where: slice, bag: dict, planner: Planner, epoch: int
) -> np.ndarray:
    """The weights this bag's positives had in training: [clips, labels]."""
    p = torch.tensor(bag["probability"]).reshape(1, len(bag["tau"]), -1)
    if not config.focus.active(epoch):
        return np.ones(p.shape[1:])
    duration = planner.table.column("duration_seconds")[bag["video_row"]].as_py()
    bins = Bins(*(t[where][None] for t in (before.bins.score, before.bins.tau, before.bins.epoch)))
    tau = torch.tensor([bag["tau"]], dtype=torch.float64)
    seconds = torch.tensor([duration], dtype=torch.float64)
    return positive_weights(p, tau, seconds, bins, epoch, config.focus, config.saliency)[0].numpy()


def _inside(planner: Planner, bag: dict) -> np.ndarray | None:
    """Whether each clip's centre is inside a true interval of each label: [clips, labels]; None if not known."""
    row = bag["video_row"]
    spans = planner.table.column("intervals")[row].as_py()
    if spans is None:
        return None
    duration = planner.table.column("duration_seconds")[row].as_py()
    truth = [[_within(spans, planner.classes[k], t * duration) for k in bag["label_ids"]] for t in bag["tau"]]
    return np.array(truth).reshape(len(bag["tau"]), len(bag["label_ids"]))


def _within(spans: list[dict], label: str, seconds: float) -> bool:
    """Whether a moment lies in an interval of a label."""
    return any(s["label"] == label and s["start_seconds"] <= seconds <= s["end_seconds"] for s in spans)
