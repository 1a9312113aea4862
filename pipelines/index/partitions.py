"""Stands in for partitions until the index has them: one, with all videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from adaptfocus.pipelines.index.load import load_index, open_index


@dataclass(frozen=True)
class Partition:
    """What a manifest says of a partition."""

    uid: int
    rows: int
    name: str = ""
    unlabelled: int = 0
    unlocated: int = 0
    max_labels: int = 1
    dead: str | None = None


def read_partitions(url: str) -> tuple[Partition, ...]:
    return (Partition(0, open_index(url).videos),)


def read_partition(url: str, partition: Partition, columns: Sequence[str] | None = None) -> pa.Table:
    return load_index(url, None if columns is None else list(columns)).table
