"""Objects of an index whose names hold a hash of their content.

A name never stands for other content, so what is read once may be kept, and what is damaged is noticed when it is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store.tables import open_parquet, read_here

FIX = "restore it from a copy, or run `adaptfocus index` again into another folder"
NAME = re.compile(r"(\d{6,13}-)?[0-9a-f]{16}")
# Columns with few values, which Parquet stores as numbers.
_REPEATED = (
    *("shard_url", "shard_tag", "shard_identity", "codec", "access", "indexed_by", "packets_url", "kind", "extradata"),
    *("labels.list.element", "intervals.list.element.label"),
)


def url_of(index_url: str, folder: str, name: str) -> str:
    """The URL of an object. Raises InputError if no index has such names, and a path could lead elsewhere."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(f"{index_url} is damaged: it names {name!r:.100} in {folder}/; {FIX}")
    return store.join(index_url, folder, f"{name}.parquet")


def write_named(index_url: str, folder: str, table: pa.Table, prefix: str = "") -> tuple[str, int]:
    """Write a table -> (the name of its object, its size in bytes)."""
    data = parquet_bytes(table)
    name = prefix + hash_of(data)
    store.write_bytes(url_of(index_url, folder, name), data)
    return name, len(data)


def read_named(
    index_url: str, folder: str, name: str, schema: pa.Schema, columns: Sequence[str] | None = None
) -> pa.Table:
    """The table of an object, with the types of `schema`.

    Args:
        columns: the columns wanted; all of them by default.

    Raises:
        InputError: it is damaged. StorageError: it cannot be read.
    """
    url = url_of(index_url, folder, name)
    data = store.read_bytes(url)
    if hash_of(data) != name.rsplit("-", 1)[-1]:
        raise InputError(f"{url} is damaged (its content is not what was written under this name); {FIX}")
    return table_of(data, schema, columns)


def table_of(data: bytes, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns of a Parquet file, with the types of `schema`."""
    names = schema.names if columns is None else list(columns)
    table = read_here(open_parquet(pa.BufferReader(data)), names).select(names)
    return table.replace_schema_metadata(None).cast(pa.schema([schema.field(name) for name in names]))


def parquet_bytes(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    repeated: Any = [name for name in _REPEATED if name.split(".")[0] in table.column_names]
    pq.write_table(table, out, compression="zstd", use_dictionary=repeated)
    return out.getvalue().to_pybytes()


def hash_of(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
