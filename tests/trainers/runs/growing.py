"""An index that grows by the tars of a small world, and an engine in which things happen between two batches."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.plan.published import PlanFacts, Stretch, read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.trainers.batches import ClipBatch, LabelShape
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.run import TrainConfig
from tests.footage import write_tar
from tests.trainers.loop.test_training import Killed
from tests.worlds import SmallWorld

NEW = "a_new_class"  # sorts before all others
G = 2


class Growing:
    """The videos of the small world in tars that arrive one after the other, and their index."""

    def __init__(self, world: SmallWorld, folder: Path, sizes: Sizes = Sizes()) -> None:
        self.world, self.folder, self.sizes, self.number = world, folder, sizes, 0
        self.url = str(folder / "index")
        (folder / "tars").mkdir(parents=True)
        (tar,) = (world.folder / "shards-train").glob("*.tar")
        with tarfile.open(tar) as members:
            found = {member.name: members.extractfile(member).read() for member in members}  # type: ignore[union-attr]
        self.videos = {
            name.removesuffix(".mp4"): {end: found[name.removesuffix(".mp4") + end] for end in (".mp4", ".json")}
            for name in found if name.endswith(".mp4")
        }  # fmt: skip
        self.left = sorted(self.videos)

    def add(self, videos: int, *labels: str, classes: list[str] | None = None) -> None:
        """Put the next videos into one more tar, with these labels besides their own, and index it."""
        own, self.left = self.left[:videos], self.left[videos:]
        members = {}
        for key in own:
            told = json.loads(self.videos[key][".json"])
            told["labels"] = [*told["labels"], *labels]
            members |= {f"{key}.mp4": self.videos[key][".mp4"], f"{key}.json": json.dumps(told).encode()}
        write_tar(self.folder / "tars" / f"{self.number}.tar", members)
        self.number += 1
        self.index(classes)

    def index(self, classes: list[str] | None = None) -> None:
        build_index([str(self.folder / "tars")], self.url, workers=1, sizes=self.sizes, classes=classes)

    def config(self, *overrides: str) -> TrainConfig:
        own = (f"index={self.url}", f"plan.bags_per_batch={G}", "follow_index=true", *overrides)
        return self.world.run_config(self.folder, "run", *own)


class Watched(LocalEngine):
    """Does something before a batch, counted from the first."""

    def __init__(self, before: Mapping[int, Callable[[], None]]) -> None:
        super().__init__(G)
        self.before = before

    def batches(self, stretch: Stretch, shape: ClipShape, labels: LabelShape) -> Iterator[ClipBatch]:
        for number, batch in enumerate(super().batches(stretch, shape, labels)):
            self.before.get(number, lambda: None)()
            yield batch


def die() -> None:
    raise Killed


def rows_of(run: Run, epoch: int) -> list[int]:
    """The video of each slot of an epoch."""
    return rows_of_plan(read_plan(run.epoch_url(epoch, "plan")))


def rows_of_plan(plan: PlanFacts | None) -> list[int]:
    assert plan is not None
    return [row for url, *part in plan.slices() for row in read_table(url, PLAN_SCHEMA, *part)["video_row"].to_pylist()]
