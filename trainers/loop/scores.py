"""The bags that a rank has trained since its last commit, in the form of the ledger.

The small columns of each batch are kept step by step, and become one table when they are committed. Dicts of lists in
each step took three times as long. Scores leave a GPU as they are made, and only the thread of a commit waits for them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from adaptfocus.pipelines.columns import as_lists
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, NO_LABEL
from adaptfocus.pipelines.stream.batches import decode_text
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.method.null_ranks import null_ranks
from adaptfocus.trainers.runs.measured import READING, RETRIES

_KEPT = ("slot", "video_row", "ok", "kind", "error", "clip_id", "tau", "label_ids", *READING)


class Scores:
    """The bags of some steps, in order."""

    def __init__(self) -> None:
        self._columns: list[dict[str, np.ndarray]] = []
        self._probability: list[torch.Tensor | np.ndarray] = []
        self._stands_out: list[torch.Tensor] = []
        self._leaving = Leaving()

    def add(self, batch: ClipBatch, probability: torch.Tensor | np.ndarray, stands_out: torch.Tensor) -> None:
        """Add one step: `probability` [B, N, L] of the bags' own labels and `stands_out` [B, K] of all classes.

        Both are detached, on any device. `method.null_ranks.stands_out` gives the second.
        """
        # Copies, because a view would hold its whole batch, frames included, in Ray's shared memory.
        self._columns.append({name: getattr(batch, name).copy() for name in _KEPT})
        here = isinstance(probability, np.ndarray)
        self._probability.append(probability if here else self._leaving.take(probability))
        self._stands_out.append(self._leaving.take(stands_out))

    def newest(self) -> dict[str, np.ndarray]:
        """The small columns of the newest step's batch."""
        return self._columns[-1]

    def clips_decoded(self) -> int:
        """The number of clips of the bags that could be decoded."""
        return sum(int(step["ok"].sum()) * step["clip_id"].shape[1] for step in self._columns)

    def reading(self) -> list[float]:
        """Sums of READING, then RETRIES."""
        totals = [float(sum(step[name].sum() for step in self._columns)) for name in READING]
        by_reason = sum((step["read_retries"].sum(axis=0) for step in self._columns), np.zeros(len(RETRIES), np.int64))
        return [*totals, *by_reason.astype(float).tolist()]

    def first_not_finite(self) -> int | None:
        """The first step with a probability that is not finite, counted from 0. Waits for the device."""
        self._leaving.wait()
        for step, (columns, probability) in enumerate(zip(self._columns, self._probability, strict=True)):
            real = (columns["label_ids"] != NO_LABEL)[:, None]
            if not (np.isfinite(np.asarray(probability)) | ~real).all():
                return step
        return None

    def to_arrow(self) -> pa.Table:
        """One row a bag (LEDGER_SCHEMA)."""
        kept = {name: np.concatenate([step[name] for step in self._columns]) for name in _KEPT}
        self._leaving.wait()
        probability = torch.cat([torch.as_tensor(step) for step in self._probability]).numpy()  # [R, N, L]
        rows, clips, _ = probability.shape
        real = kept["label_ids"] != NO_LABEL  # [R, L]
        labels, own = real.sum(axis=1), np.broadcast_to(real[:, None], probability.shape)
        ranks = null_ranks(torch.cat(self._stands_out).numpy(), kept["label_ids"], kept["ok"])
        columns = {
            "slot": pa.array(kept["slot"]),
            "video_row": pa.array(kept["video_row"]),
            "ok": pa.array(kept["ok"]),
            "kind": pa.array([decode_text(each) for each in kept["kind"]], pa.string()),
            "error": pa.array([decode_text(each) for each in kept["error"]], pa.string()),
            "clip_id": as_lists(kept["clip_id"].ravel(), np.full(rows, clips)),
            "tau": as_lists(kept["tau"].ravel(), np.full(rows, clips)),
            "label_ids": as_lists(kept["label_ids"][real], labels),
            "probability": as_lists(probability[own], labels * clips),
            "null_rank": as_lists(ranks.rank[real], labels),
            "null_variance": as_lists(ranks.variance[real], labels),
        }
        return pa.Table.from_arrays([columns[name] for name in LEDGER_SCHEMA.names], schema=LEDGER_SCHEMA)
