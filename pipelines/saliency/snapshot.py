"""Action Saliency Estimation (ASE): what the model found at each moment of a video, with one snapshot an epoch.

Each (video, action) pair has n bins over the video's time, filled from the probabilities of training's clips. The next
plan is drawn from the spike and the salient time of the newest snapshot. Snapshots are immutable (Parquet).

This is our reconstruction of ASE of arXiv 2311.17118, and may differ from the paper's. It was chosen by ablation: bins
that are revisited beat a running maximum, because the next visit disproves a false spike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from adaptfocus.pipelines.columns import ListColumn, list_column, ragged, rows_as_lists
from adaptfocus.pipelines.saliency.bins import Bins, visit
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.schemas import SALIENCY_SCHEMA

BAGS_AT_ONCE = 8192  # that are merged; 65,536 at once took 0.2 GB more, and as long


@dataclass(frozen=True)
class SaliencyTable:
    """One snapshot: the bins of every (video, action of the video), ordered by (video_row, label_id)."""

    video_row: np.ndarray  # [R] int64
    label_id: np.ndarray  # [R] int64
    bins: Bins  # [R, n]

    @classmethod
    def empty(cls, labels_of_rows: Sequence[Sequence[int]], num_bins: int) -> SaliencyTable:
        """The table of epoch 0 for videos 0, 1, ... with their label ids (each sorted)."""
        lengths = np.array([len(ids) for ids in labels_of_rows], np.int64)
        values = np.array([k for ids in labels_of_rows for k in ids], np.int64)
        labels = ListColumn(values, np.cumsum(lengths) - lengths, lengths)
        return cls.unvisited(np.arange(len(lengths)), labels, num_bins)

    @classmethod
    def unvisited(cls, video_rows: np.ndarray, labels: ListColumn, num_bins: int) -> SaliencyTable:
        """The table of some videos that no epoch has visited.

        Args:
            video_rows: int64 [V], ascending. labels: the ascending label ids of each, one list behind the other.
        """
        rows = np.repeat(np.asarray(video_rows, np.int64), labels.lengths)
        return cls(rows, labels.values, Bins.unvisited(len(rows), num_bins))

    def pairs_of(self, video_row: int) -> slice:
        """The rows of a video's pairs."""
        return slice(*np.searchsorted(self.video_row, [video_row, video_row + 1]).tolist())

    def to_arrow(self) -> pa.Table:
        bins = (self.bins.score, self.bins.tau, self.bins.epoch)
        columns = [pa.array(self.video_row), pa.array(self.label_id), *(rows_as_lists(each.numpy()) for each in bins)]
        return pa.Table.from_arrays(columns, schema=SALIENCY_SCHEMA)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> SaliencyTable:
        rows = table.num_rows

        def tensor(name: str) -> torch.Tensor:
            if not rows:
                return torch.zeros(0, 1)
            return torch.from_numpy(np.array(list_column(table, name).values)).reshape(rows, -1)

        bins = Bins(tensor("score"), tensor("tau"), tensor("epoch").to(torch.int32))
        return cls(table.column("video_row").to_numpy(), table.column("label_id").to_numpy(), bins)


def pairs_of_bags(table: SaliencyTable, video_rows: np.ndarray, labels: ListColumn) -> np.ndarray:
    """Where the pairs of some bags are in a snapshot, int64, one bag behind the other.

    Args:
        video_rows: int64 [B]. labels: ascending label ids of each bag: all of its video's, or some of them.
    """
    first = np.searchsorted(table.video_row, video_rows)
    there = np.searchsorted(table.video_row, video_rows, side="right") - first
    where = ragged(first, labels.lengths)[0]
    for bag in np.flatnonzero(labels.lengths < there).tolist():  # videos with more labels than a bag has places for
        own = slice(labels.begins[bag], labels.begins[bag] + labels.lengths[bag])
        ids = table.label_id[first[bag] : first[bag] + there[bag]]
        found = np.minimum(np.searchsorted(ids, labels.values[own]), len(ids) - 1)
        at = labels.lengths[:bag].sum()
        where[at : at + labels.lengths[bag]] = first[bag] + found
    return where


