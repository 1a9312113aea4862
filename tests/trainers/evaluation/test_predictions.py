"""Probabilities of an evaluation: they come in any order, and are saved in parts by whoever makes them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, write_plan
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.plan.views import plan_views, view_centers_seconds
from adaptfocus.pipelines.store.tables import write_table
from adaptfocus.trainers.evaluation import predictions
from adaptfocus.trainers.evaluation.predictions import PREDICTIONS_SCHEMA, Block, PartWriter, Prediction, in_parts
from adaptfocus.trainers.metrics.video import max_and_mean_over_views
from adaptfocus.trainers.runs.log import Run

VIEWS, CLASSES = 20, 157


def some(videos: int, seed: int = 0) -> Iterator[Prediction]:
    """Predictions of two checkpoints, in a drawn order; the last video did not decode."""
    random = np.random.default_rng(seed)
    for slot in random.permutation(videos).tolist():
        p = np.random.default_rng(slot).random((2, VIEWS, CLASSES), np.float32)
        yield slot, slot != videos - 1, p


def plan_of(folder: Path, videos: int) -> tuple[PlanFacts, np.ndarray]:
    """A plan of videos of 40 to 60 s, and the times of their views."""
    rows = {"video_id": [f"v{n}" for n in range(videos)], "labels": [["a"]] * videos, "intervals": [[]] * videos}
    numbers = {"duration_seconds": np.linspace(40, 60, videos), "frame_rate_hz": np.full(videos, 25.0)}
    planner, clip = Planner.of(pa.table(rows | numbers), ["a"]), ClipConfig()
    plan = write_plan(plan_views(planner, clip, VIEWS), str(folder / "plan"), 0)
    return plan, view_centers_seconds(planner, np.arange(videos), clip, VIEWS)


def writer_of(run: Run, plan: PlanFacts, size: int) -> PartWriter:
    return PartWriter(run.url, plan, (("first", 3), ("test", 4)), VIEWS, 1, DecodeConfig(), True, size)


def saved(folder: Path, videos: int, size: int = 4) -> tuple[Run, PartWriter, np.ndarray]:
    run, (plan, centers) = Run(str(folder)), plan_of(folder, videos)
    write = writer_of(run, plan, size)
    done = [write(block) for block in in_parts(some(videos), videos, size)]
    assert (sum(each.videos for each in done), sum(each.undecodable for each in done)) == (videos, 1)
    return run, write, centers


def test_what_is_saved_in_parts_is_read_in_order(tmp_path: Path) -> None:
    with mock.patch.object(predictions, "VIDEOS_PER_PART", 4):
        run, write, centers = saved(tmp_path, 10)
        tables = list(predictions.read(run, "test", 10))
        ids = [t["video_id"].to_pylist() for t in predictions.read(run, "test", 10, ["video_id"])]
    assert ids == [["v0", "v1", "v2", "v3"], ["v4", "v5", "v6", "v7"], ["v8", "v9"]]
    rows = pa.concat_tables(tables).to_pylist()
    assert [row["slot"] for row in rows] == list(range(10))
    assert [row["ok"] for row in rows] == [True] * 9 + [False]
    for slot, row in enumerate(rows):
        own = np.random.default_rng(slot).random((2, VIEWS, CLASSES), np.float32)
        assert row["probability"] == own[1].ravel().tolist()
        assert row["center_seconds"] == centers[slot].tolist()
        assert row["crop_place"] == [0] * VIEWS
    own = np.stack([np.random.default_rng(slot).random((2, VIEWS, CLASSES), np.float32)[1] for slot in range(10)])
    own[9] = -np.inf  # it did not decode, and ranks last
    classes = range(155, 157)
    largest, mean = (each[:, 155:].T for each in max_and_mean_over_views(own))
    assert (write.read_ranked("test", classes) == np.stack([largest, mean], axis=1)).all()
    assert (write.read_moments("test", classes) == own[..., 155:].transpose(2, 0, 1)).all()


def test_the_file_of_an_earlier_version_is_read_until_it_is_replaced(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    row = {
        "slot": 0,
        "video_id": "old",
        "ok": False,
        "center_seconds": [1.0],
        "crop_place": [0.0],
        "probability": [0.5],
    }
    write_table(pa.Table.from_pylist([row], PREDICTIONS_SCHEMA), run.at("evaluations", "test", "predictions.parquet"))
    assert [t.to_pylist() for t in predictions.read(run, "test", 1, ["video_id", "ok"])] == [
        [{"video_id": "old", "ok": False}]
    ]
    predictions.forget(run, "test")
    saved(tmp_path, 1, 128)
    assert [t["video_id"].to_pylist() for t in predictions.read(run, "test", 1)] == [["v0"]]


def test_fewer_videos_leave_no_part_of_the_earlier_ones(tmp_path: Path) -> None:
    """Whoever reads the folder as one table would find the earlier videos in it."""
    with mock.patch.object(predictions, "VIDEOS_PER_PART", 4):
        run, *_ = saved(tmp_path, 10)
        predictions.forget(run, "test")
        saved(tmp_path, 3)
        assert [path.name for path in (tmp_path / "evaluations/test/predictions").iterdir()] == ["part-00000.parquet"]
        with pytest.raises(InputError, match=r"part-00000.parquet has 3 videos where the scores are of 4: .*overwrite"):
            list(predictions.read(run, "test", 10))


def test_a_video_that_is_missing_or_came_twice_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="2 of 3 videos came back from prediction"):
        list(in_parts([*some(3)][:2], 3, 2))
    with pytest.raises(RuntimeError, match="came back from prediction twice"):
        list(in_parts([*some(3)][:2] * 2, 3, 3))


def test_only_whole_parts_of_finite_numbers_are_written(tmp_path: Path) -> None:
    plan, _ = plan_of(tmp_path, 6)
    write = writer_of(Run(str(tmp_path)), plan, 4)
    first, second = sorted(in_parts(some(6), 6, 4), key=lambda each: each.slots[0])
    for slots in ([0, 1, 2], [1, 2, 3, 4], [4, 5, 6, 7]):
        with pytest.raises(RuntimeError, match="are not part"):
            write(Block(np.array(slots), first.ok[: len(slots)], first.probability[: len(slots)]))
    (probability := second.probability.copy())[1, 1, 3, 7] = np.nan
    with pytest.raises(InputError, match=r"checkpoint 4 of .* not finite \(video 5 of the index"):
        write(second._replace(probability=probability))
    assert not (tmp_path / "evaluations/test/predictions/part-00001.parquet").exists()


def test_writing_takes_the_memory_of_the_parts_that_are_open(tmp_path: Path) -> None:
    """All videos were in memory once: 13 KB each, for every checkpoint."""
    videos = 8 * predictions.VIDEOS_PER_PART
    plan, _ = plan_of(tmp_path, videos)
    write = writer_of(Run(str(tmp_path)), plan, predictions.VIDEOS_PER_PART)
    one = np.random.default_rng(0).random((2, VIEWS, CLASSES), np.float32)
    tracemalloc.start()
    for block in in_parts(((slot, True, one.copy()) for slot in range(videos)), videos, write.videos_per_part):
        write(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4.5 * predictions.VIDEOS_PER_PART * one.nbytes
