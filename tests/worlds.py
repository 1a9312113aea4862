"""A small world, encoded, packed and indexed once a session: real H.264 in real tars, with truth known to the frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from adaptfocus.pipelines.annotations.manifest import read_manifest
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.shards.packing import pack
from adaptfocus.pipelines.store.objects import size_and_tag
from adaptfocus.pipelines.worlds.encode import write_world
from adaptfocus.pipelines.worlds.video import WorldConfig
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.studies.imprecision import replace_rows


@dataclass(frozen=True)
class SmallWorld:
    """Where a small world lies."""

    folder: Path
    config: WorldConfig

    @property
    def train_index(self) -> str:
        return str(self.folder / "index-train")

    @property
    def test_index(self) -> str:
        return str(self.folder / "index-test")

    def planner(self) -> Planner:
        index = load_index(self.train_index)
        return Planner.of(index.table, index.classes)

    def run_config(self, runs: str | Path, name: str, *overrides: str) -> TrainConfig:
        """Settings of a short run on it."""
        values = {
            "name": name, "runs": str(runs), "index": self.train_index, "epochs": 3, "seed": 3,
            "clip": {"frames": 8, "fps": 4.0, "size_pixels": 20},
            "plan": {"clips_per_bag": 3, "bags_per_batch": 4},
            "focus": {"warmup_epochs": 1},
            "checkpoint": {"every_batches": 2},
            "placement": {"engine": "local"},
        }  # fmt: skip
        return make(TrainConfig, values, overrides)


def change_rows(index: Path | str, change: Callable[[dict], dict], classes: Sequence[str] | None = None) -> None:
    """Replace the rows of an index, as if its videos had been so when they were indexed."""

    def changed(table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([change(row) for row in table.to_pylist()], schema=table.schema)

    replace_rows(str(index), changed, classes)


def retag(index: Path, moved: Mapping[str, Path] | None = None) -> None:
    """Update the tags of shards in an index to what they are now, as if they had been so when they were indexed."""

    def change(row: dict) -> dict:
        url = str((moved or {}).get(row["shard_url"], row["shard_url"]))
        size_bytes, tag = size_and_tag(url)
        return row | {"shard_url": url, "shard_size_bytes": size_bytes, "shard_tag": tag}

    change_rows(index, change)


def make_world(folder: Path, train: int = 18, test: int = 6) -> SmallWorld:
    """18 training videos: four global batches of four bags, and two to carry over."""
    config = WorldConfig(
        num_train_videos=train, num_test_videos=test, min_seconds=20, max_seconds=30, num_sprites=3, seed=1
    )
    manifest = write_world(config, folder / "raw")
    videos, _ = read_manifest(str(manifest))
    for split in ("train", "test"):
        shards = str(folder / f"shards-{split}")
        pack(
            [v for v in videos if v.split == split], shards, classes=config.classes, shard_size_bytes=1 << 20, workers=1
        )
        build_index([shards], str(folder / f"index-{split}"), classes=config.classes, workers=1)
    return SmallWorld(folder, config)
