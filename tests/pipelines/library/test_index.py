"""An index as a program uses it: videos by id, a partition at a time, in any process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.library import Index, open_index
from adaptfocus.pipelines.library import index as module
from tests.worlds import SmallWorld

ROOT = Path(__file__).resolve().parents[3]


def test_each_video_is_found_by_its_id_and_by_its_row(index: Index) -> None:
    videos = list(index)
    assert len(videos) == len(index) == 18
    assert len(index.partitions) > 3
    for video in videos:
        assert index[video.id] == index[video.row["video_row"]] == video
        assert set(video.labels) <= set(index.classes)
        assert all(0 <= each.start_seconds < each.end_seconds for each in video.intervals or ())


def test_what_is_not_there_is_said(index: Index) -> None:
    assert "a-train-00000" in index
    assert "another" not in index
    assert 12 << 24 not in index
    with pytest.raises(InputError, match="has no video with the id 'another'; it has 18 videos"):
        index["another"]
    with pytest.raises(InputError, match="no video with the video_row 99"):
        index[99]


def test_only_a_few_partitions_are_held(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTITIONS_HELD", 2)
    one = open_index(index.url)
    assert [one[video.id] for video in index] == list(index)
    assert one._rows.cache_info().currsize == 2


def test_another_process_gets_none_of_the_rows(index: Index) -> None:
    index["a-train-00000"]
    data = pickle.dumps(index)
    assert len(data) < 10_000
    assert pickle.loads(data)["a-train-00003"] == index["a-train-00003"]


def test_the_names_come_without_torch_and_without_ray(small_world: SmallWorld) -> None:
    """A notebook that looks at clips must not wait for what it does not use."""
    script = (
        "import sys, adaptfocus\n"
        "assert len(sys.modules) < 120, len(sys.modules)\n"
        f"index = adaptfocus.open_index({small_world.train_index!r})\n"
        "clip = adaptfocus.ClipConfig(frames=2, size_pixels=8)\n"
        "assert not adaptfocus.Clips(index, adaptfocus.uniform(index, clip), clip, isolation=None)[0]['error']\n"
        "assert not {'torch', 'ray'} & set(sys.modules)\n"
        "assert set(adaptfocus.__all__) >= {'open_index', 'Clips', 'Run', 'windows'}\n"
        "assert all(hasattr(adaptfocus, name) for name in adaptfocus.__all__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
