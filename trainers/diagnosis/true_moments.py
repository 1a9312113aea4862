"""The true intervals of an index as arrays: which moments of which videos show which label. Only diagnosis reads them.

Nothing here runs Python for each video. `pipelines.plan.labels.is_shown` says the same of one moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.planner import Planner


@dataclass(frozen=True)
class TrueMoments:
    """Intervals in the order of (a video's place in the planner's table, label). The key: place * `classes` + label."""

    classes: int
    is_known: np.ndarray  # [V] bool: somebody has annotated the video
    key: np.ndarray  # [I] int64
    start_seconds: np.ndarray  # [I] float64
    end_seconds: np.ndarray  # [I] float64

    @classmethod
    def of(cls, planner: Planner) -> TrueMoments:
        column, classes = planner.table.column("intervals").combine_chunks(), len(planner.classes)
        lengths = np.diff(column.offsets.to_numpy())
        is_known = np.asarray(column.is_valid())
        place = np.repeat(np.arange(len(lengths)), np.where(is_known, lengths, 0))
        label, start, end = column.flatten().flatten()
        number = {name: k for k, name in enumerate(planner.classes)}
        names = label.combine_chunks() if isinstance(label, pa.ChunkedArray) else label
        coded = names.dictionary_encode(null_encoding="encode")
        of_code = np.array([number.get(name, -1) for name in coded.dictionary.to_pylist()] or [-1], np.int64)
        label_id = of_code[coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)]
        is_class = label_id >= 0
        key = (place * classes + label_id)[is_class]
        order = np.argsort(key, kind="stable")
        start, end = (np.asarray(each, np.float64)[is_class][order] for each in (start, end))
        return cls(classes, is_known, key[order], start, end)

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(place, label id) of each pair that has an interval, both int64 [P]."""
        place, label = np.divmod(np.unique(self.key), max(self.classes, 1))
        return place, label

    def has_interval(self, place: np.ndarray, label_id: np.ndarray) -> np.ndarray:
        """Whether each pair has an interval, bool [P]. Both arguments: int64 [P]."""
        first, end = self._range(place, label_id)
        return end > first

    def show(self, place: np.ndarray, label_id: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Whether each moment of each pair lies in one of its intervals, ends included: bool [P, N].

        Args:
            place: of videos, int64 [P].
            label_id: int64 [P].
            seconds: float64 [P, N]; nan lies in none.
        """
        first, end = self._range(place, label_id)
        shown = np.zeros(seconds.shape, bool)
        for nth in range(int((end - first).max(initial=0))):
            at = np.minimum(first + nth, len(self.key) - 1)
            inside = (self.start_seconds[at, None] <= seconds) & (seconds <= self.end_seconds[at, None])
            shown |= inside & (first + nth < end)[:, None]
        return shown

    def _range(self, place: np.ndarray, label_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = place * self.classes + label_id
        return np.searchsorted(self.key, key, side="left"), np.searchsorted(self.key, key, side="right")
