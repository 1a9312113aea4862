"""Batches as a step needs them: decoded bags, joined with the plan's own columns by slot.

    plan rows --stream--> DecodedBatch --join--> ClipBatch
        `------step_rows-----------------^

Labels and saliency never pass through the decoder. The rank that trains reads them from the plan itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import tee

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.published import read_drawn
from adaptfocus.pipelines.schemas import NEVER_VISITED, NO_LABEL, STEP_SCHEMA
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import Slices

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LabelShape:
    """The number of places for labels in every bag of a run, and of saliency bins for each label."""

    max_labels: int
    bins: int


@dataclass(frozen=True)
class ClipBatch(DecodedBatch):
    """B bags as arrays of fixed shape: N clips, T frames, L label places (padded with -1), n saliency bins."""

    video_row: np.ndarray  # [B] int64
    clip_id: np.ndarray  # [B, N] int64
    tau: np.ndarray  # [B, N] float64
    explores: np.ndarray  # [B, N] bool; drawn anywhere in the video rather than around a salient time
    duration_seconds: np.ndarray  # [B] float64
    label_ids: np.ndarray  # [B, L] int64
    clip_positive: np.ndarray  # [B, N, L] bool; all true in weak regimes, except in the padding
    saliency_score: np.ndarray  # [B, L, n] float32
    saliency_tau: np.ndarray  # [B, L, n] float32
    saliency_epoch: np.ndarray  # [B, L, n] int32

    def __post_init__(self) -> None:
        if self.clip_positive.ndim != 3 or self.saliency_score.ndim != 3:
            shapes = self.clip_positive.shape, self.saliency_score.shape
            raise ValueError(f"clip_positive must be [B, N, L] and saliency_score [B, L, n]; they are {shapes}")
        b, n = self.frames.shape[:2]
        labels, bins = self.saliency_score.shape[1:]
        self._check(
            {
                "video_row": (b,), "duration_seconds": (b,), "clip_id": (b, n), "tau": (b, n), "explores": (b, n),
                "label_ids": (b, labels), "clip_positive": (b, n, labels), "saliency_score": (b, labels, bins),
                "saliency_tau": (b, labels, bins), "saliency_epoch": (b, labels, bins),
            }
        )  # fmt: skip


def step_columns(rows: pa.Table, labels: LabelShape) -> dict[str, np.ndarray]:
    """Rows of a plan (STEP_SCHEMA), at least one -> the columns of ClipBatch that come from it, and `slot`."""
    clips = _array(rows, "clips").flatten()
    of_clip = {
        name: clips.field(name).to_numpy().reshape(rows.num_rows, -1) for name in ("clip_id", "tau", "focus_label_id")
    }
    ids = _padded(_array(rows, "label_ids"), labels.max_labels, NO_LABEL, np.int64)
    # A bag's list is [clips x labels], row by row. Its own labels fill the first places of each clip.
    positive = np.repeat((ids != NO_LABEL)[:, None], of_clip["tau"].shape[1], axis=1)
    positive[positive] = _array(rows, "clip_positive").flatten().to_numpy(zero_copy_only=False)
    saliency = {
        name: _padded(_array(rows, name), labels.max_labels * labels.bins, empty, kind).reshape(*ids.shape, labels.bins)
        for name, empty, kind in (
            ("saliency_score", 0, np.float32),
            ("saliency_tau", 0, np.float32),
            ("saliency_epoch", NEVER_VISITED, np.int32),
        )
    }
    return {
        **{name: rows[name].to_numpy() for name in ("slot", "video_row", "duration_seconds")},
        "clip_id": of_clip["clip_id"],
        "tau": of_clip["tau"],
        "explores": of_clip["focus_label_id"] == NO_LABEL,
        "label_ids": ids,
        "clip_positive": positive,
        **saliency,
    }


def join(decoded: DecodedBatch, rows: Iterable[tuple[Columns, int]]) -> ClipBatch:
    """Join a decoded batch with its rows of the plan: for each bag the `step_columns` and the row in them.

    Raises:
        ValueError: a row belongs to another slot than its bag.
    """
    rows = list(rows)
    names = rows[0][0].keys()
    columns = {name: np.stack([of_table[name][at] for of_table, at in rows]) for name in names}
    if not np.array_equal(columns["slot"], decoded.slot):
        raise ValueError(f"bags of slots {decoded.slot.tolist()} were given rows of {columns['slot'].tolist()}")
    return ClipBatch(**columns | decoded.columns())


def join_batches(decoded: Iterable[DecodedBatch], plans: Iterable[pa.Table], labels: LabelShape) -> Iterator[ClipBatch]:
    """Join decoded batches with their rows of the plans. Both follow the plans in the same order, epoch after epoch.

    Args:
        decoded: all bags of the plans, or a rank's share of them; in any order within a batch.
        plans: tables of STEP_SCHEMA.

    Raises:
        RuntimeError: none of the remaining slots is that of a decoded bag.
    """
    rows = _walk(plans, labels)
    for batch in decoded:
        missing, found = set(batch.slot.tolist()), {}
        while missing:
            slot, columns, at = next(rows, (None, {}, 0))
            if slot is None:
                raise RuntimeError(f"slots {sorted(missing)} were decoded, but the rest of the plans has none of them")
            if slot in missing:
                found[slot] = columns, at
                missing.discard(slot)
        yield join(batch, [found[slot] for slot in batch.slot.tolist()])


def decode_and_join(
    slices: Slices, decode: Callable[[Slices], Iterable[DecodedBatch]], labels: LabelShape
) -> Iterator[ClipBatch]:
    """Decode some slices of plans in this process, and join the result with the plans' columns."""
    for_decoder, for_step = tee(slices)
    return join_batches(decode(for_decoder), step_rows(for_step), labels)


def step_rows(slices: Slices) -> Iterator[pa.Table]:
    """The rows (STEP_SCHEMA) of some slices of plans; an empty table while the next slice is not known yet."""
    for part in slices:
        yield read_drawn(part[0], STEP_SCHEMA, *part[1:]) if part else STEP_SCHEMA.empty_table()


def _walk(plans: Iterable[pa.Table], labels: LabelShape) -> Iterator[tuple[int, Columns, int]]:
    for table in plans:
        if table.num_rows:
            columns = step_columns(table, labels)
            for at, slot in enumerate(columns["slot"].tolist()):
                yield slot, columns, at


def _array(rows: pa.Table, name: str) -> pa.Array:
    return pa.concat_arrays(rows[name].chunks)


def _padded(lists: pa.ListArray, width: int, empty: int, kind: type) -> np.ndarray:
    """[rows, width]: each list fills its row from the left; the rest is `empty`."""
    out = np.full((len(lists), width), empty, kind)
    lengths = lists.value_lengths().to_numpy()
    out[np.arange(width) < lengths[:, None]] = lists.flatten().to_numpy()
    return out
