"""What planning needs of some videos of an index: their light rows, their ids and their labels, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.columns import ListColumn
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable


@dataclass(frozen=True)
class Planner:
    """The videos of a whole index, or of some of its partitions."""

    table: pa.Table
    classes: tuple[str, ...]
    labels: ListColumn  # label ids of each row of `table`, ascending
    video_rows: np.ndarray  # [V] int64, ascending: the `video_row` of each row of `table`

    @classmethod
    def of(cls, table: pa.Table, classes: Sequence[str]) -> Planner:
        """The planner of some rows of an index.

        Args:
            table: with at least the column `labels`. Without the column `video_row`, rows count from 0.

        Raises:
            KeyError: a label is none of the classes.
        """
        is_whole = "video_row" not in table.column_names
        rows = np.arange(table.num_rows) if is_whole else table.column("video_row").to_numpy()
        return cls(table, tuple(classes), ids_of_labels(table.column("labels"), classes), rows)

    @property
    def max_labels(self) -> int:
        """The largest number of labels of a video; at least 1."""
        return int(self.labels.lengths.max(initial=0)) or 1

    @cached_property
    def label_ids(self) -> tuple[tuple[int, ...], ...]:
        """The label ids of each row of `table`, as Python numbers."""
        values, begins, lengths = (each.tolist() for each in self.labels)
        return tuple(tuple(values[at : at + n]) for at, n in zip(begins, lengths, strict=True))

    @cached_property
    def ids(self) -> list[str]:
        """The id of each row of `table`."""
        return self.table.column("video_id").to_pylist()

    def places(self, video_rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Where some videos stand in `table`, int64 [R].

        Raises:
            KeyError: one of them is not there.
        """
        wanted = np.asarray(video_rows, np.int64)
        found = np.minimum(np.searchsorted(self.video_rows, wanted), max(len(self.video_rows) - 1, 0))
        if len(wanted) and not (len(self.video_rows) and (self.video_rows[found] == wanted).all()):
            raise KeyError(f"video rows {wanted[:3].tolist()} ... are not all among these videos")
        return found

    def video(self, row: int) -> dict:
        """A video's row as Python values; `row` is its `video_row`.

        A slice of the whole table costs time for each of its chunks, and a table has one a partition.
        """
        batches, ends = self._chunks
        row = int(self.places([row])[0])
        number = int(np.searchsorted(ends, row, side="right"))
        return batches[number].slice(row - int(ends[number]) + batches[number].num_rows, 1).to_pylist()[0]

    @cached_property
    def _chunks(self) -> tuple[list[pa.RecordBatch], np.ndarray]:
        """The table's chunks and the row after each one's last."""
        batches = self.table.to_batches()
        return batches, np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)

    def empty_saliency(self, config: SaliencyConfig) -> SaliencyTable:
        return SaliencyTable.unvisited(self.video_rows, self.labels, config.bins)


def ids_of_labels(labels: pa.ChunkedArray, classes: Sequence[str]) -> ListColumn:
    """Lists of names as lists of ids, each ascending and without repeats; a name's id is its place in `classes`.

    Raises:
        KeyError: a name is none of the classes.
    """
    column = labels.combine_chunks()
    lengths = np.diff(column.offsets.to_numpy())
    names = column.flatten().dictionary_encode()
    number = {name: k for k, name in enumerate(classes)}
    of_code = np.array([number[name] for name in names.dictionary.to_pylist()], np.int64)
    ids = of_code[names.indices.to_numpy()] if len(names) else np.zeros(0, np.int64)
    width = max(len(classes), 1)
    row, value = np.divmod(np.unique(np.repeat(np.arange(len(lengths)), lengths) * width + ids), width)
    counts = np.bincount(row, minlength=len(lengths)).astype(np.int64)
    return ListColumn(value, np.cumsum(counts) - counts, counts)
