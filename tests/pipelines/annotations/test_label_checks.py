"""Typos in lists are reported before anything is trained on them; an id occurs once, whatever the format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.pipelines.annotations.label_checks import label_warnings, video_warnings
from adaptfocus.pipelines.annotations.manifest import read_classes, read_labels, read_listed
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo
from adaptfocus.pipelines.annotations.tasks import read_activities, read_grounding, read_segmentation
from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.errors import InputError


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["walking", "Walking", "run"], "differ only in case or punctuation: 'walking' and 'Walking'"),
        (["sit_down", "sit down", "run"], "'sit_down' and 'sit down'"),
        (["Reading", "Walking", "Reading,Walking"], "look like several in one: 'Reading,Walking'"),
        (["walk", "walk, run"], "'walk, run'"),
        (["a", "b|c"], "'b|c'"),
        (["walk", "run", "cut and paste", "sit, then stand", "on/off"], None),
        (["+", "-"], None),
    ],
)
def test_class_names_that_look_like_slips(names: list[str], said: str | None) -> None:
    found = label_warnings(names)
    assert (said in found[0]) if said else not found


def test_splits_that_share_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")

    def video(name: str, path: str, split: str | None) -> AnnotatedVideo:
        return AnnotatedVideo(name, str(tmp_path / path) if path else "", (), split=split)

    rows = [video("1", "a.mp4", "train"), video("2", "link.mp4", "test"), video("3", "b.mp4", "train")]
    (said,) = video_warnings(rows)
    assert said.startswith("splits share files (test and train): ")
    assert "a.mp4; what is trained on must not be tested on" in said
    (said,) = video_warnings([*rows[1:], video("4", "b.mp4", "train")])
    assert said.startswith("files under several ids: ")
    assert video_warnings([*rows[1:], video("5", "", None), video("6", "", None)]) == [], "a list without paths"


def entry(label: str) -> str:
    return json.dumps({"subset": "training", "annotations": [{"label": label, "segment": [0, 1]}]})


def moment(**more: object) -> str:
    row = {"video_id": "a", "split": "train", "start_seconds": 0, "end_seconds": 1, "sentence": "s"}
    return json.dumps(row | more)


CHARADES = {"Charades_v1_classes.txt": "c000 Run\n", "Charades_v1_train.csv": "id,actions,length\nA,,1\nA,,1\n"}
TRUTH = {f"groundTruth/P03_cam01_P03_{name}.txt": "SIL\n" for name in ("tea", "milk")}
TWICE = {
    "activitynet": {"x.json": f'{{"database": {{"a": {entry("x")}, "a": {entry("y")}}}}}'},
    "activitynet, in two forms": {"x.json": f'{{"database": {{"\u00e9": {entry("x")}, "e\u0301": {entry("y")}}}}}'},
    "multithumos": {"class_list.txt": "1 Run\n", "x.json": '{"a": {"actions": []}, "a": {"actions": []}}'},
    "charades": CHARADES,
    "breakfast": TRUTH | {f"splits/test.split{n}.bundle": "P03_cam01_P03_tea.txt\n" for n in (1, 2)},
    "csv": {"x.csv": "path,labels,id\na.mp4,x,v\nb.mp4,x,v\n"},
    "csv, with a space": {"x.csv": "path,labels,id\na.mp4,x,v\nb.mp4,x,v \n"},
}


@pytest.mark.parametrize("name", TWICE)
def test_an_id_twice_in_a_release_is_an_error(tmp_path: Path, name: str) -> None:
    for file, text in TWICE[name].items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    place = next(tmp_path.glob("x.*"), tmp_path) if name != "multithumos" else tmp_path
    with pytest.raises(InputError, match="occurs twice"):
        read_release(name.split(",")[0], str(place))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_labels, '{"id": "a", "labels": ["x"]}\n{"id": "a", "labels": ["y"]}\n'),
        (read_labels, '{"id": "a", "labels": ["x"], "id": "b"}\n'),
        (read_listed, '{"path": "a.mp4", "labels": ["x"], "labels": ["y"]}\n'),
        (read_classes, "caf\u00e9\ncafe\u0301\n"),
        (read_activities, '{"video_id": "a", "split": null, "activities": [], "activities": ["x"]}'),
        (read_activities, 2 * '{"video_id": "e\u0301", "split": null, "activities": []}\n'),
        (read_segmentation, 2 * '{"video_id": "a", "split": null, "duration_seconds": 1, "segments": [[0, 1, "x"]]}\n'),
    ],
)
def test_a_name_twice_in_a_list_is_an_error(tmp_path: Path, read, text: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(InputError, match="occurs twice"):
        read(str(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("split", ["../../x", "/etc/x", "a/b", "..", "a\\b", "c:x", "a\u0000b"])
def test_a_split_is_a_name_and_no_path(tmp_path: Path, split: str) -> None:
    (tmp_path / "g.jsonl").write_text(moment(split=split))
    with pytest.raises(InputError, match=r"split .* cannot be used"):
        read_grounding(str(tmp_path / "g.jsonl"))
    text = entry("x").replace('"training"', json.dumps(split))
    (tmp_path / "x.json").write_text(f'{{"database": {{"a": {text}}}}}')
    with pytest.raises(InputError, match=r"split .* cannot be used"):
        read_release("activitynet", str(tmp_path / "x.json"))


def test_numbers_that_no_float_holds_are_said(tmp_path: Path) -> None:
    (tmp_path / "g.jsonl").write_text(moment(end_seconds=10**400))
    with pytest.raises(InputError, match="line 1: seconds must be numbers of usual size, not of 401 digits"):
        read_grounding(str(tmp_path / "g.jsonl"))


def ids_of(folder: Path, *paths: str) -> list[str]:
    (folder / "m.csv").write_text("path,labels\n" + "".join(f"{path},x\n" for path in paths))
    return [video.video_id for video, _ in read_listed(str(folder / "m.csv"))]


def test_ids_of_paths_do_not_collide(tmp_path: Path) -> None:
    data, lists = tmp_path / "data", tmp_path / "lists"
    lists.mkdir()
    assert ids_of(lists, "a.mp4", "./k/a.mp4") == ["a", "k/a"]
    assert ids_of(lists, f"{data}/train/a.mp4", f"{data}/test/a.mp4") == ["train/a", "test/a"]
    assert ids_of(lists, f"{data}/a.mp4", f"{data}/b.v2.mp4") == ["a", "b.v2"]
    assert ids_of(lists, "../data/train/a.mp4", "../data/test/a.mp4") == ["train/a", "test/a"]
    assert ids_of(lists, "a.mp4", "../data/a.mp4") == ["lists/a", "data/a"]
    assert ids_of(lists, "s3://b/train/a.mp4", "s3://b/test/a.mp4?versionId=1") == ["train/a", "test/a"]
    assert ids_of(lists, "s3://b/a.mp4", "s3://c/a.mp4") == ["b/a", "c/a"]
    with pytest.raises(InputError, match=r"'a' occurs twice: .* add an `id` column"):
        ids_of(lists, f"{data}/a.mp4", f"{data}/a.mkv")
