"""Fragments of features: whole ones are used again, parts cross partitions, and two commands do no harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from adaptfocus.pipelines.features.store import open_features
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index, read_partitions
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.trainers.evaluation import extraction as extract_module
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here
from adaptfocus.trainers.evaluation.fragments import Complete, FeatureParts, Made
from adaptfocus.trainers.runs.log import Run
from benchmarks.scaling.corpus import write_corpus
from benchmarks.scaling.synthetic import synthetic_windows
from tests.benchmarks.test_webscale import templates_of
from tests.trainers.evaluation.test_extraction import extracted, job_of, run
from tests.worlds import SmallWorld

__all__ = ["run"]  # a fixture
pytestmark = pytest.mark.usefixtures("one_thread")


def test_windows_that_a_stopped_attempt_has_left_are_not_made_again(
    small_world: SmallWorld, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part takes minutes of a cluster. What is left of a range is used if the whole range is there, and else made
    again, never mixed."""
    monkeypatch.setattr(extract_module, "PART_VIDEOS", 5)
    monkeypatch.setattr(extract_module, "RANGE_VIDEOS", 2)
    out, asked = str(tmp_path / "features"), []

    def first_rows(end: int) -> Callable[..., Any]:
        def make(job: Extraction, ranges: Any, write: FeatureParts) -> Any:
            asked.append([each.start for each in ranges])
            blocks: list[Any] = []
            list(make_here(job, ranges, Mock(write=blocks.append)))
            rows = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
            for video in np.unique(rows["video_row"])[:end].tolist():
                own = {name: values[rows["video_row"] == video] for name, values in rows.items()}
                yield write.write(own)
            raise KeyboardInterrupt

        return make

    job = job_of(run, small_world.test_index)
    for end in (3, 1):  # videos 0, 1, 2, then 2 again: neither attempt has all of videos 2 and 3
        with pytest.raises(KeyboardInterrupt):
            extract(job, out, first_rows(end))
    assert asked == [[0, 2, 4, 5], [2, 4, 5]], asked
    with pytest.raises(KeyboardInterrupt):
        extract(job, out, first_rows(0))
    assert asked.pop() == [2, 4, 5]
    extract(job, out, make_here)
    assert not [*(tmp_path / "features/fragments").rglob("*.parquet")], "they are in parts"
    whole = extracted(run, small_world.test_index, tmp_path / "whole")
    one = open_features(out)
    assert one.facts == whole.facts
    for a, b in zip(one, whole, strict=True):
        assert a.video_id == b.video_id
        np.testing.assert_allclose(a.features, b.features, atol=1e-5)


def test_an_index_of_many_partitions_is_cut_into_parts_as_one_table(
    small_world: SmallWorld, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts cross partitions, and their rows count over all of them; no process holds the rows of the index."""
    monkeypatch.setattr(extract_module, "PART_VIDEOS", 64)
    index, out = str(tmp_path / "index"), str(tmp_path / "features")
    write_corpus(index, 150, templates_of(small_world), in_this_process, Sizes(partition_rows=40))
    assert len(read_partitions(index)) > 3

    def drawn(job: Extraction, ranges: Any, write: FeatureParts) -> Any:
        for each in ranges:
            for row, video in each.videos():
                yield write.write(synthetic_windows(row, job.shape.steps(video["duration_seconds"]), 3))

    facts = extract(job_of(run, index, stride=9.0), out, drawn)
    assert facts["parts"] == ["000000", "000001", "000002"]
    table = load_index(index).table
    found = [*open_features(out)]
    assert [each.video_id for each in found] == table["video_id"].to_pylist()
    assert [each.video_row for each in found] == list(range(150))
    assert [list(each.labels) for each in found] == table["labels"].to_pylist()
    for row, each in enumerate(found):
        assert len(each.features) == -(-each.duration_seconds // 9.0)
        assert np.array_equal(each.features, synthetic_windows(row, len(each.features), 3)["features"])
    assert (facts["videos"], facts["packets_decoded"]) == (150, sum(len(each.features) for each in found))


def test_two_commands_on_one_folder_leave_the_result_of_one(
    small_world: SmallWorld, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One begins while the other has fragments, and ends first: it removes what the other has not joined yet."""
    monkeypatch.setattr(extract_module, "PART_VIDEOS", 3)
    job, out = job_of(run, small_world.test_index), str(tmp_path / "features")
    joined: list[Complete] = []

    def overtaken(job: Extraction, ranges: Any, write: FeatureParts) -> Any:
        made: list[Sequence[Made]] = [*make_here(job, ranges, write)]
        extract(job, out, make_here)
        for each in made:
            joined.extend(Complete(write.part_of(one.video_row), (one.fragment,)) for one in each)
            yield each
        for each in joined:
            write.join(each)  # its fragments are gone, and its part is there

    first, whole = extract(job, out, overtaken), extracted(run, small_world.test_index, tmp_path / "whole")
    assert joined
    assert first == whole.facts
    for a, b in zip(open_features(out), whole, strict=True):
        np.testing.assert_allclose(a.features, b.features, atol=1e-5)


def test_a_part_without_all_its_windows_is_not_written(small_world: SmallWorld, run: Run, tmp_path: Path) -> None:
    def short(job: Extraction, ranges: Any, write: FeatureParts) -> Any:
        for each in ranges:
            for row, video in each.videos():
                windows = job.shape.steps(video["duration_seconds"])
                made = write.write(synthetic_windows(row, windows - (row == 4), 3))
                yield [one._replace(windows=windows) for one in made]

    with pytest.raises(RuntimeError, match=r"\d+ of \d+ windows of .* came back"):
        extract(job_of(run, small_world.test_index), str(tmp_path), short)
    assert not [*(tmp_path / "parts").glob("*")]
