"""Two regimes, trained and scored on small videos: runs that a report is made of."""

from __future__ import annotations

from typing import NamedTuple

from adaptfocus.pipelines.index.load import load_index
from tests.worlds import SmallWorld

EPOCHS = 2
NEGATIVES = "focus.background_weight=2"  # so that every diagnostic has a curve


class Compared(NamedTuple):
    """Noisy and Ours, trained and scored as "test"."""

    noisy: str
    ours: str

    @property
    def urls(self) -> list[str]:
        return [self.noisy, self.ours]


def rows_of(world: SmallWorld) -> dict[str, dict]:
    return {row["video_id"]: row for row in load_index(world.train_index).table.to_pylist()}
