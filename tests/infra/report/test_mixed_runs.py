"""A page of runs on several indexes: each with the names and the indexes that it was trained with."""

from __future__ import annotations

import pytest

from adaptfocus.infra.report.data import ReportData
from adaptfocus.infra.report.gather import gather
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld


@pytest.fixture(scope="module")
def page(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Three runs: plain, with another name for a label, and with another second index that has the same videos."""
    folder = tmp_path_factory.mktemp("mixed")
    other = str(folder / "other")
    build_index([str(small_world.folder / "shards-test")], other, workers=1, sizes=Sizes(partition_rows=3))
    first = small_world.config.classes[0]
    urls = []
    for name, more in (
        ("plain", f"{{index: {small_world.train_index}}}"),
        ("renamed", f"{{index: {small_world.train_index}, labels: {{{first}: renamed}}}}"),
        ("elsewhere", f"{{index: {other}}}"),
    ):
        config = small_world.run_config(
            folder, name, f"index={small_world.test_index}", f"mixture.more=[{more}]", "plan.bags_per_epoch=4",
            "epochs=1", "plan.clips_per_bag=1",
        )  # fmt: skip
        urls.append(trained(config).url)
    wanted = next(
        row["video_id"] for row in load_index(small_world.train_index).table.to_pylist() if first in row["labels"]
    )
    return gather(urls, "test", 2, "", [wanted, load_index(other).table["video_id"][0].as_py()])


def test_a_video_has_the_labels_that_each_run_gives_it(small_world: SmallWorld, page: ReportData) -> None:
    first = small_world.config.classes[0]
    labels = {sample.run: sample.labels for sample in page.samples if sample.video_id == page.samples[0].video_id}
    assert labels.keys() == {"plain", "renamed"}
    assert first in labels["plain"]
    assert labels["renamed"] == [*(each for each in labels["plain"] if each != first), "renamed"]


def test_runs_on_other_indexes_are_no_repeats_of_each_other(page: ReportData) -> None:
    assert len({row.regime for row in page.runs}) == 3
    assert len({row.settings["mixture.more"] for row in page.runs}) == 3


def test_a_video_that_is_in_two_indexes_is_shown_twice(page: ReportData) -> None:
    shown = [sample.video_id for sample in page.samples if sample.run == "elsewhere"]
    assert len(shown) == 2
    assert len(set(shown)) == 1
