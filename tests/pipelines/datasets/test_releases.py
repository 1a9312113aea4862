"""Releases of all data sets: their formats and options, a summary, and a choice of splits and classes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from adaptfocus.pipelines.datasets.breakfast import read_breakfast
from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.datasets.multithumos import read_multithumos
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo
from adaptfocus.pipelines.datasets.release_summary import Pair, summarise
from adaptfocus.pipelines.errors import ConfigError, InputError
from tests.pipelines.datasets import official_sizes as sizes
from tests.pipelines.datasets.release_files import by_id, kinds, write


def test_the_files_are_the_same_from_the_same_seed() -> None:
    assert sizes.multithumos_table(3) == sizes.multithumos_table(3) != sizes.multithumos_table(4)


def test_labels_of_one_video_in_two_places_are_refused(tmp_path: Path) -> None:
    frames = {f"{folder}/groundTruth/P03_cam01_P03_tea.txt": "SIL\n" for folder in ("a", "b")}
    with pytest.raises(InputError, match=r"there are two P03_cam01_P03_tea.txt .*/a/groundTruth.*/b/groundTruth"):
        read_breakfast(write(tmp_path / "b", frames))
    runs = {"class_list.txt": "1 Run\n", "a/Run.txt": "video_test_1 0 1\n", "b/Run.txt": "video_test_1 0 1\n"}
    with pytest.raises(InputError, match=r"there are two Run.txt"):
        read_multithumos(write(tmp_path / "m", runs))


ANET = {
    "version": "1.3",
    "database": {
        "a_b-c": {
            "duration": 10.5,
            "subset": "training",
            "annotations": [
                {"label": "Fly", "segment": [1, 12]},
                {"label": "Dig", "segment": [4.0, 3.0]},
                {"label": "Dig", "segment": [4.0]},
                {"segment": [1, 2]},
            ],
        },
        "v": {"duration": "5", "subset": "validation", "annotations": [{"label": "Fly", "segment": [0, 5]}]},
        "w": {"subset": "testing", "annotations": []},
        "x": None,
    },
}


def test_activitynet(tmp_path: Path) -> None:
    url = f"{write(tmp_path, {'a.json': json.dumps(ANET)})}/a.json"
    release = read_release("activitynet", url)
    assert release.classes == ("Dig", "Fly")
    videos = by_id(release)
    assert videos["a_b-c"].names == ("v_a_b-c", "a_b-c")
    assert videos["a_b-c"].labels == ("Fly", "Dig")
    assert [v.split for v in release.videos] == ["train", "validation", "test"]
    assert kinds(release) == {"bad_row": 3, "bad_length": 1}
    assert Counter(p.kind for p in release.interval_problems()) == {"interval_clamped": 1, "interval_dropped": 1}
    ordered = read_release("activitynet", url, classes=["Fly", "Run"])
    assert ordered.classes == ("Fly", "Run")
    assert kinds(ordered)["label_not_in_classes"] == 1
    for text, said in (("[]", "holds a list"), ("{", "is not usable JSON"), ("{}", "has no 'database'")):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=said):
            read_release("activitynet", url)


def test_a_csv_with_and_without_paths(tmp_path: Path) -> None:
    url = f"{write(tmp_path, {'l.csv': 'id,path,labels,intervals,split'})}/l.csv"
    (tmp_path / "l.csv").write_text("id,path,labels,intervals,split\nk/a,,walk;sit,walk 5 4,train\n,b.mp4,run,,test\n")
    release = read_release("csv", url)
    first, second = release.videos
    assert (first.video_id, first.names, first.path) == ("k/a", ("k/a",), None)
    assert (second.video_id, second.path, second.intervals) == ("b", str(tmp_path / "b.mp4"), None)
    assert release.classes == ("run", "sit", "walk")
    (tmp_path / "l.csv").write_text("id,path,labels\n,,walk\n")
    with pytest.raises(InputError, match="line 2: 'path' is empty"):
        read_release("csv", url)


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    for options, said in (
        ({"classes": ["a"]}, "--classes belongs to the format activitynet or csv, not to charades"),
        ({"activities_as_labels": True}, "--labels activities belongs to the format breakfast"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_release("charades", str(tmp_path), **options)
    with pytest.raises(ConfigError, match="--sentences belongs to the format charades"):
        read_release("csv", "x.csv", sentences_urls=["a.txt"])
    with pytest.raises(ConfigError, match="there is no format 'kinetics'; there are: charades, breakfast"):
        read_release("kinetics", "x")


def small_release() -> Release:
    videos = (
        ReleasedVideo("a", "train", ("x", "y"), (("x", 0.0, 1.0), ("y", 0.0, 9.0)), 3600.0, ("x", "y")),
        ReleasedVideo("b", "train", ("x", "y"), (("x", 2.0, 1.0),), 1800.0, ("x", "y")),
        ReleasedVideo("c", "test", ("x",), None, None, ("x",)),
        ReleasedVideo("d", "test", (), (), 1.0, ()),
    )
    return Release("small", ("x", "y", "z"), videos)


def test_a_summary_by_hand() -> None:
    summary = asdict(summarise(small_release(), small_release().interval_problems()))
    test, train = summary["splits"]
    assert train == {"split": "train", "videos": 2, "without_labels": 0, "labels": 4, "hours": 1.5, "intervals": 3,
                     "ends_after_video": 0, "no_time": 1}  # fmt: skip
    assert (test["hours"], test["without_labels"]) == (None, 1)
    assert summary["unused_classes"] == ["z"]
    # x is in 3 of 4 videos, y in 2 of 4: together expected in 4 * 3/4 * 2/4 = 1.5 and found in 2.
    assert summary["pairs"] == [asdict(Pair(("x", "y"), 2, 1.33))]
    assert summary["videos_of_a_class"] == (2, 2, 3)
    assert summary["labels_of_a_video"] == pytest.approx(5 / 3, abs=1e-3)
    assert summary["problems"] == {"interval_dropped": 1}


def test_splits_and_classes_are_chosen() -> None:
    release = small_release()
    assert [v.video_id for v in release.of_splits(["test"]).videos] == ["c", "d"]
    assert release.of_splits([]) == release
    with pytest.raises(InputError, match="no video of 4 is in the split 'val'; there are: test, train"):
        release.of_splits(["train", "val"])
    without = release.without_labels(["y"])
    assert without.classes == ("x", "z")
    assert without.videos[0].intervals == (("x", 0.0, 1.0),)
    assert (without.videos[0].labels, without.videos[0].activities) == (("x",), ("x",))
    with pytest.raises(InputError, match="'w' cannot be left out: it is not among the 3 classes"):
        release.without_labels(["w"])
