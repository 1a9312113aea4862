"""Arrow tables at URLs: every table of the project is Parquet, compressed with zstd.

Input: a table and a URL. Does: writes it whole, reads it back, checks the columns. Output: tables.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import InputError


def write_table(table: pa.Table, url: str, row_group_size: int = 1024) -> None:
    """Write one Parquet file at once; `row_group_size` rows are what a reader of a slice must read at least."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    storage.write_bytes(url, sink.getvalue().to_pybytes())


def read_table(url: str, schema: pa.Schema, start: int = 0, stop: int | None = None) -> pa.Table:
    """Rows [start, stop) of a Parquet file, with the columns and types of `schema`.

    Raises:
        InputError: it is not Parquet, or columns are missing: it was written by another version.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(storage.read_bytes(url)))
    except pa.ArrowInvalid as error:
        raise InputError(f"{url} is not a Parquet file ({error})") from None
    missing = set(schema.names) - set(file.schema_arrow.names)
    if missing:
        raise InputError(f"{url} lacks the columns {sorted(missing)}: it was written by another version; make it anew")
    groups, first = _row_groups(file, start, file.metadata.num_rows if stop is None else stop)
    table = file.read_row_groups(groups, columns=schema.names).select(schema.names).cast(schema)
    return table.slice(start - first, None if stop is None else stop - start)


def _row_groups(file: pq.ParquetFile, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold rows [start, stop), and the number of the first row in them."""
    groups, first, row = [], 0, 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row < stop and row + rows > start:
            if not groups:
                first = row
            groups.append(group)
        row += rows
    return groups, first
