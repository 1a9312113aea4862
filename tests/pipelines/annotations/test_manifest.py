"""Annotations are written by hand: errors that can be fixed name their line, and unusable data are counted."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.annotations.manifest import read_classes, read_labels, read_manifest
from adaptfocus.pipelines.annotations.names import check_id, normal, unsafe_reason
from adaptfocus.pipelines.annotations.rows import tidy_intervals
from adaptfocus.pipelines.errors import InputError


def manifest(folder: Path, text: str, name: str = "m.csv", files: tuple[str, ...] = ("a.mp4", "b.mp4")) -> str:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    (folder / name).write_text(text)
    return str(folder / name)


def refusal(url: str, classes: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_manifest(url, classes)
    return str(caught.value)


def test_a_csv_with_all_columns(tmp_path: Path):
    text = (
        "\ufeffpath, labels, id, intervals, split\n"
        'a.mp4,"walk; sit down",kitchen/1,"walk 1.5 3.0;sit down 4 5",train\n\n'
        "b.mp4,,,,\n"
    )
    (first, second), problems = read_manifest(manifest(tmp_path, text))
    assert first.video_id == "kitchen/1"
    assert first.path == str(tmp_path / "a.mp4")
    assert first.labels == ("walk", "sit down")
    assert first.intervals == (("walk", 1.5, 3.0), ("sit down", 4.0, 5.0))
    assert first.split == "train"
    assert (second.video_id, second.labels, second.intervals, second.split) == ("b", (), None, None)
    assert problems == []


def test_jsonl_with_lists_and_objects(tmp_path: Path):
    both_forms = [["sit", 1, 2], {"label": "walk", "start_seconds": 0, "end_seconds": 1}]
    rows = [
        {"path": "a.mp4", "labels": ["walk"], "intervals": both_forms},
        {"path": str(tmp_path / "b.mp4"), "labels": "x;y", "id": 7},
    ]
    (first, second), _ = read_manifest(manifest(tmp_path, "\n".join(map(json.dumps, rows)), "m.jsonl"))
    assert first.labels == ("walk", "sit"), "a label that only an interval names is a label of the video"
    assert first.intervals == (("sit", 1.0, 2.0), ("walk", 0.0, 1.0))
    assert (second.video_id, second.labels) == ("7", ("x", "y"))


def test_missing_files_are_counted_and_left_out(tmp_path: Path):
    videos, problems = read_manifest(manifest(tmp_path, "path,labels\na.mp4,x\ngone.mp4,x\n"))
    assert [v.video_id for v in videos] == ["a"]
    assert [(p.kind, p.where) for p in problems] == [("missing_file", "m.csv line 3")]


def test_intervals_without_time_are_dropped_and_counted(tmp_path: Path):
    (video,), problems = read_manifest(manifest(tmp_path, "path,labels,intervals\na.mp4,x,x 3 3;x 4 2;x -1 2;x 1 2\n"))
    assert video.intervals == (("x", 0.0, 2.0), ("x", 1.0, 2.0))
    assert [p.kind for p in problems] == ["interval_dropped", "interval_dropped", "interval_clamped"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "file,labels\na.mp4,x\n", "line 1 lacks 'path'; it has file, labels"),
        ("m.csv", 'path,labels\na.mp4,"x\nb.mp4,y\n', "line 3: unexpected end of data; correct the line"),
        ("m.csv", "path,labels\na.mp4,x,y\n", "line 2: 3 fields under 2 columns; put .* into double quotes"),
        ("m.csv", "path,labels\na.mp4\n", "line 2 lacks 'labels'"),
        ("m.csv", "path,labels\n,x\n", "line 2: 'path' is empty"),
        ("m.csv", "path,labels,intervals\na.mp4,x,x 1\n", "line 2: an interval is a label, start_seconds and"),
        ("m.csv", "path,labels\n", "holds no rows"),
        ("m.jsonl", '{"path": "a.mp4", "labels": []}\n{"path": \n', "line 2 does not parse as JSON"),
        ("m.jsonl", '["a.mp4"]\n', "line 1 holds list, not an object"),
        ("m.jsonl", '{"path": "a.mp4"}\n', "line 1 lacks 'labels'"),
        ("m.jsonl", '{"path": "a.mp4", "labels": [1]}\n', "line 1: labels must be a list of names"),
        ("m.jsonl", '{"path": ["a"], "labels": []}\n', "line 1: 'path' must be text"),
        ("m.jsonl", "[" * 100_000, "line 1 does not parse as JSON"),
        ("m.csv", "path,labels,id\na.mp4,x,v\n\nb.mp4,x,v\n", "'v' occurs twice: m.csv line 2 and m.csv line 4"),
        ("m.csv", "path,labels,id\na.mp4,x,../v\n", "line 2: the video id '../v' cannot be used"),
        ("m.csv", "path,labels,split\na.mp4,x,../v\n", "line 2: the split '../v' cannot be used"),
        ("m.jsonl", '{"path": "a.mp4", "labels": ["\\ud800"]}\n', "line 1: the label .* half of a surrogate pair"),
        ("m.jsonl", '{"path": "a.mp4", "path": "b.mp4", "labels": []}\n', "line 1 .*'path' occurs twice"),
        ("m.csv", "path,labels\na.mp4,x\na.mkv,x\n", "'a' occurs twice: .*add an `id` column"),
    ],
)
def test_what_makes_a_manifest_unusable_is_said_with_its_line(tmp_path: Path, name: str, text: str, message: str):
    assert re.search(message, refusal(manifest(tmp_path, text, name)))


def test_text_that_is_not_utf8_is_said_with_its_line(tmp_path: Path):
    (tmp_path / "m.csv").write_bytes(b"path,labels\na.mp4,caf\xe9\n")
    assert "line 2 is not UTF-8" in refusal(str(tmp_path / "m.csv"))


def test_an_unknown_label_is_named_with_its_line_and_the_nearest_class(tmp_path: Path):
    message = refusal(manifest(tmp_path, "path,labels\na.mp4,walk\nb.mp4,wolk\n"), ["sit", "walk"])
    assert "m.csv line 3" in message
    assert "'wolk'" in message
    assert "the nearest is 'walk'" in message


def test_an_unknown_label_inside_an_interval_is_found_too(tmp_path: Path):
    assert "'run'" in refusal(manifest(tmp_path, "path,labels,intervals\na.mp4,walk,run 1 2\n"), ["walk"])


def test_labels_by_id_need_no_path(tmp_path: Path):
    url = manifest(tmp_path, "id,labels\nk/1,walk;sit\n")
    assert read_labels(url) == {"k/1": (("walk", "sit"), None)}
    with pytest.raises(InputError, match="lacks 'id'"):
        read_labels(manifest(tmp_path, "path,labels\na,b\n"))


def test_a_class_list_names_each_class_once(tmp_path: Path):
    (tmp_path / "c.txt").write_text("walk\n\nsit\n")
    assert read_classes(str(tmp_path / "c.txt")) == ["walk", "sit"]
    (tmp_path / "c.txt").write_text("walk\nsit\nwalk\n")
    with pytest.raises(InputError, match="'walk' occurs twice"):
        read_classes(str(tmp_path / "c.txt"))


UNSAFE = [
    "",
    "/a",
    "C:\\a",
    "../a",
    "a/../b",
    "a//b",
    "a/",
    "a\nb",
    "a\0b",
    "a\x7f",
    "s3://b",
    "a\\..\\b",
    "./a",
    "\ud800",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_ids_are_refused(name: str):
    with pytest.raises(InputError, match="cannot be used because it"):
        check_id(name, "here")


@given(st.text())
def test_a_safe_name_stays_inside_its_folder(name: str):
    if unsafe_reason(name) is None:
        joined = Path("/out", name)
        assert joined.resolve().is_relative_to("/out")
        assert joined != Path("/out")
        name.encode()


labels = st.text(st.characters(codec="utf-8", exclude_characters=";", exclude_categories=["C", "Z"]), min_size=1)
seconds = st.floats(0, 1e5, allow_nan=False)
intervals = st.lists(st.tuples(labels, seconds, seconds).filter(lambda x: x[1] < x[2]), max_size=4)


@settings(max_examples=40, deadline=None)
@given(wanted=st.lists(labels, unique=True, max_size=4), times=intervals, as_csv=st.booleans())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, wanted, times, as_csv: bool):
    folder = tmp_path_factory.mktemp("manifest")
    if as_csv:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["path", "labels", "intervals"])
        writer.writerow(["a.mp4", ";".join(wanted), ";".join(f"{n} {a!r} {b!r}" for n, a, b in times)])
        url = manifest(folder, out.getvalue())
    else:
        url = manifest(folder, json.dumps({"path": "a.mp4", "labels": wanted, "intervals": times}), "m.jsonl")
    (video,), problems = read_manifest(url)
    assert problems == []
    assert (video.intervals or ()) == tuple((normal(name), start, end) for name, start, end in times)
    names = tuple(dict.fromkeys(map(normal, wanted)))
    assert video.labels[: len(names)] == names


@given(st.lists(st.tuples(labels, st.floats(), st.floats())), st.floats(0.1, 100))
def test_intervals_kept_lie_inside_the_video_and_none_is_lost_unsaid(times, duration_seconds: float):
    kept, problems = tidy_intervals(times, "here", duration_seconds)
    assert kept is not None
    assert all(0 <= start < end <= duration_seconds for _, start, end in kept)
    assert len(kept) + sum(p.kind == "interval_dropped" for p in problems) == len(times)
