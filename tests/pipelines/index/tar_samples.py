"""Samples in tars, indexed: what the tests of an index share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from adaptfocus.pipelines.index.build import IndexSummary, build_index
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA
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
    names = [part["name"] for part in json.loads((out / "index.json").read_text())["parts"]]
    tables = [pq.read_table(out / "refused" / f"{name}.parquet") for name in names]
    assert all(table.schema.equals(REFUSED_SCHEMA) for table in tables)
    return [row for table in tables for row in table.to_pylist()]
