"""MultiTHUMOS' files as they are: at full size with the known counts, and each quirk by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.datasets.multithumos import read_multithumos
from adaptfocus.pipelines.datasets.release import Release
from adaptfocus.pipelines.datasets.release_summary import summarise
from adaptfocus.pipelines.errors import InputError
from tests.pipelines.datasets import official_sizes as sizes
from tests.pipelines.datasets.release_files import by_id, kinds, write


def test_multithumos_at_full_size_in_both_forms(tmp_path: Path) -> None:
    sizes.write_multithumos(tmp_path / "json", as_json=True)
    sizes.write_multithumos(tmp_path / "text", as_json=False)
    table, texts = (read_release("multithumos", str(tmp_path / form)) for form in ("json", "text"))
    for release, timed in ((table, True), (texts, False)):
        summary = summarise(release, release.interval_problems())
        assert (len(release.videos), summary.classes, summary.unused_classes) == (413, 65, [])
        assert [(split.split, split.videos) for split in summary.splits] == [("test", 213), ("train", 200)]
        assert sum(split.intervals for split in summary.splits) == 38_690
        assert sum(split.no_time for split in summary.splits) == 7
        assert sum(split.ends_after_video for split in summary.splits) == (65 if timed else 0)
        assert (summary.splits[0].hours is not None) == timed
        assert kinds(release) == {}
    assert table.classes == texts.classes
    for video_id, video in by_id(table).items():
        other = by_id(texts)[video_id]
        assert sorted(video.intervals or ()) == sorted(other.intervals or ())
        assert (set(video.labels), video.split) == (set(other.labels), other.split)


def test_multithumos_that_strays(tmp_path: Path) -> None:
    files = {
        "class_list.txt": "1 Run\n2 Jump\n3 Sit\n",
        "annotations/Run.txt": "video_test_0000004 1.0 2.0\nvideo_test_0000004 3\n\nvideo_nowhere_1 5.0 4.0\n",
        "annotations/Jump.txt": "video_validation_0000051 0.5 0.9\n",
        "annotations/README.txt": "not a class\n",
    }
    release = read_multithumos(write(tmp_path, files))
    assert kinds(release) == {"bad_row": 1, "missing_list": 1, "no_split": 1}
    splits = {video.video_id: video.split for video in release.videos}
    assert splits == {"video_test_0000004": "test", "video_validation_0000051": "train", "video_nowhere_1": None}
    assert release.classes == ("Run", "Jump", "Sit")


def test_multithumos_classes_begin_at_one(tmp_path: Path) -> None:
    def read(number: int) -> Release:
        actions = [[number, 0.0, 1.0], [1, "x", 2], [3, 1, 2]]
        table = {"video_test_0000004": {"subset": "testing", "duration": 9, "actions": actions}, "video_test_5": {}}
        write(tmp_path, {"class_list.txt": "1 Run\n2 Jump\n", "m.json": json.dumps(table)})
        return read_multithumos(str(tmp_path / "m.json"))

    release = read(2)
    assert release.videos[0].intervals == (("Jump", 0.0, 1.0),)
    assert kinds(release) == {"bad_row": 2, "label_not_in_classes": 1}
    with pytest.raises(InputError, match="video_test_0000004 has the class 0; MultiTHUMOS's classes are 1 to 2"):
        read(0)
    (tmp_path / "class_list.txt").unlink()
    with pytest.raises(InputError, match=r"there is no class_list.txt"):
        read_multithumos(str(tmp_path / "m.json"))
