"""Tables at URLs: a part of a table is read without the rest, and has the same rows."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store import tables
from adaptfocus.pipelines.store.tables import read_table, write_table

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string()), ("many", pa.list_(pa.int64()))])
ROWS = [{"number": n, "text": f"row {n}", "many": list(range(n % 7))} for n in range(1000)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("tables") / "t.parquet")
    write_table(pa.Table.from_pylist(ROWS, schema=SCHEMA), path, row_group_size=64)
    return path


@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([100, 2000, 1 << 16]))
@settings(max_examples=60, deadline=None)
def test_any_slice_is_those_rows(url: str, one: int, other: int, footer_bytes: int) -> None:
    start, stop = min(one, other), max(one, other)
    with mock.patch.object(tables, "FOOTER_BYTES", footer_bytes):
        assert read_table(url, SCHEMA, start, stop).to_pylist() == ROWS[start:stop]


def test_a_slice_costs_its_row_groups_and_not_the_file(tmp_path: Path) -> None:
    random = [{"number": n, "text": f"{n * 2654435761 % 2**64:x}" * 20, "many": []} for n in range(4000)]
    url = str(tmp_path / "t.parquet")
    write_table(pa.Table.from_pylist(random, schema=SCHEMA), url, row_group_size=64)
    fetched = []
    read = store.read_ranges

    def counted(urls, offsets_bytes, sizes_bytes):
        fetched.append(sum(sizes_bytes))
        return read(urls, offsets_bytes, sizes_bytes)

    with mock.patch.object(tables.objects, "read_ranges", counted):
        assert read_table(url, SCHEMA, 640, 704).to_pylist() == random[640:704]
    size = Path(url).stat().st_size
    assert len(fetched) == 2, "the footer and the row group"
    assert sum(fetched) < tables.FOOTER_BYTES + size / 25
    fetched.clear()
    with mock.patch.object(tables.objects, "read_ranges", counted):
        assert read_table(url, pa.schema([SCHEMA.field("number")]), 640, 704)["number"].to_pylist() == [
            *range(640, 704)
        ]
    assert fetched[1] < 1000, "and no column that nobody asked for"


def test_a_file_that_is_not_a_table_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"nothing of the kind")
    for stop in (None, 5):
        with pytest.raises(InputError, match="is not a Parquet file"):
            read_table(str(path), SCHEMA, 0, stop)
