"""Official releases, real videos, one command: shards, an index of them, and what downstream tasks read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.tasks import read_activities, read_grounding, read_segmentation
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from tests.footage import encode, write_tar

CLIP = {"options": {"g": "10"}}  # 10 frames a second


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def indexed(shards: Path, folder: Path) -> tuple[tuple[str, ...], dict[str, dict]]:
    """Class list, and rows by id, of an index of the shards."""
    build_index([str(shards)], str(folder), workers=1)
    index = load_index(str(folder), columns=["video_id", "labels", "intervals", "duration_seconds"])
    return tuple(index.classes), {row["video_id"]: row for row in index.table.to_pylist()}


def times(row: dict) -> list[tuple]:
    spans = row["intervals"]
    return [(span["label"], round(span["start_seconds"], 3), round(span["end_seconds"], 3)) for span in spans]


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    header = "id,subject,script,actions,length\n"
    return put(
        tmp_path / "charades",
        {
            "Charades/Charades_v1_classes.txt": "c000 Holding some clothes\nc001 Opening a door\nc002 Running\n",
            "Charades/Charades_v1_train.csv": header
            + "AAAA1,S,x,c001 0.50 9.90;c000 1.00 2.00;c001 2.00 1.00,3.9\nAAAA2,S,x,,2\nGONE1,S,x,c000 0 1,9\n",
            "Charades/Charades_v1_test.csv": header + "TTTT1,S,x,c000 0.00 1.00,2\n",
            "sta_train.txt": "AAAA1 0.0 7.5##person opens a door.\nAAAA1 8 9##late.\nGONE1 0 1##gone.\n",
            "sta_test.txt": "TTTT1 0.2 0.9##person holds clothes.\n",
            "Charades_v1_480/AAAA1.mp4": encode(40, **CLIP),
            "Charades_v1_480/AAAA2.mkv": encode(20, container="matroska", **CLIP),
            "Charades_v1_480/TTTT1.mp4": encode(20, **CLIP),
        },
    )


def test_charades(type_, charades: Path, tmp_path: Path) -> None:
    words = ["pack", "--format", "charades", "--annotations", charades, "--videos", charades, "--split", "train"]
    words += ["--sentences", charades / "sta_train.txt", "--sentences", charades / "sta_test.txt"]
    code, out, _ = type_(*words, "--out", tmp_path / "train", "--problems", tmp_path / "problems.jsonl")
    assert code == 0
    assert "2 videos, 0.1 minutes, 3 classes" in out
    for counted in ("interval_clamped 1", "interval_dropped 1", "missing_video 1", "moment_clamped 1"):
        assert counted in out
    assert "not found: GONE1" in out
    rows = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    assert ("missing_video", "GONE1") in {(row["kind"], row["where"]) for row in rows}
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("sentence_without_video"), kinds.count("moment_dropped")) == (1, 1)
    classes, videos = indexed(tmp_path / "train", tmp_path / "index")
    assert classes == ("Holding some clothes", "Opening a door", "Running"), "in the order of their ids"
    assert videos["AAAA1"]["labels"] == ["Opening a door", "Holding some clothes"]
    assert times(videos["AAAA1"]) == [("Opening a door", 0.5, 4.0), ("Holding some clothes", 1.0, 2.0)]
    assert (videos["AAAA2"]["labels"], videos["AAAA2"]["intervals"]) == ([], [])
    active = read_activities(str(tmp_path / "train/annotations/activity.jsonl"))
    assert [(v.video_id, v.split, v.activities) for v in active] == [
        ("AAAA1", "train", ("Opening a door", "Holding some clothes")),
        ("AAAA2", "train", ()),
    ]
    (moment,) = read_grounding(str(tmp_path / "train/annotations/grounding.jsonl"))
    assert (moment.video_id, moment.start_seconds, moment.end_seconds) == ("AAAA1", 0.0, 4.0)
    assert moment.sentence == "person opens a door."
    assert not store.exists(str(tmp_path / "train/annotations/segmentation.jsonl"))


def test_shards_that_do_not_say_when(type_, charades: Path, tmp_path: Path) -> None:
    words = ["pack", "--format", "charades", "--annotations", charades, "--videos", charades, "--leave-out", "Running"]
    code, out, _ = type_(*words, "--no-intervals", "--json", "--out", tmp_path / "all")
    assert code == 0
    done = json.loads(out)
    assert (done["videos"], done["classes"]) == (3, ["Holding some clothes", "Opening a door"])
    _, videos = indexed(tmp_path / "all", tmp_path / "index")
    assert videos["AAAA1"]["intervals"] is None
    assert videos["AAAA1"]["labels"] == ["Opening a door", "Holding some clothes"]


def test_a_release_is_checked_without_packing(type_, charades: Path, tmp_path: Path) -> None:
    words = ["pack", "--format", "charades", "--annotations", charades, "--validate"]
    code, out, _ = type_(*words)
    assert code == 0
    assert "charades: 4 videos, 3 classes, 2 activities" in out
    assert "missing_video" not in out, "without --videos nobody looks for them"
    code, out, _ = type_(*words, "--videos", charades, "--json")
    summary = json.loads(out)
    assert summary["problems"] == {"interval_clamped": 1, "interval_dropped": 1, "missing_video": 1}
    assert summary["unused_classes"] == ["Running"]
    test, train = summary["splits"]
    assert (train["videos"], train["without_labels"], train["ends_after_video"], train["no_time"]) == (3, 1, 1, 1)
    assert test["hours"] == 0.0
    code, out, _ = type_(*words, "--videos", charades, "--sentences", charades / "sta_train.txt")
    assert "3 sentences" in out
    assert "moment_clamped 1 sta_train.txt line 1 (AAAA1): 0 to 7.5 s was cut to 0 to 3.9 s" in out
    assert "moment_dropped 1 sta_train.txt line 2 (AAAA1)" in out
    assert "missing_video 1 GONE1: no video is called GONE1.*" in out
    assert "Holding some clothes + Opening a door 1" in out
    code, out, _ = type_(*words, "--videos", tmp_path / "nowhere")
    assert "missing_video 4" in out
    assert "not found: AAAA1, AAAA2, GONE1, TTTT1" in out


def test_tars_that_are_there_already_get_their_tags_from_a_list(type_, charades: Path, tmp_path: Path) -> None:
    clips = {f"{name}.mp4": encode(40, **CLIP) for name in ("AAAA1", "TTTT1")}
    write_tar(tmp_path / "mine" / "0.tar", clips)
    words = ["pack", "--format", "charades", "--annotations", charades, "--sentences", charades / "sta_test.txt"]
    code, out, _ = type_(*words, "--list", tmp_path / "list" / "charades.jsonl")
    assert code == 0
    assert "4 videos, 3 classes" in out
    assert "interval_clamped 1, interval_dropped 1" in out
    words = ["index", tmp_path / "mine", "--labels", tmp_path / "list" / "charades.jsonl"]
    code, out, _ = type_(*words, "--classes", tmp_path / "list" / "classes.txt", "--out", tmp_path / "index")
    assert "2 videos of 3 classes" in out
    rows = {row["video_id"]: row for row in load_index(str(tmp_path / "index")).table.to_pylist()}
    assert rows["AAAA1"]["labels"] == ["Opening a door", "Holding some clothes"]
    assert times(rows["AAAA1"]) == [("Opening a door", 0.5, 4.0), ("Holding some clothes", 1.0, 2.0)]
    (moment,) = read_grounding(str(tmp_path / "list/annotations/grounding.jsonl"))
    assert (moment.video_id, moment.end_seconds) == ("TTTT1", 0.9)


def test_breakfast(type_, tmp_path: Path) -> None:
    tea = ["SIL"] * 15 + ["pour_water"] * 30 + ["SIL"] * 15  # 4 s at 15 frames a second
    put(
        tmp_path / "b",
        {
            "groundTruth/P03_cam01_P03_tea.txt": "\n".join(tea) + "\n",
            "groundTruth/P20_stereo01_P20_milk.txt": "SIL\n" * 15 + "pour_milk\n" * 75,
            "groundTruth/P21_cam01_P21_milk.txt": "SIL\n",
            "mapping.txt": "0 SIL\n1 pour_milk\n2 pour_water\n3 stir\n",
            "videos/P03/cam01/P03_tea.avi": encode(40, container="avi", codec="mpeg4"),
            "videos/P20/stereo/P20_milk_ch0.avi": encode(40, container="avi", codec="mpeg4"),
            "videos/P20/stereo/P20_milk_ch1.avi": encode(40, container="avi", codec="mpeg4"),
        },
    )
    words = ["pack", "--format", "breakfast", "--annotations", tmp_path / "b", "--videos", tmp_path / "b" / "videos"]
    code, out, _ = type_(*words, "--out", tmp_path / "out")
    assert code == 0
    assert "labels_too_long 1, missing_video 1" in out, "milk's labels continue for 2 s after its video"
    classes, videos = indexed(tmp_path / "out", tmp_path / "index")
    assert classes == ("SIL", "pour_milk", "pour_water", "stir")
    assert videos["P03_cam01_P03_tea"]["labels"] == ["SIL", "pour_water"]
    assert times(videos["P03_cam01_P03_tea"]) == [("SIL", 0.0, 1.0), ("pour_water", 1.0, 3.0), ("SIL", 3.0, 4.0)]
    segmented = read_segmentation(str(tmp_path / "out/annotations/segmentation.jsonl"))
    assert [(v.video_id, v.split, v.duration_seconds) for v in segmented] == [
        ("P03_cam01_P03_tea", "s1", 4.0),
        ("P20_stereo01_P20_milk", "s2", 4.0),
    ]
    assert segmented[0].segments == ((0.0, 1.0, "SIL"), (1.0, 3.0, "pour_water"), (3.0, 4.0, "SIL"))
    assert segmented[1].segments[-1] == (1.0, 4.0, "pour_milk")
    active = read_activities(str(tmp_path / "out/annotations/activity.jsonl"))
    assert [v.activities for v in active] == [("tea",), ("milk",)]
    for split in ("s1", "s2"):  # each split once; training on three of them is an index over three folders
        assert type_(*words, "--split", split, "--out", tmp_path / split)[0] == 0
    code, out, _ = type_("index", tmp_path / "s2", tmp_path / "s1", "--out", tmp_path / "both")
    assert "2 videos of 4 classes in 2 shards" in out
    assert load_index(str(tmp_path / "both")).classes == ["SIL", "pour_milk", "pour_water", "stir"]
    words += ["--labels", "activities", "--split", "s1", "--split", "s2", "--overwrite"]
    assert type_(*words, "--out", tmp_path / "out")[0] == 0
    classes, videos = indexed(tmp_path / "out", tmp_path / "index2")
    assert classes == ("milk", "tea")
    assert (videos["P03_cam01_P03_tea"]["labels"], videos["P03_cam01_P03_tea"]["intervals"]) == (["tea"], None)


@pytest.mark.parametrize("as_json", [True, False])
def test_multithumos(type_, tmp_path: Path, as_json: bool) -> None:
    video_ids = ("video_validation_0000051", "video_test_0000004")
    table = {
        video_ids[0]: {"subset": "training", "duration": 4.0, "actions": [[1, 0.5, 1.5], [2, 1.0, 8.0], [2, 3.0, 3.0]]},
        video_ids[1]: {"subset": "testing", "duration": 2.0, "actions": [[1, 0.0, 1.0]]},
    }
    lists: dict[str, str | bytes] = {"class_list.txt": "1 Run\n2 Jump\n"}
    if as_json:
        lists["multithumos.json"] = json.dumps(table)
    else:
        for number, name in ((1, "Run"), (2, "Jump")):
            lines = [f"{v} {a} {b}\n" for v, entry in table.items() for k, a, b in entry["actions"] if k == number]
            lists[f"annotations/{name}.txt"] = "".join(lines)
    clips: dict[str, str | bytes] = {
        f"TH14_validation_set_mp4/{video_ids[0]}.mp4": encode(40, **CLIP),
        f"TH14_test_set_mp4/{video_ids[1]}.mp4": encode(20, **CLIP),
    }
    folder, videos_folder = put(tmp_path / "lists", lists), put(tmp_path / "videos", clips)
    words = ["pack", "--format", "multithumos", "--annotations", folder, "--videos", videos_folder]
    code, out, _ = type_(*words, "--out", tmp_path / "out")
    assert code == 0
    assert "2 videos" in out
    assert "interval_clamped 1, interval_dropped 1" in out
    classes, videos = indexed(tmp_path / "out", tmp_path / "index")
    assert classes == ("Run", "Jump")
    assert times(videos[video_ids[0]]) == [("Run", 0.5, 1.5), ("Jump", 1.0, 4.0)]
    active = read_activities(str(tmp_path / "out/annotations/activity.jsonl"))
    assert {v.video_id: (v.split, v.activities) for v in active} == {
        video_ids[0]: ("train", ("Run", "Jump")),
        video_ids[1]: ("test", ("Run",)),
    }


def test_activitynet_and_a_csv_from_an_object_store(type_, s3_url: str, tmp_path: Path) -> None:
    database = {
        "x-Y_1": {"duration": 4.0, "subset": "training", "annotations": [{"label": "Dig", "segment": [1, 2]}]},
        "w": {"duration": 2.0, "subset": "validation", "annotations": [{"label": "Fly", "segment": [0, 2]}]},
    }
    files = {
        "anet.json": json.dumps({"database": database}).encode(),
        "list.csv": b"id,labels,intervals,split\nx-Y_1,dig;run,dig 1 2,a\nnone,run,,b\n",
        "videos/v_x-Y_1.mp4": encode(40, **CLIP),
        "videos/x-Y_1.mp4": encode(40, **CLIP),
    }
    for name, data in files.items():
        store.write_bytes(f"{s3_url}/{name}", data)
    words = ["pack", "--format", "activitynet", "--annotations", f"{s3_url}/anet.json", "--videos", f"{s3_url}/videos"]
    code, out, _ = type_(*words, "--out", f"{s3_url}/anet")
    assert (code, "missing_video 1" in out) == (0, True)
    build_index([f"{s3_url}/anet"], str(tmp_path / "anet"), workers=1)
    index = load_index(str(tmp_path / "anet"))
    assert index.classes == ["Dig", "Fly"], "classes of videos that are not there keep their places"
    (row,) = index.table.to_pylist()
    assert (row["video_id"], row["labels"], times(row)) == ("x-Y_1", ["Dig"], [("Dig", 1.0, 2.0)])
    words = ["pack", "--format", "csv", "--annotations", f"{s3_url}/list.csv", "--videos", f"{s3_url}/videos"]
    code, out, _ = type_(*words, "--out", f"{s3_url}/csv")
    assert (code, "1 video" in out) == (0, True)
    build_index([f"{s3_url}/csv"], str(tmp_path / "csv"), workers=1)
    (row,) = load_index(str(tmp_path / "csv")).table.to_pylist()
    assert (row["labels"], times(row)) == (["dig", "run"], [("dig", 1.0, 2.0)])
    assert store.list_files(f"{s3_url}/csv/annotations") == []


def test_what_does_not_go_together_is_said(type_, charades: Path, tmp_path: Path) -> None:
    release = ["pack", "--format", "charades", "--annotations", charades]
    for words, said in (
        (["pack", "--out", tmp_path], "give one input: --format NAME --annotations URL, --manifest URL or"),
        ([*release, "--manifest", "m.csv"], "give one input"),
        (["pack", "--format", "charades"], "--format charades needs --annotations URL"),
        ([*release, "--videos", charades], "--out is missing"),
        ([*release, "--out", tmp_path / "o"], "4 videos must be looked for; give the folder that holds them"),
        ([*release, "--out", tmp_path / "o", "--videos", tmp_path / "no"], "none of 4 videos was found: no video"),
        ([*release, "--split", "val", "--validate"], "no video of 4 is in the split 'val'; there are: test, train"),
        ([*release, "--labels", "activities"], "--labels activities belongs to the format breakfast, not to charades"),
        (["pack", "--manifest", "m.csv", "--validate"], "--validate belongs to --format"),
        (["pack", "--manifest", "m.csv", "--no-intervals"], "--no-intervals belongs to --format"),
        (["pack", "--gmdcsa24", "x", "--leave-out", "a"], "--leave-out belongs to --format"),
        ([*release, "--hold-out", "Ann"], "the video 'AAAA1' already has the split 'train'"),
        ([*release[:2], "kinetics", *release[3:]], "there is no format 'kinetics'"),
    ):
        code, _, err = type_(*words)
        assert code == 2
        assert said in err


@pytest.mark.parametrize("more", [[], ["--split", "train"]])
def test_a_list_none_of_whose_files_is_there_names_the_first(type_, tmp_path: Path, more: list[str]) -> None:
    """A common first mistake: paths that are relative to another folder."""
    (tmp_path / "list.csv").write_text("path,labels,split\nvideos/a.mp4,run,train\nvideos/b.mp4,sit,test\n")
    code, _, err = type_("pack", "--manifest", tmp_path / "list.csv", "--out", tmp_path / "out", *more)
    assert code == 2
    assert f"none of the {'1 file' if more else '2 files'} in" in err
    assert f"there is no file at {tmp_path}/videos/a.mp4" in err
    assert "split ''" not in err
