"""What a rank has trained since its last commit, as the ledger will hold it.

Input: batches, and what the model said of them.
Does: keeps their small columns, step by step, and makes a table of them once, when they are committed. Dicts of lists
in each step took three times as long. A GPU's scores leave it as they come, and only a commit's thread waits for them.
Output: ledger rows, and sums of what the bags cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from adaptfocus.pipelines.errors import RETRY_REASONS
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, NO_LABEL
from adaptfocus.pipelines.stream.batches import decode_error
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.method.null_ranks import null_ranks

# What a commit says of the clips behind it: columns of ClipBatch, summed over bags and ranks.
READING = ("read_bytes", "read_requests", "wait_seconds", "decode_seconds", "read_retries")
# The sum of the last, by reason: read_retries_throttled and so on.
RETRIES = tuple(f"read_retries_{reason}" for reason in RETRY_REASONS)
_KEPT = ("slot", "video_row", "ok", "error", "clip_id", "tau", "label_ids", *READING)


class Scores:
    """The bags of some steps, in their order."""

    def __init__(self) -> None:
        self._columns: list[dict[str, np.ndarray]] = []
        self._probability: list[torch.Tensor | np.ndarray] = []
        self._stands_out: list[torch.Tensor] = []
        self._leaving = Leaving()

    def add(self, batch: ClipBatch, probability: torch.Tensor | np.ndarray, stands_out: torch.Tensor) -> None:
        """One step; `probability` [B, N, L] of the bags' own labels and `null_ranks.stands_out` [B, K] of all classes,
        detached, on any device."""
        # Copies: a view would hold all of its batch, frames included, in Ray's shared memory.
        self._columns.append({name: getattr(batch, name).copy() for name in _KEPT})
        here = isinstance(probability, np.ndarray)
        self._probability.append(probability if here else self._leaving.take(probability))
        self._stands_out.append(self._leaving.take(stands_out))

    def clips_decoded(self) -> int:
        """Clips of bags that could be decoded."""
        return sum(int(step["ok"].sum()) * step["clip_id"].shape[1] for step in self._columns)

    def reading(self) -> list[float]:
        """Sums of READING, then RETRIES."""
        totals = [float(sum(step[name].sum() for step in self._columns)) for name in READING]
        by_reason = sum((step["read_retries"].sum(axis=0) for step in self._columns), np.zeros(len(RETRIES), np.int64))
        return [*totals, *by_reason.astype(float).tolist()]

    def first_not_finite(self) -> int | None:
        """The first step with a probability that is not finite, counted from 0; waits for the device."""
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
        errors = ["" if ok else decode_error(error) for ok, error in zip(kept["ok"], kept["error"], strict=True)]
        kinds, _, messages = zip(*(error.partition(": ") for error in errors), strict=True)  # a batch has them as one
        columns = {
            "slot": pa.array(kept["slot"]),
            "video_row": pa.array(kept["video_row"]),
            "ok": pa.array(kept["ok"]),
            "kind": pa.array(kinds, pa.string()),
            "error": pa.array(messages, pa.string()),
            "clip_id": _lists(kept["clip_id"].ravel(), np.full(rows, clips)),
            "tau": _lists(kept["tau"].ravel(), np.full(rows, clips)),
            "label_ids": _lists(kept["label_ids"][real], labels),
            "probability": _lists(probability[own], labels * clips),
            "null_rank": _lists(ranks.rank[real], labels),
            "null_variance": _lists(ranks.variance[real], labels),
        }
        return pa.Table.from_arrays([columns[name] for name in LEDGER_SCHEMA.names], schema=LEDGER_SCHEMA)


def _lists(values: np.ndarray, lengths: Sequence[int] | np.ndarray) -> pa.ListArray:
    """The values, cut into lists of these lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values))
