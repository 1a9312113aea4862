"""Probabilities of an evaluation: gathered in any order, saved in parts, in memory that does not depend on lists."""

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
from adaptfocus.pipelines.store.tables import write_table
from adaptfocus.trainers.evaluation import predictions
from adaptfocus.trainers.evaluation.predictions import PREDICTIONS_SCHEMA, Prediction, Predictions
from adaptfocus.trainers.runs.log import Run

VIEWS, CLASSES = 20, 157


def planner_of(videos: int) -> Planner:
    table = {"video_id": [f"v{n}" for n in range(videos)], "labels": [["a"]] * videos}
    return Planner.of(pa.table(table), ["a"])


def some(videos: int, seed: int = 0) -> Iterator[Prediction]:
    """Predictions of two checkpoints, in a drawn order; the last video did not decode."""
    random = np.random.default_rng(seed)
    for slot in random.permutation(videos).tolist():
        p = np.random.default_rng(slot).random((2, VIEWS, CLASSES), np.float32)
        yield slot, slot != videos - 1, p


def saved(folder: Path, videos: int) -> tuple[Run, Predictions, np.ndarray]:
    run, found = Run(str(folder)), Predictions.gather(some(videos), videos)
    centers = np.arange(videos * VIEWS, dtype=float).reshape(videos, VIEWS)
    predictions.save(run, "test", planner_of(videos), centers, 1, DecodeConfig(), found.ok, found.probability[1])
    return run, found, centers


def test_what_is_saved_in_parts_is_read_in_order(tmp_path: Path) -> None:
    with mock.patch.object(predictions, "VIDEOS_PER_PART", 4):
        run, _, centers = saved(tmp_path, 10)
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
    saved(tmp_path, 1)
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
    twice = [*some(3)][:2] * 2
    for found in ([*some(3)][:2], twice):
        with pytest.raises(RuntimeError, match="of 3 videos came back from prediction"):
            Predictions.gather(found, 3)


def test_gathering_and_saving_takes_little_more_than_the_numbers(tmp_path: Path) -> None:
    """As lists of Python floats, the numbers took eight times as much."""
    videos = 8 * predictions.VIDEOS_PER_PART
    tracemalloc.start()
    _, found, _ = saved(tmp_path, videos)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * found.probability.nbytes
