"""The packets of videos, which lie apart from their rows and are read by range.

``INDEX/packets/IDENTITYHASH.bin`` holds the packets of all videos of one tar, one behind the other, each as encoded by
pipelines/video/packets.py. A row names the object, the offset and the size of its own. HASH is that of the content: a
tar that is read again may give other videos, for example because one did not time out, and rows of earlier snapshots
keep their packets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.named import hash_of
from adaptfocus.pipelines.schemas import INDEX_SCHEMA
from adaptfocus.pipelines.video.packets import packet_count

PACKETS_FOLDER = "packets"
PLACE_COLUMNS = ("packets_url", "packets_offset_bytes", "packets_size_bytes")
# A row while its packets are still with it.
UNSPLIT_SCHEMA = pa.schema(
    [field for field in INDEX_SCHEMA if field.name not in PLACE_COLUMNS] + [pa.field("packets", pa.binary())]
)
ROWS_AT_ONCE = 1024  # of one call to the store: 35 MB of packets of ten-minute videos
_NAME = re.compile(r"[0-9a-f]{16,64}\.bin")
IDENTITY_CHARACTERS = 16
_FIX = "run `adaptfocus index` again into an empty folder"


def read_packets(rows: pa.Table) -> list[bytes]:
    """The packets of videos, as `decode_packets` takes them, in the order of the rows.

    Args:
        rows: of a loaded index, with at least the columns PLACE_COLUMNS. Packets near each other are one request.

    Raises:
        InputError: what is there is not the packets of this video: the index is damaged.
        StorageError: the packets cannot be read.
    """
    found: list[bytes] = []
    for first in range(0, rows.num_rows, ROWS_AT_ONCE):
        part = rows.slice(first, ROWS_AT_ONCE)
        urls, offsets, sizes = (part.column(name).to_pylist() for name in PLACE_COLUMNS)
        data = store.read_ranges(urls, offsets, sizes)
        counts = part.column("packet_count").to_pylist() if "packet_count" in part.column_names else [None] * len(data)
        for url, size, count, blob in zip(urls, sizes, counts, data, strict=True):
            _check(url, size, count, blob)
        found += data
    return found


def with_packets(rows: pa.Table) -> pa.Table:
    """Rows of a loaded index with one more column, `packets` (binary). Raises as `read_packets`."""
    if "packets" in rows.column_names:
        return rows
    return rows.append_column("packets", pa.array(read_packets(rows), pa.binary()))


def video_with_packets(video: Mapping[str, Any]) -> dict[str, Any]:
    """`with_packets` for one row as Python values."""
    if "packets" in video:
        return dict(video)
    places = pa.table({name: [video[name]] for name in PLACE_COLUMNS})
    return {**video, "packets": read_packets(places)[0]}


def apart(rows: pa.Table, identity: str) -> tuple[pa.Table, str, bytes]:
    """Take the packets out of the rows of a shard -> (rows of INDEX_SCHEMA, name of the object, its bytes)."""
    blobs = rows.column("packets").to_pylist()
    data = b"".join(blobs)
    name = f"{identity}{hash_of(data)}.bin"
    sizes = np.array([len(blob) for blob in blobs], np.int64)
    places = (pa.array([name] * len(blobs), pa.string()), pa.array(np.cumsum(sizes) - sizes), pa.array(sizes))
    light = rows.drop_columns(["packets"])
    for column, values in zip(PLACE_COLUMNS, places, strict=True):
        light = light.append_column(column, values)
    return light.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA), name, data


def identity_of(name: str) -> str:
    """The identity of the shard that an object's packets come from."""
    return name[:IDENTITY_CHARACTERS]


def packets_urls(names: pa.ChunkedArray, index_url: str) -> pa.ChunkedArray:
    """The URLs of the objects in an index's folder. Raises InputError for a name that no index has."""
    folder = store.join(store.absolute(index_url), PACKETS_FOLDER)
    for name in names.unique().to_pylist():
        if name is None or not _NAME.fullmatch(name):
            raise InputError(f"{index_url} is damaged: a row has its packets in {name!r:.100}; {_FIX}")
    return pa.chunked_array(
        [pa.array([store.join(folder, name) for name in chunk.to_pylist()], pa.string()) for chunk in names.chunks],
        pa.string(),
    )


def _check(url: str, size_bytes: int, count: int | None, blob: bytes) -> None:
    wrong = None
    if len(blob) != size_bytes:
        wrong = f"{size_bytes} bytes of a video's packets were asked for, and {len(blob)} came"
    elif count is not None and packet_count(blob) != count:
        wrong = f"a video has {count} packets, and {packet_count(blob)} are there"
    if wrong:
        raise InputError(f"{store.redact_url(url)} is damaged ({wrong}); {_FIX}")
