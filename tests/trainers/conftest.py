"""Fixtures that tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index
from tests.worlds import SmallWorld


def _one_thread() -> Iterator[None]:
    """Small layers in two threads wait for each other; on a busy machine they take seven times as long as in one.

    Sums of several threads also differ in their last bit from run to run, and AdamW makes the difference larger.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


one_thread = pytest.fixture(_one_thread)
one_thread_for_all = pytest.fixture(_one_thread, scope="module")  # before other fixtures of a module


@pytest.fixture(scope="session")
def dealt(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The index of the small world's videos in many partitions of two or three videos."""
    url = str(tmp_path_factory.mktemp("dealt") / "index")
    shards = sorted(set(load_index(small_world.train_index).table["shard_url"].to_pylist()))
    build_index(shards, url, workers=1, sizes=Sizes(partition_rows=3))
    return url
