"""Official annotation files as they are: at full size with the known counts, and each quirk by itself."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from adaptfocus.pipelines.datasets.breakfast import read_breakfast, video_names
from adaptfocus.pipelines.datasets.charades import read_charades, read_charades_sta
from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.datasets.multithumos import read_multithumos
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo
from adaptfocus.pipelines.datasets.release_summary import Pair, summarise
from adaptfocus.pipelines.errors import ConfigError, InputError
from tests.pipelines.datasets import official_sizes as sizes


def kinds(release: Release) -> Counter[str]:
    return Counter(problem.kind for problem in release.problems)


def by_id(release: Release) -> dict[str, ReleasedVideo]:
    return {video.video_id: video for video in release.videos}


def write(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


def test_charades_at_full_size(tmp_path: Path) -> None:
    sizes.write_charades(tmp_path)
    release = read_release("charades", str(tmp_path))
    summary = summarise(release, [*release.problems, *release.interval_problems()])
    assert summary.classes == 157
    assert summary.unused_classes == []
    test, train = summary.splits
    assert (train.split, train.videos, train.without_labels, train.ends_after_video) == ("train", 7985, 174, 14_596)
    assert (test.split, test.videos, test.without_labels, test.ends_after_video) == ("test", 1863, 49, 5027)
    assert (train.intervals, test.intervals) == (49_809, 16_691)
    assert train.no_time + test.no_time == 7
    # Every interval that ends late begins inside its video here, so it is cut and not dropped.
    assert summary.problems == {"interval_clamped": 14_596 + 5_027, "interval_dropped": 7}


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


def test_breakfast_at_full_size(tmp_path: Path) -> None:
    sizes.write_breakfast(tmp_path)
    release = read_release("breakfast", str(tmp_path))
    summary = summarise(release, release.problems)
    assert (len(release.videos), summary.classes, summary.activities) == (1712, 48, 10)
    assert [split.split for split in summary.splits] == ["s1", "s2", "s3", "s4"]
    assert summary.problems == {}
    video = by_id(release)["P03_cam01_P03_cereals"]
    frames = (tmp_path / "groundTruth" / "P03_cam01_P03_cereals.txt").read_text().split()
    assert video.duration_seconds == pytest.approx(len(frames) / 15)
    assert video.segments is not None
    for start, end, label in video.segments:
        assert set(frames[round(start * 15) : round(end * 15)]) == {label}
    # Where there are no bundles, the usual four splits by person are the same.
    for bundle in (tmp_path / "splits").iterdir():
        bundle.unlink()
    alone = read_breakfast(str(tmp_path))
    assert [v.split for v in alone.videos] == [v.split for v in release.videos]


def test_the_files_are_the_same_from_the_same_seed() -> None:
    assert sizes.multithumos_table(3) == sizes.multithumos_table(3) != sizes.multithumos_table(4)


CHARADES_CLASSES = "c000 Holding some clothes\nc001 Putting clothes somewhere\nc002 Holding some clothes\n"
CHARADES_HEADER = "id,subject,script,actions,length\n"


def test_charades_rows_that_stray(tmp_path: Path) -> None:
    rows = (
        'AAAAA,S1,"Walks in, sits; ""hi""",c001 11.90 21.20;c000 0.00 12.60;c001 1.00 2.00,20.5\n'
        "BBBBB,S1,x,,10\n"
        ",S1,x,c000 0 1,10\n"
        "CCCCC,S1,x,c000 5.00 4.00;c007 1 2;c000 1;c000 one two,ten\n"
    )
    files = {"Charades_v1_classes.txt": CHARADES_CLASSES, "a/Charades_v1_train.csv": CHARADES_HEADER + rows}
    release = read_charades(write(tmp_path, files))
    assert release.classes == (
        "Holding some clothes (c000)",
        "Putting clothes somewhere",
        "Holding some clothes (c002)",
    )
    first, second, third = release.videos
    assert first.labels == ("Putting clothes somewhere", "Holding some clothes (c000)")
    assert first.intervals is not None
    assert first.intervals[0] == ("Putting clothes somewhere", 11.9, 21.2), "clamped when the true length is known"
    assert (first.duration_seconds, first.split, first.activities) == (20.5, "train", first.labels)
    assert (second.labels, second.intervals) == ((), ())
    assert (third.labels, third.duration_seconds) == (("Holding some clothes (c000)",), None)
    wanted = {"bad_row": 1, "label_not_in_classes": 1, "bad_action": 2, "bad_length": 1, "missing_list": 1}
    assert kinds(release) == wanted
    assert Counter(p.kind for p in release.interval_problems()) == {"interval_clamped": 1, "interval_dropped": 1}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no Charades_v1_classes.txt; needed are"),
        ({"Charades_v1_classes.txt": CHARADES_CLASSES}, "there are no lists"),
        ({"a/Charades_v1_classes.txt": "", "b/Charades_v1_classes.txt": ""}, "there are 2 Charades_v1_classes.txt"),
        ({"Charades_v1_classes.txt": "c000\n"}, "line 1: 'c000' is not an id and a name"),
        ({"Charades_v1_classes.txt": "c000 a\nc000 b\n"}, "line 2: the id c000 occurs twice"),
        (
            {"Charades_v1_classes.txt": CHARADES_CLASSES, "Charades_v1_test.csv": "id,actions\n"},
            "there is no column length",
        ),
        (
            {
                "Charades_v1_classes.txt": CHARADES_CLASSES,
                "Charades_v1_train.csv": CHARADES_HEADER + "A,,,,1\n",
                "Charades_v1_test.csv": CHARADES_HEADER + "A,,,,1\n",
            },
            "'A' occurs twice: Charades_v1_train.csv line 2 and Charades_v1_test.csv line 2",
        ),
        (
            {
                "Charades_v1_classes.txt": CHARADES_CLASSES,
                "a/Charades_v1_train.csv": CHARADES_HEADER,
                "b/Charades_v1_train.csv": CHARADES_HEADER,
            },
            "there are 2 Charades_v1_train.csv",
        ),
        (
            {"Charades_v1_classes.txt": CHARADES_CLASSES, "Charades_v1_train.csv": f"{CHARADES_HEADER}{'A' * 200_000}"},
            "does not parse as CSV after line 1",
        ),
        (
            {"Charades_v1_classes.txt": CHARADES_CLASSES, "Charades_v1_test.csv": CHARADES_HEADER + "../A,,,,1\n"},
            "the video id '../A' cannot be used",
        ),
    ],
)
def test_what_is_not_charades_is_said(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_charades(write(tmp_path, files))


def test_charades_sta_lines(tmp_path: Path) -> None:
    text = "AO8RW 0.0 6.9##a person is putting a book on a shelf.\n\nAO8RW 1 2##  \nAO8RW 1##sits.\nAO8RW a b##sits.\n"
    sentences, problems = read_charades_sta([f"{write(tmp_path, {'sta.txt': text})}/sta.txt"])
    (one,) = sentences
    assert (one.video_id, one.start_seconds, one.end_seconds) == ("AO8RW", 0.0, 6.9)
    assert one.text == "a person is putting a book on a shelf."
    assert [(p.kind, p.where) for p in problems] == [("bad_sentence", f"sta.txt line {k}") for k in (3, 4, 5)]


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


COARSE = {
    "segmentation_coarse/tea/P03_cam01_P03_tea.txt": "1-30 SIL  \n31-75 pour_water  \n76-90 SIL\n",
    "segmentation_coarse/tea/P03_cam01_P03_tea.xml": "<xml/>",
    # Frames 11 to 20 have no label, 31 to 40 have two, one line is invalid, and a label continues in the next line.
    "segmentation_coarse/milk/P20_stereo01_P20_milk.txt": "1-10 SIL\n21-40 pour_milk\n31-45 pour_milk\n46-x SIL\n",
    "segmentation_coarse/milk/notes.txt": "hello\n",
    "segmentation_coarse/milk/P60_cam01_P60_milk.txt": "1-15 SIL\n",
    "segmentation_coarse/milk/P04_cam01_P04_milk.txt": "\n",
}


def test_breakfast_in_coarse_segments(tmp_path: Path) -> None:
    release = read_breakfast(write(tmp_path, COARSE))
    videos = by_id(release)
    assert release.classes == ("SIL", "pour_milk", "pour_water")
    tea = videos["P03_cam01_P03_tea"]
    assert tea.segments == ((0.0, 2.0, "SIL"), (2.0, 5.0, "pour_water"), (5.0, 6.0, "SIL"))
    assert (tea.labels, tea.activities, tea.split) == (("SIL", "pour_water"), ("tea",), "s1")
    milk = videos["P20_stereo01_P20_milk"]
    assert milk.segments == ((0.0, 20 / 15, "SIL"), (20 / 15, 3.0, "pour_milk"))
    assert milk.split == "s2"
    assert kinds(release) == {"bad_name": 1, "bad_row": 2, "gap_filled": 1, "segment_overlap": 1, "no_split": 1}


def test_labels_of_one_video_in_two_places_are_refused(tmp_path: Path) -> None:
    frames = {f"{folder}/groundTruth/P03_cam01_P03_tea.txt": "SIL\n" for folder in ("a", "b")}
    with pytest.raises(InputError, match=r"there are two P03_cam01_P03_tea.txt .*/a/groundTruth.*/b/groundTruth"):
        read_breakfast(write(tmp_path / "b", frames))
    runs = {"class_list.txt": "1 Run\n", "a/Run.txt": "video_test_1 0 1\n", "b/Run.txt": "video_test_1 0 1\n"}
    with pytest.raises(InputError, match=r"there are two Run.txt"):
        read_multithumos(write(tmp_path / "m", runs))


def test_breakfast_tagged_with_activities(tmp_path: Path) -> None:
    release = read_breakfast(write(tmp_path, COARSE), activities_as_labels=True)
    tea = by_id(release)["P03_cam01_P03_tea"]
    assert release.classes == ("milk", "tea")
    assert (tea.labels, tea.intervals) == (("tea",), None)
    assert tea.segments is not None


def test_breakfast_frames_mapping_and_bundles(tmp_path: Path) -> None:
    files = {
        "groundTruth/P03_cam01_P03_tea.txt": "SIL\n" * 3 + "pour_water\n" * 2,
        "groundTruth/P05_cam01_P05_tea.txt": "SIL\nfly\n",
        "groundTruth/P06_cam01_P06_tea.txt": "SIL\n\nSIL\n",
        "mapping.txt": "0 SIL\n1 pour_water\n",
        "splits/test.split2.bundle": "#bundle\n./data/groundTruth/P03_cam01_P03_tea.txt\n",
        "splits/train.split2.bundle": "P07_cam01_P07_tea.txt\nP05_cam01_P05_tea\n",
        **COARSE,  # frames override coarse segments
    }
    release = read_breakfast(write(tmp_path, files))
    (video,) = release.videos
    assert video.split == "s2", "bundles go before the usual splits by person"
    assert video.segments == ((0.0, 0.2, "SIL"), (0.2, pytest.approx(1 / 3), "pour_water"))
    assert release.classes == ("SIL", "pour_water")
    assert kinds(release) == {"label_not_in_classes": 1, "bad_row": 2, "not_annotated": 1}


def test_breakfast_with_the_bundles_of_one_split_takes_the_others_from_names(tmp_path: Path) -> None:
    """With the bundles of only one split, the other three are the usual ones, of 13 people each."""
    sizes.write_breakfast(
        tmp_path, step_frames=(2, 5)
    )  # all videos, but short: the number of frames has no effect here
    whole = {video.video_id: video.split for video in read_breakfast(str(tmp_path)).videos}
    for bundle in (tmp_path / "splits").iterdir():
        if "split2" not in bundle.name:
            bundle.unlink()
    release = read_breakfast(str(tmp_path))
    assert {video.video_id: video.split for video in release.videos} == whole
    assert kinds(release) == {}
    test = tmp_path / "splits" / "test.split2.bundle"
    first, *rest = [line for line in test.read_text().splitlines() if not line.startswith("#")]
    test.write_text("".join(f"{line}\n" for line in rest))
    name = Path(first).stem
    release = read_breakfast(str(tmp_path))
    assert by_id(release)[name].split is None, "split 2 does not test it, and its person is of no other"
    assert [(p.kind, p.where) for p in release.problems] == [("no_split", name)]


def test_breakfast_names() -> None:
    assert video_names("P03_webcam01_P03_tea") == (("P03_webcam01_P03_tea", "P03/webcam01/P03_tea"), ())
    names, second = video_names("P23_stereo01_P23_tea")
    assert "P23/stereo/P23_tea_ch0" in names
    assert "P23/stereo/P23_tea_ch1" in second


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
