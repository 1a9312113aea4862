"""The videos of a run as rows of one index, whether it is trained on one index or on several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from adaptfocus.pipelines.index.partitions import Partition
from adaptfocus.trainers.inputs.run_index import read_videos, run_partitions
from adaptfocus.trainers.settings.run import TrainConfig


@dataclass(frozen=True)
class RunRows:
    """The rows of the snapshot that a run stays with, with the labels that the run trains on."""

    config: TrainConfig
    fingerprint: str

    def partitions(self) -> Sequence[Partition]:
        return run_partitions(self.config, self.fingerprint)

    def read(self, partition: Partition, columns: Sequence[str] | None) -> pa.Table:
        return read_videos(self.config, [partition], columns)
