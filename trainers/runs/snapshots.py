"""stub"""
from __future__ import annotations
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
import numpy as np
import pyarrow as pa
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA, SALIENCY_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.runs.log import Run


class PartitionFiles(NamedTuple):
    saliency: str
    excluded: str
    excluded_rows: int


@dataclass(frozen=True)
class Manifest:
    rows: Mapping[int, PartitionFiles] = field(default_factory=dict)
    def of(self, uids: Iterable[int]) -> dict[int, PartitionFiles]:
        return {uid: self.rows[uid] for uid in uids if uid in self.rows}
    def excluded_rows(self, uid: int) -> int:
        return self.rows[uid].excluded_rows if uid in self.rows else 0


def read_left_out(run: Run, files: Mapping[int, PartitionFiles]) -> set[int]:
    paths = [each.excluded for each in files.values() if each.excluded]
    return {row for path in paths for row in read_table(run.at(path), EXCLUDED_SCHEMA)["video_row"].to_pylist()}


def read_saliency_of(run, files, planner, config) -> SaliencyTable:
    import torch
    from adaptfocus.pipelines.saliency.bins import Bins
    empty = planner.empty_saliency(config)
    if not files:
        return empty
    bins = Bins(empty.bins.score.clone(), empty.bins.tau.clone(), empty.bins.epoch.clone())
    for each in files.values():
        if each.saliency:
            own = SaliencyTable.from_arrow(read_table(run.at(each.saliency), SALIENCY_SCHEMA))
            at = np.searchsorted(empty.video_row, own.video_row[0]) if len(own.video_row) else 0
            for name in ("score", "tau", "epoch"):
                getattr(bins, name)[at : at + len(own.video_row)] = getattr(own.bins, name)
    return SaliencyTable(empty.video_row, empty.label_id, bins)
