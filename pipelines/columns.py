"""Columns of lists as arrays, and arrays as columns of lists. Nothing here runs Python for each row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa


class ListColumn(NamedTuple):
    """A column of lists as arrays: row i has `values[begins[i] : begins[i] + lengths[i]]`."""

    values: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray

    def take(self, rows: np.ndarray) -> ListColumn:
        """Some rows, their values one list behind the other."""
        places, lengths = ragged(self.begins[rows], self.lengths[rows])
        return ListColumn(self.values[places], np.cumsum(lengths) - lengths, lengths)


def list_column(table: pa.Table, name: str) -> ListColumn:
    """A column of lists of numbers, none of which is null."""
    column = table.column(name).combine_chunks()
    lengths = np.diff(column.offsets.to_numpy())
    return ListColumn(column.flatten().to_numpy(zero_copy_only=False), np.cumsum(lengths) - lengths, lengths)


def rows_as_lists(values: np.ndarray) -> pa.Array:
    """The rows of a matrix as lists, without a copy of its numbers."""
    rows, columns = values.shape
    return pa.ListArray.from_arrays(np.arange(0, rows * columns + 1, columns, dtype=np.int32), pa.array(values.ravel()))


def ragged(begins: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of all items of some lists, one list behind the other, and the lists' lengths."""
    lengths = np.asarray(lengths, np.int64)
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(np.asarray(begins, np.int64) - starts, lengths), lengths


def as_lists(values: np.ndarray | pa.Array, lengths: np.ndarray) -> pa.ListArray:
    """Values, cut into lists of these lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values if isinstance(values, pa.Array) else pa.array(values))
