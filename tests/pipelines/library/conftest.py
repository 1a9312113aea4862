"""An index of many small partitions, and one whose first video is damaged in its second half."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import video_with_packets
from adaptfocus.pipelines.library import Index, open_index
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.video.spans import packets_of
from tests.worlds import SmallWorld, retag

CLIP = ClipConfig(frames=4, fps=4, size_pixels=20)
DAMAGED = "a-train-00000"


@pytest.fixture(scope="session")
def index(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """18 videos in partitions of two or three."""
    url = str(tmp_path_factory.mktemp("dealt") / "index")
    shards = sorted(set(load_index(small_world.train_index).table["shard_url"].to_pylist()))
    build_index(shards, url, workers=1, sizes=Sizes(partition_rows=3))
    return open_index(url)


@pytest.fixture(scope="session")
def damaged(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The same videos; the second half of DAMAGED is noise."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(small_world.folder / "index-train", folder / "index-train")
    shutil.copytree(small_world.folder / "shards-train", folder / "shards-train")
    row = open_index(small_world.train_index).row(DAMAGED)
    packets = packets_of(video_with_packets(row))
    begin = int(packets.offset_bytes[len(packets) // 2]) + row["member_offset_bytes"]
    end = int((packets.offset_bytes + packets.size_bytes).max()) + row["member_offset_bytes"]
    shard = folder / "shards-train" / Path(row["shard_url"]).name
    with shard.open("r+b") as file:
        file.seek(begin)
        file.write(np.random.default_rng(0).bytes(end - begin))
    urls = {video.row["shard_url"] for video in open_index(small_world.train_index)}
    retag(folder / "index-train", {url: folder / "shards-train" / Path(url).name for url in urls})
    return open_index(str(folder / "index-train"))
