"""Two small runs: one on an index of many partitions, and one on two indexes with settings of their own."""

from __future__ import annotations

import pytest

from adaptfocus.pipelines.index.load import load_index
from adaptfocus.trainers.library import Run
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld


@pytest.fixture(scope="session")
def run(small_world: SmallWorld, dealt: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = small_world.run_config(
        tmp_path_factory.mktemp("runs"), "run", f"index={dealt}", "epochs=2", "checkpoint.keep=9"
    )
    return Run(trained(config).url)


@pytest.fixture(scope="session")
def mixed(small_world: SmallWorld, dealt: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The second index has half the frame rate, a tighter crop, and another name for one label."""
    theirs = load_index(small_world.test_index).classes
    own = f"index: {small_world.test_index}, fps: 2, crop_fraction: 0.5, labels: {{{theirs[0]}: new}}"
    config = small_world.run_config(
        tmp_path_factory.mktemp("runs"), "mixed", f"index={dealt}", "epochs=1", "plan.bags_per_epoch=24",
        f"mixture.more=[{{{own}}}]", "decode.crop_fraction=0.9",
    )  # fmt: skip
    return Run(trained(config).url)
