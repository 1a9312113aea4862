"""Samples in tars, indexed: what the tests of an index share."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adaptfocus.pipelines.index import rows as index_rows
from adaptfocus.pipelines.index.build import IndexSummary, build_index
from adaptfocus.pipelines.index.load import refused_of
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA
from adaptfocus.pipelines.store import objects
from tests.footage import encode

VIDEO = encode(10)


def sample(key: str, annotation: Any = None, video: bytes = VIDEO) -> dict[str, bytes]:
    """Members of one sample; `annotation` is the content of the .json."""
    members = {f"{key}.mp4": video}
    if annotation is not None:
        members[f"{key}.json"] = json.dumps(annotation).encode()
    return members


def index(*shards: Path | str, out: Path, **options: Any) -> IndexSummary:
    return build_index([str(shard) for shard in shards], str(out), workers=options.pop("workers", 1), **options)


def refused_rows(out: Path) -> list[dict]:
    rows = list(refused_of(str(out)))
    assert all(list(row) == REFUSED_SCHEMA.names for row in rows)
    return rows


@contextmanager
def unread_videos() -> Iterator[None]:
    """Every video is taken for VIDEO without being read, for tests of many videos; with `isolation=None`."""
    table = read_packet_table(io.BytesIO(VIDEO), len(VIDEO), b"")  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_rows, "read_packet_table", lambda *_: table)
        yield


@contextmanager
def ranges_asked() -> Iterator[list[tuple[str, int, int]]]:
    """The ranges (URL, offset, size) that are asked of the store."""
    asked: list[tuple[str, int, int]] = []
    fetch = objects._fetched

    def counting(ranges: Any, *how: Any) -> list[bytes]:
        asked.extend(ranges)
        return fetch(ranges, *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_fetched", counting)
        yield asked
