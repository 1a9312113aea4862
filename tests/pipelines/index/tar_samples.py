"""Samples in tars, indexed: what the tests of an index share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adaptfocus.pipelines.index.build import IndexSummary, build_index
from adaptfocus.pipelines.index.load import refused_of
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
    rows = list(refused_of(str(out)))
    assert all(list(row) == REFUSED_SCHEMA.names for row in rows)
    return rows
