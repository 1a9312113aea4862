"""Full uses a clip outside all intervals as a negative. Without intervals of a label this is not known for any clip."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest

from adaptfocus.infra.running.planning import first_plan, left_out_line
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index import partitions
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index, open_index
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.inputs.unused_videos import Unused, describe_unused, find_unused
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.run import TrainConfig
from tests.footage import encode, write_tar
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld, change_rows


def config(regime: str, *settings: str) -> TrainConfig:
    return make(TrainConfig, {"name": "a", "runs": "/r", "index": "/i"}, [f"focus.regime={regime}", *settings])


def spans(*labels: str) -> list[dict]:
    return [{"label": label, "start_seconds": 1.0, "end_seconds": 2.0} for label in labels]


VIDEOS = pa.Table.from_pylist(
    [
        {"labels": ["x"], "intervals": spans("x")},
        {"labels": ["x"], "intervals": None},  # not annotated
        {"labels": ["x"], "intervals": []},  # annotated, but x has no interval
        {"labels": ["x", "y"], "intervals": spans("y")},  # x has no interval
        {"labels": ["x", "y"], "intervals": spans("y", "x", "y")},
        {"labels": [], "intervals": []},  # annotated, and shows nothing
        {"labels": [], "intervals": None},  # a negative of all classes, as in every regime
    ],
    schema=pa.schema(
        [
            ("labels", pa.list_(pa.string())),
            ("intervals", pa.list_(pa.struct([("label", pa.string()), ("start_seconds", pa.float64()),
                                              ("end_seconds", pa.float64())]))),
        ]
    ),
)  # fmt: skip


def test_full_leaves_out_what_lacks_an_interval_of_a_label() -> None:
    assert find_unused(config("full"), VIDEOS) == [1, 2, 3]
    said = describe_unused(Unused(3, 0), 7)
    assert "leaves out 3 of 7 videos" in said
    assert said.endswith("true: they have a label without an interval")


@pytest.mark.parametrize("regime", ["noisy", "ours", "full"])
def test_videos_without_labels_are_left_out_where_that_is_asked_for(regime: str) -> None:
    found = find_unused(config(regime, "plan.unlabelled=left_out"), VIDEOS)
    assert found == ([1, 2, 3, 5, 6] if regime == "full" else [5, 6])
    assert describe_unused(Unused(0, 2), 7) == "plan.unlabelled=left_out leaves out 2 of 7 videos"


@pytest.mark.parametrize("regime", ["noisy", "ours"])
def test_weak_regimes_need_no_intervals(regime: str) -> None:
    assert find_unused(config(regime), VIDEOS) == []


def index_with(world: SmallWorld, folder: Path, kept: int) -> str:
    """The small world's index, of whose videos only the first `kept` have intervals."""
    copy, seen = folder / "index", itertools.count()
    shutil.copytree(world.train_index, copy)
    change_rows(copy, lambda row: row if next(seen) < kept else row | {"intervals": None})
    return str(copy)


def test_full_plans_the_videos_that_it_knows_and_says_what_it_leaves_out(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    index = index_with(small_world, tmp_path, 11)
    run = small_world.run_config(tmp_path, "full", "focus.regime=full", f"index={index}")
    prepare(run)
    plan = first_plan(run, str(tmp_path / "plan"))
    assert plan.num_bags + len(plan.carried) == 11
    known = load_index(index).table.column("intervals").is_valid().to_pylist()
    drawn = [
        row for url, *rows in plan.slices() for row in read_table(url, PLAN_SCHEMA, *rows)["video_row"].to_pylist()
    ]
    assert all(known[row] for row in [*drawn, *plan.carried])
    assert left_out_line(run) == (
        "focus.regime=full leaves out 7 of 18 videos, because nobody knows when their labels are true: "
        "they have a label without an interval"
    )
    weak = small_world.run_config(tmp_path, "ours", f"index={index}")
    assert left_out_line(weak) is None
    weak_plan = first_plan(weak, str(tmp_path / "weak"))
    assert weak_plan.num_bags + len(weak_plan.carried) == 18


def test_too_few_that_are_known_are_refused_before_training(small_world: SmallWorld, tmp_path: Path) -> None:
    index = index_with(small_world, tmp_path, 3)
    with pytest.raises(
        ConfigError, match=r"3 usable videos, fewer than .*leaves out 15 of 18 videos.*without an interval"
    ):
        prepare(small_world.run_config(tmp_path, "full", "focus.regime=full", f"index={index}"))


def test_what_an_index_has_gained_since_a_run_began_is_not_counted(small_world: SmallWorld, tmp_path: Path) -> None:
    """30 videos without labels come to the index of a run that leaves such out. Counts are of the run's 18 videos."""
    tars, index = tmp_path / "tars", str(tmp_path / "index")
    shards = sorted(set(load_index(small_world.train_index).table["shard_url"].to_pylist()))
    build_index(shards, index, workers=1)
    run = small_world.run_config(tmp_path, "run", f"index={index}", "plan.unlabelled=left_out", "epochs=1")
    trained(run)
    tars.mkdir()
    write_tar(tars / "more.tar", {f"more{number}.mp4": encode(5) for number in range(30)})
    build_index([*shards, str(tars)], index, workers=1)
    assert open_index(index).unlabelled == 30
    with mock.patch.object(partitions, "read_partition", side_effect=AssertionError("rows are read")):
        found = prepare(run)
    assert (found.index.videos, found.left_out.videos) == (18, 0)
    assert left_out_line(run) is None
    new = small_world.run_config(tmp_path, "new", f"index={index}", "plan.unlabelled=left_out")
    assert left_out_line(new) == "plan.unlabelled=left_out leaves out 30 of 48 videos"
