"""A world that has been made must be the world that was asked for: in the store, through the project's own decoder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adaptfocus.infra.running.worlds import make_world
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import find_packets
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.plan.views import plan_views
from adaptfocus.pipelines.stream.clips import ClipShape, read_and_decode
from adaptfocus.pipelines.worlds.config import WorldConfig, world_of
from adaptfocus.pipelines.worlds.video import make_video

SMALL = world_of("c", num_train_videos=3, num_test_videos=2, min_seconds=8, max_seconds=12, long_tail=True)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_index_decodes_to_what_was_rendered(tmp_path, split: str) -> None:
    made = make_world(SMALL, str(tmp_path / "w"), processes=2)
    assert (made["train"].videos, made["test"].videos) == (3, 2)
    index = load_index(str(tmp_path / "w" / "index" / split))
    assert tuple(index.classes) == SMALL.classes
    drawn = plan_views(Planner.of(index.table, index.classes), ClipConfig(frames=8, fps=4, size_pixels=20), 2).table
    plan = find_packets(drawn)
    batch = read_and_decode(plan, ClipShape(clips=2, frames=8, size_pixels=20))
    assert batch.ok.all()
    for row, (bag, stored) in enumerate(zip(plan.to_pylist(), index.table.to_pylist(), strict=True)):
        video = make_video(SMALL, split, row)
        tick_seconds = stored["time_base_numerator"] / stored["time_base_denominator"]
        assert stored["video_id"] == video.video_id
        assert stored["labels"] == list(video.labels)
        assert [tuple(each.values()) for each in stored["intervals"]] == list(video.intervals)
        for clip, frames in zip(bag["clips"], batch.frames[row], strict=True):
            rendered = video.frames[[round(pts * tick_seconds * SMALL.fps) for pts in clip["frame_pts"]]]
            # Codec and scaling: 5.3 of 255 at most here; between videos it is 33 in the median.
            assert np.abs(frames.transpose(0, 2, 3, 1) - rendered.astype(int)).mean() < 8


def test_a_world_says_how_it_was_made(store_url: str) -> None:
    """On disk and on object stores, anyone who finds a world can make it again, and train on it."""
    make_world(SMALL, store_url, processes=1)
    assert WorldConfig(**json.loads(store.read_bytes(f"{store_url}/world.json"))) == SMALL
    assert store.read_bytes(f"{store_url}/classes.txt").decode().split() == list(SMALL.classes)
    for split in ("train", "test"):
        assert store.list_files(f"{store_url}/shards/{split}")
        assert store.exists(f"{store_url}/index/{split}/snapshots/000000.json")


def test_a_place_with_something_in_it_is_left_alone(store_url: str) -> None:
    mine = f"{store_url}/thesis.txt"
    store.write_bytes(mine, b"years of work")
    with pytest.raises(InputError, match=r"is not empty \(.*thesis.txt\); give another place, or --overwrite"):
        make_world(SMALL, store_url, processes=1)
    make_world(SMALL, store_url, processes=1, overwrite=True)
    assert store.read_bytes(mine) == b"years of work"


def test_overwriting_leaves_nothing_of_the_old_world(tmp_path) -> None:
    url = str(tmp_path)
    make_world(world_of("a", num_train_videos=5, num_test_videos=2, min_seconds=8, max_seconds=12), url, processes=1)
    make_world(SMALL, url, processes=1, overwrite=True)
    index = load_index(f"{url}/index/train")
    assert index.table.column("video_id").to_pylist() == ["c-train-00000", "c-train-00001", "c-train-00002"]
    assert json.loads(store.read_bytes(f"{url}/world.json"))["kind"] == "c"


def test_half_a_world_does_not_pass_for_one(tmp_path) -> None:
    """world.json comes last, and goes first when a world is replaced."""
    url = str(tmp_path)
    make_world(SMALL, url, processes=1)
    (tmp_path / "index" / "test" / "snapshots" / "000000.json").write_text("{")  # so that replacing it ends half-way
    with pytest.raises(InputError, match="is damaged"):
        make_world(SMALL, url, processes=1, overwrite=True)
    assert not store.exists(f"{url}/world.json")


def test_a_missing_bucket_is_said_before_anything_is_encoded(s3_url: str) -> None:
    endless = world_of("a", num_train_videos=10**9)
    with pytest.raises(StorageError, match="there is no bucket 'nowhere-at-all'"):
        make_world(endless, "s3://nowhere-at-all/world", processes=1)
