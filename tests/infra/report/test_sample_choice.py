"""Which videos a report shows, of an index in many partitions: all are looked at, or some that a hash chooses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from adaptfocus.infra.report import sample_choice
from adaptfocus.infra.report.gather import gather
from adaptfocus.infra.report.sample_choice import Videos, open_videos, rows_of_ids
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index, open_index
from adaptfocus.pipelines.index.partitions import ROW_BITS
from adaptfocus.trainers.runs.open import load_config
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld


@pytest.fixture(scope="module")
def runs(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs on the same 18 videos: the second on an index of many partitions, in windows of two or three videos."""
    folder = tmp_path_factory.mktemp("partitions")
    shards = sorted(set(load_index(small_world.train_index).table["shard_url"].to_pylist()))
    urls = []
    for name, rows in (("whole", 100), ("dealt", 3)):
        index = str(folder / f"{name}-index")
        build_index(shards, index, workers=1, sizes=Sizes(partition_rows=rows))
        urls.append(trained(small_world.run_config(folder, name, f"index={index}", "epochs=1")).url)
    return urls


@pytest.fixture
def read() -> Iterator[list[int]]:
    """The uids of the partitions that are read to choose videos."""
    uids: list[int] = []

    def noted(self, partition, columns=None):
        uids.append(partition.uid)
        return read(self, partition, columns)

    read = Videos.read
    with mock.patch.object(Videos, "read", noted):
        yield uids


def dealt(runs: list[str]) -> Videos:
    config = load_config(runs[1])
    return open_videos(config, open_index(config.index).fingerprint)


def test_a_choice_does_not_depend_on_partitions(runs: list[str]) -> None:
    """By the plain way: all (video, action) pairs that are shown at all, ranked."""
    every = gather(runs[1:], "test", 50, "").samples
    assert len({sample.video_id for sample in every}) == 18
    actions = [(a, s.video_id) for s in every for a in s.actions if a.spike_score is not None]
    missed = sorted(((a.spike_score or 0.0, video) for a, video in actions if a.hit is False), reverse=True)
    weakest = sorted((a.spike_score or 0.0, video) for a, video in actions)
    wanted = list(dict.fromkeys(video for _, video in missed))[:3]
    wanted += [video for video in dict.fromkeys(video for _, video in weakest) if video not in wanted][:3]
    shown = gather(runs[1:], "test", 6, "").samples
    assert [sample.video_id for sample in shown] == wanted
    assert not any("looked at" in sample.why for sample in shown)


def test_chance_does_not_depend_on_partitions(runs: list[str]) -> None:
    whole, parts = (gather([url], "test", 0, "").runs[0].hit_chance for url in runs)
    assert whole == pytest.approx(parts, rel=1e-12)


def test_of_a_large_index_some_partitions_are_looked_at(
    runs: list[str], read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_choice, "LOOKED_AT", 5)
    looked = dealt(runs).looked_at
    assert 2 <= len(looked) < len(dealt(runs).partitions)
    assert 5 <= sum(each.rows for each in looked) < 18
    shown = gather(runs[1:], "test", 4, "").samples
    assert set(read) == {each.uid for each in looked}
    rows = {name: row for name, row in _rows(runs).items() if row >> ROW_BITS in set(read)}
    assert {sample.video_id for sample in shown} <= rows.keys()
    assert len(shown) == 4
    count = sum(each.rows for each in looked)
    assert all(sample.why.endswith(f"; of {count} videos that were looked at, of 18") for sample in shown)
    assert [s.video_id for s in gather(runs[1:], "test", 4, "").samples] == [s.video_id for s in shown]


def test_a_video_is_found_by_its_id_in_the_one_partition_that_can_have_it(
    runs: list[str], read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_choice, "LOOKED_AT", 1)
    for name, row in _rows(runs).items():
        read.clear()
        assert [choice.row for choice in rows_of_ids(dealt(runs), [name])] == [row]
        assert read == [row >> ROW_BITS]
    assert rows_of_ids(dealt(runs), ["nobody"]) == []


def _rows(runs: list[str]) -> dict[str, int]:
    table = load_index(str(Path(runs[1]).parent / "dealt-index"), ["video_id"]).table
    return dict(zip(table["video_id"].to_pylist(), table["video_row"].to_pylist(), strict=True))