def merge(
    table: SaliencyTable, ledger: pa.Table, epoch: int, config: SaliencyConfig, max_labels: int | None = None
) -> SaliencyTable:
    """The next snapshot: the ledger's scores applied to the last snapshot, in the order of slots (places in the plan).

    It depends only on the snapshot and the set of ledger rows, not on their order or files. Bags that did not decode
    change nothing. A video with two bags in the epoch is updated slot by slot.

    Args:
        max_labels: that a bag carries, if its video has more; None: it carries all.
    """
    ledger = ledger.filter(ledger.column("ok")).sort_by("slot")
    bins = Bins(table.bins.score.clone(), table.bins.tau.clone(), table.bins.epoch.clone())
    for occurrence in _occurrences(ledger.column("video_row").to_numpy()):
        for first in range(0, len(occurrence), BAGS_AT_ONCE):
            bags = ledger.take(pa.array(occurrence[first : first + BAGS_AT_ONCE]))
            _replay(table, bins, bags, epoch, config, max_labels)
    return SaliencyTable(table.video_row, table.label_id, bins)


def _occurrences(video_rows: np.ndarray) -> list[np.ndarray]:
    """Row numbers of the first bag of each video, then of the second, and so on, each in slot order."""
    order = np.argsort(video_rows, kind="stable")
    is_first = np.r_[True, np.diff(video_rows[order]) != 0][: len(order)]
    starts = np.flatnonzero(is_first)
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return [np.flatnonzero(turn == each) for each in range(int(turn.max(initial=-1)) + 1)]


def _replay(
    table: SaliencyTable, bins: Bins, ledger: pa.Table, epoch: int, config: SaliencyConfig, max_labels: int | None
) -> None:
    """Change bins by one bag of each of some videos. Each pair becomes a row: B = pairs, L = 1."""
    tau, label, p = (list_column(ledger, name) for name in ("tau", "label_ids", "probability"))
    labels = label.lengths
    bag = np.repeat(np.arange(ledger.num_rows), labels)  # of each pair
    if not len(bag):
        return
    place = np.arange(len(bag)) - label.begins[bag]  # among its bag's labels
    where = pairs_of_bags(table, ledger.column("video_row").to_numpy(), label)
    _check_labels(table, ledger, labels, where, label.values, max_labels)
    clips = np.arange(int(tau.lengths.max()))  # the same for all bags of a run
    taus = tau.values[tau.begins[bag, None] + clips]
    probabilities = p.values[p.begins[bag, None] + clips * labels[bag, None] + place[:, None]]
    some = Bins(*(t[where].unsqueeze(1) for t in (bins.score, bins.tau, bins.epoch)))
    seen = torch.from_numpy(probabilities).unsqueeze(-1)
    done = visit(some, torch.from_numpy(taus), seen, epoch, config.update_rate, config.form == "running_max")
    for name in ("score", "tau", "epoch"):
        getattr(bins, name)[where] = getattr(done, name).squeeze(1)


def _check_labels(
    table: SaliencyTable, ledger: pa.Table, labels: np.ndarray, where: np.ndarray, label: np.ndarray,
    max_labels: int | None,
) -> None:  # fmt: skip
    """Check that each bag has the labels of its video in the snapshot, or as many of them as it may carry.

    Raises:
        ValueError: one has others.
    """
    video_row = ledger.column("video_row").to_numpy()
    there = np.searchsorted(table.video_row, video_row, side="right") - np.searchsorted(table.video_row, video_row)
    wrong = (there != labels) & ((there < labels) | (labels != max_labels))
    if not wrong.any():
        wrong[np.repeat(np.arange(len(labels)), labels)[table.label_id[where] != label]] = True
    if wrong.any():
        bag = ledger.slice(int(np.flatnonzero(wrong)[0]), 1).to_pylist()[0]
        raise ValueError(
            f"slot {bag['slot']}: the ledger has labels {bag['label_ids']} for video row {bag['video_row']}, the "
            f"snapshot {table.label_id[table.pairs_of(bag['video_row'])].tolist()}; they come from different indexes"
        )
