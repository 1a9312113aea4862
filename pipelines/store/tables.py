"""Arrow tables at URLs: every table of the project is Parquet, compressed with zstd. Columns are checked on reading."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store import objects

FOOTER_BYTES = 64 * 1024  # end of a file, with its footer: that of 30 row groups of a plan takes about 40 KB


def write_table(table: pa.Table, url: str, row_group_size: int = 1024) -> None:
    """Write one Parquet file at once. A reader of a slice must read at least `row_group_size` rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    objects.write_bytes(url, sink.getvalue().to_pybytes())


def read_table(
    url: str,
    schema: pa.Schema,
    start: int = 0,
    stop: int | None = None,
    *,
    later: Sequence[str] = (),
    upgrade: Callable[[pa.Table], pa.Table] | None = None,
) -> pa.Table:
    """Rows [start, stop) of a Parquet file, with the columns and types of `schema`; columns in
    `later`, which files of earlier versions lack, are null if missing.

    Args:
        upgrade: what makes columns of this version's types out of an earlier one's.

    Raises:
        InputError: it is not Parquet, or columns are missing: another version wrote it.
    """
    try:
        whole = stop is None
        file = open_parquet(pa.BufferReader(objects.read_bytes(url))) if whole else _opened(url, schema, start, stop)
    except pa.ArrowInvalid as error:
        raise InputError(f"{url} is not a Parquet file ({error})") from None
    there = [name for name in schema.names if name in file.schema_arrow.names]
    missing = set(schema.names) - set(there)
    if missing - set(later):
        missing -= set(later)
        raise InputError(f"{url} lacks the columns {sorted(missing)}: another version wrote it; make it again")
    groups, first = _row_groups(file.metadata, start, file.metadata.num_rows if stop is None else stop)
    table = read_here(file, there, groups)
    for name in sorted(missing):
        table = table.append_column(name, pa.nulls(table.num_rows, schema.field(name).type))
    table = table.select(schema.names)
    table = (upgrade(table) if upgrade else table).cast(schema)
    return table.slice(start - first, None if stop is None else stop - start)


def open_parquet(source: Any, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """A Parquet file that no thread of Arrow's holds, if it is read with `read_here`.

    Arrow's own threads would hold files and bytes of Python. One of them that lets go of these while the interpreter
    ends takes the process with it: "terminate called without an active exception", after all work is done.
    """
    return pq.ParquetFile(source, metadata=metadata, pre_buffer=False)


def read_here(
    file: pq.ParquetFile, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None
) -> pa.Table:
    """Some columns and row groups of a file of `open_parquet`, all of them if None, read in this thread."""
    if groups is None:
        groups = range(file.metadata.num_row_groups)
    return file.read_row_groups(list(groups), columns=None if columns is None else list(columns), use_threads=False)


def _opened(url: str, schema: pa.Schema, start: int, stop: int) -> pq.ParquetFile:
    """The file, with only what [start, stop) has of these columns fetched: the footer, then all of it at once."""
    size_bytes, _ = objects.size_and_tag(url)
    tail_bytes = min(size_bytes, FOOTER_BYTES)
    tail = objects.read_ranges([url], [size_bytes - tail_bytes], [tail_bytes])[0]
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if tail_bytes < footer_bytes <= size_bytes:
        tail_bytes = footer_bytes
        tail = objects.read_ranges([url], [size_bytes - tail_bytes], [tail_bytes])[0]
    metadata = pq.read_metadata(pa.BufferReader(tail))
    every = (metadata.row_group(g).column(c) for g in _row_groups(metadata, start, stop)[0]
             for c in range(metadata.num_columns))  # fmt: skip
    wanted = [column for column in every if column.path_in_schema.split(".")[0] in schema.names]
    begins = [column.dictionary_page_offset or column.data_page_offset for column in wanted]
    sizes = [column.total_compressed_size for column in wanted]
    bodies = objects.read_ranges([url] * len(wanted), begins, sizes)
    pieces = {size_bytes - tail_bytes: tail, **dict(zip(begins, bodies, strict=True))}
    # Without pre_buffer each chunk of a column is read for itself, and not with what lies between two of them.
    return open_parquet(_Part(size_bytes, pieces), metadata)


class _Part(io.RawIOBase):
    """A file of which only some pieces have been fetched."""

    def __init__(self, size_bytes: int, pieces: dict[int, bytes]) -> None:
        super().__init__()
        self.size_bytes, self.pieces, self.position = size_bytes, pieces, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size_bytes}[whence]
        return self.position

    def read(self, size: int = -1) -> bytes:
        end = self.size_bytes if size < 0 else min(self.position + size, self.size_bytes)
        for begin, data in self.pieces.items():
            if begin <= self.position and end <= begin + len(data):
                found = data[self.position - begin : end - begin]
                self.position = end
                return found
        raise OSError(f"bytes {self.position} to {end} of a table were not fetched")


def _row_groups(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold rows [start, stop), and the number of the first row in them."""
    groups, first, row = [], 0, 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if row < stop and row + rows > start:
            if not groups:
                first = row
            groups.append(group)
        row += rows
    return groups, first
