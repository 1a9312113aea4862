"""The ledger's files: one a commit, with a row for each bag that was trained since the commit before, sorted by slot.

The log says which slots each file holds. So a reader of some slots opens only the files that have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.pipelines import store
from adaptfocus.pipelines.schemas import LATER_IN_LEDGER, LEDGER_SCHEMA
from adaptfocus.pipelines.store.tables import read_table, write_table


class LedgerFile(NamedTuple):
    """A file inside a run, and slots [first_slot, end_slot) of an epoch: no others, and all of them if sorted."""

    path: str
    first_slot: int
    end_slot: int
    is_sorted: bool  # one row a slot, in order; not so in files of one rank, which earlier versions wrote


def one_file(folder: str) -> str:
    """The path of a commit's ledger inside the run; `folder` is that of its checkpoint."""
    return f"{folder}/ledger.parquet"


def files_of_ranks(folder: str, workers: int) -> list[str]:
    """The paths of a commit's ledger in runs of earlier versions: a file for each rank."""
    return [f"{folder}/scores-{rank}-of-{workers}.parquet" for rank in range(workers)]


def write_ledger(url: str, parts: Sequence[pa.Table]) -> None:
    """Write the rows of all ranks (LEDGER_SCHEMA) as one file, sorted by slot."""
    write_table(pa.concat_tables(parts).sort_by("slot"), url)


def read_ledger(
    run_url: str, files: Iterable[LedgerFile], first_slot: int, end_slot: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of slots [first_slot, end_slot), file by file.

    Args:
        columns: columns of LEDGER_SCHEMA, `slot` among them; all of them if None.
    """
    schema = LEDGER_SCHEMA if columns is None else pa.schema([LEDGER_SCHEMA.field(name) for name in columns])
    parts = [
        _rows(store.join(run_url, each.path), schema, each, first_slot, end_slot)
        for each in overlapping(files, first_slot, end_slot)
    ]
    return pa.concat_tables([schema.empty_table(), *parts])


def overlapping(files: Iterable[LedgerFile], first_slot: int, end_slot: int) -> list[LedgerFile]:
    """The files that hold any of slots [first_slot, end_slot)."""
    return [each for each in files if each.first_slot < end_slot and first_slot < each.end_slot]


def read_failed(run_url: str, files: Iterable[LedgerFile]) -> pa.Table:
    """The bags that could not be decoded: slot, video row, ok, kind and error. One file is in memory at a time."""
    columns = ["slot", "video_row", "ok", "kind", "error"]
    parts = (read_ledger(run_url, [each], each.first_slot, each.end_slot, columns) for each in files)
    failed = [part.filter(~pc.field("ok")) for part in parts]
    return pa.concat_tables([*failed, LEDGER_SCHEMA.empty_table().select(columns)])


def _rows(url: str, schema: pa.Schema, file: LedgerFile, first_slot: int, end_slot: int) -> pa.Table:
    first, end = max(first_slot, file.first_slot), min(end_slot, file.end_slot)
    if (first, end) == (file.first_slot, file.end_slot):
        return _read(url, schema)
    if file.is_sorted:
        found = _read(url, schema, first - file.first_slot, end - file.first_slot)
        if np.array_equal(found["slot"].to_numpy(), np.arange(first, end)):
            return found
    whole = _read(url, schema)  # slots are missing or stand twice, and whoever asks has to see that
    slot = whole["slot"].to_numpy()
    return whole.filter(pa.array((slot >= first) & (slot < end)))


def _read(url: str, schema: pa.Schema, start: int = 0, stop: int | None = None) -> pa.Table:
    """Rows of a ledger. Errors of an earlier version, "kind: message", are split into two columns."""
    table = read_table(url, schema, start, stop, later=LATER_IN_LEDGER)
    if "kind" not in schema.names or not table.column("kind").null_count:
        return table
    parts = [error.partition(": ") for error in table.column("error").to_pylist()]
    for name, values in (("kind", [part[0] for part in parts]), ("error", [part[2] for part in parts])):
        field = schema.field(name)
        table = table.set_column(schema.get_field_index(name), field, pa.array(values, field.type))
    return table
