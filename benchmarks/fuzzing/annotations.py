"""Broken annotation files: lists, releases, task files, class lists.

Files are written as each reader expects them. Then their text or their values are broken, and they are read as `pack`,
`index --labels` and the probes read them. The outcome is "ok", "refused" with the project's own error, or
"unclassified".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.annotations.manifest import read_classes, read_labels, read_manifest
from adaptfocus.pipelines.annotations.tasks import read_activities, read_grounding, read_segmentation
from adaptfocus.pipelines.datasets.charades import read_charades_sta
from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.datasets.gmdcsa24 import read_gmdcsa24
from adaptfocus.pipelines.datasets.release import Release
from adaptfocus.pipelines.datasets.release_summary import summarise
from adaptfocus.pipelines.datasets.task_files import moments_of, stated_seconds, write_list
from adaptfocus.pipelines.errors import AdaptFocusError

Random = np.random.Generator
Files = dict[str, bytes]
PLACE = "fuzz-annotations"
SECRET = "hush-hush"  # in a URL that a list names
WORDS = (
    "", " ", "nan", "inf", "-inf", "1e999", "-0", "1_000", "0x10", "1,5", "\u0661", "9" * 400, "None", "null", "true",
    "../x", "/etc/x", "C:\\x", "a/b", "a//b", ".", f"s3://user:{SECRET}@bucket/x",
    f"http://h/x?X-Amz-Signature={SECRET}", "\0", "\r", "\t", "\u2028",
    "\ufeff", "e\u0301", "\u00e9", "\ud83d\ude00", "\u202e", "=1+1", '"', "'", ";", "#", "##", "{}", "[]", "x" * 5000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", "w", "\ud800", [], {}, [[]], {"a": {}},
    [None], ["w", 1, 2], "e\u0301", [[0, 1]], [1e308, 1e309], "1", -0.0, 2**63, "w;x",
)  # fmt: skip


def _lines(rows: list[list[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _manifest_csv(_: Random) -> Files:
    rows = [["path", "labels", "id", "split", "intervals"]]
    rows += [[f"v/{i}.mp4", "w; x", f"k/{i}", ("train", "test")[i % 2], "w 0.5 1.5;x 1 2"] for i in range(4)]
    return {"list.csv": _lines(rows), "v/0.mp4": b"0", "v/1.mp4": b"1"}


def _manifest_jsonl(_: Random) -> Files:
    rows = [
        {"path": f"v/{i}.mp4", "labels": ["w", "x"], "id": f"{i}", "intervals": [["w", 0.5, 1.5]], "split": "train"}
        for i in range(4)
    ]
    return {"list.jsonl": _jsonl(rows), "v/0.mp4": b"0"}


def _charades(_: Random) -> Files:
    head = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
    row = "A{0},S1,Kitchen,6,7,Yes,text,door,text,c000 0.00 12.00;c001 3.1 9.0,30.5"
    lists = {
        f"Charades_v1_{split}.csv": "\n".join([head, *(row.format(split[:2] + str(i)) for i in range(3))]).encode()
        for split in ("train", "test")
    }
    sentences = b"Atr0 0.0 6.9##a person sits.\nAtr1 1.0 60.0##a person runs.\n"
    return lists | {"Charades_v1_classes.txt": b"c000 Run\nc001 Sit\n", "sta.txt": sentences}


def _breakfast(_: Random) -> Files:
    frames = b"SIL\n" * 20 + b"pour_milk\n" * 20 + b"SIL\n" * 5
    return {
        "groundTruth/P03_cam01_P03_tea.txt": frames, "groundTruth/P20_stereo01_P20_milk.txt": frames,
        "splits/test.split1.bundle": b"#bundle\nP03_cam01_P03_tea.txt\n",
        "splits/train.split1.bundle": b"#bundle\nP20_stereo01_P20_milk.txt\n", "mapping.txt": b"0 SIL\n1 pour_milk\n",
    }  # fmt: skip


def _breakfast_coarse(_: Random) -> Files:
    return {
        "segmentation_coarse/tea/P03_cam01_P03_tea.txt": b"1-30 SIL  \n31-75 pour_water  \n76-90 SIL\n",
        "segmentation_coarse/milk/P20_stereo01_P20_milk.txt": b"1-10 SIL\n11-40 pour_milk\n",
    }


def _multithumos(_: Random) -> Files:
    table = {
        f"video_{split}_000000{i}": {
            "subset": f"{split}ing"[:7],
            "duration": 9.5,
            "actions": [[1, 0.0, 1.0], [2, 2, 3]],
        }
        for split in ("test", "train")
        for i in range(2)
    }
    return {"class_list.txt": b"1 Run\n2 Sit\n", "m.json": json.dumps(table).encode()}


def _multithumos_text(_: Random) -> Files:
    rows = b"video_test_0000004 1.0 2.0\nvideo_validation_0000051 0.5 0.9\n"
    return {"class_list.txt": b"1 Run\n2 Sit\n", "annotations/Run.txt": rows, "annotations/Sit.txt": rows}


def _activitynet(_: Random) -> Files:
    entry = {
        "subset": "training",
        "duration": 12.5,
        "annotations": [{"label": "w", "segment": [0.5, 3]}],
        "url": "http://h",
    }
    database = {"a": entry, "b/c": entry | {"subset": "validation"}, "d": entry | {"annotations": []}}
    return {"a.json": json.dumps({"version": "1.3", "taxonomy": [], "database": database}).encode()}


def _gmdcsa24(_: Random) -> Files:
    lists = {
        f"Subject {s}/{kind}.csv": _lines(
            [["File Name", "Length (seconds)", "Time of Recording", "Attire", "Description", "Classes"]]
            + [[f"0{i}.mp4", 10, "Day", "x", "text", "Sitting[0 to 4]; Falling (BW)[6.9 to 12]"] for i in (1, 2)]
        )
        for s in (1, 2)
        for kind in ("ADL", "Fall")
    }
    return lists | {"Subject 1/ADL/01.mp4": b"1", "Subject 2/Fall/02.mp4": b"2"}


def _tasks(_: Random) -> Files:
    segments = {"video_id": "a", "split": "s1", "duration_seconds": 3.0, "segments": [[0, 1, "w"], [1, 3.0, "x"]]}
    moment = {"video_id": "a", "split": None, "start_seconds": 0.5, "end_seconds": 2, "sentence": "a person sits"}
    return {
        "segmentation.jsonl": _jsonl([segments, segments | {"video_id": "b"}]),
        "activity.jsonl": _jsonl([{"video_id": "a", "split": "s1", "activities": ["tea"]}]),
        "grounding.jsonl": _jsonl([moment, moment]),
    }


def _classes(_: Random) -> Files:
    return {"classes.txt": b"w\nx\ndrink from a cup\n"}


MAKERS: tuple[Callable[[Random], Files], ...] = (
    _manifest_csv, _manifest_jsonl, _charades, _breakfast, _breakfast_coarse, _multithumos, _multithumos_text,
    _activitynet, _gmdcsa24, _tasks, _classes,
)  # fmt: skip


def spoilt(random: Random) -> tuple[str, Files]:
    """(what to read, its files); none, one or two of the files are changed."""
    make = MAKERS[int(random.integers(len(MAKERS)))]
    files = make(random)
    names = [name for name in files if not name.endswith(".mp4")]
    for _ in range(int(random.integers(0, 4))):
        name = names[int(random.integers(len(names)))]
        files[name] = _spoilt_json(files[name], random) if random.random() < 0.5 else files[name]
        if random.random() < 0.6:
            files[name] = _spoilt_text(files[name], random)
    if random.random() < 0.05:
        del files[names[int(random.integers(len(names)))]]
    return make.__name__.lstrip("_"), files


def _spoilt_json(data: bytes, random: Random) -> bytes:
    """Replace a value, or rename or remove a key, in JSON or in lines of JSON."""
    lines = data.split(b"\n") if data.count(b"\n") > 1 else [data]
    number = int(random.integers(len(lines)))
    try:
        value = json.loads(lines[number])
    except (ValueError, RecursionError):
        return data
    lines[number] = json.dumps(_with_another(value, random), ensure_ascii=bool(random.integers(2))).encode(
        "utf-8", "surrogatepass"
    )
    return b"\n".join(lines)


def _with_another(value: Any, random: Random) -> Any:
    if isinstance(value, (dict, list)) and value and random.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[int(random.integers(len(keys)))]
        what = random.integers(8)
        copy: Any = value.copy()
        if what == 0:
            del copy[key]
        elif what == 1 and isinstance(copy, dict):
            copy[WORDS[int(random.integers(len(WORDS)))]] = copy.pop(key)
        elif what == 1:
            copy.append(copy[key])
        else:
            copy[key] = _with_another(copy[key], random)
        return copy
    return VALUES[int(random.integers(len(VALUES)))]


def _spoilt_text(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    number, other = (int(random.integers(len(lines))) for _ in range(2))
    what = random.integers(11)
    if what == 0:
        return data[: int(random.integers(len(data) + 1))]
    if what == 1:
        lines.insert(other, lines[number])
    elif what == 2:
        del lines[number]
    elif what == 3:
        lines[number], lines[other] = lines[other], lines[number]
    elif what == 4:  # a field in a line
        for separator in (b",", b" ", b";", b"\t"):
            fields = lines[number].split(separator)
            if len(fields) > 1:
                word = WORDS[int(random.integers(len(WORDS)))].encode("utf-8", "surrogatepass")
                fields[int(random.integers(len(fields)))] = word
                lines[number] = separator.join(fields)
                break
    elif what == 5:
        lines[number] = lines[number].replace(
            *((b",", b";"), (b" ", b"\t"), (b".", b","), (b"-", b" "))[random.integers(4)]
        )
    elif what == 6:
        text = data.decode("utf-8", "replace")
        return text.encode(("utf-16", "utf-8-sig", "utf-32", "latin-1")[int(random.integers(4))], "replace")
    elif what == 7:
        return data.replace(b"\n", (b"\r\n", b"\r", b"\n\n", b"")[int(random.integers(4))])
    elif what == 8:
        at = int(random.integers(len(data) + 1))
        return data[:at] + random.bytes(int(random.integers(1, 9))) + data[at:]
    elif what == 9:
        return (
            b"",
            b"\n",
            b"[" * 20_000,
            b"<!DOCTYPE html><html>",
            b"version https://git-lfs.github.com/spec/v1\n",
            b"\0" * 99,
        )[int(random.integers(6))]
    else:
        at = int(random.integers(len(data) + 1))
        word = WORDS[int(random.integers(len(WORDS)))].encode("utf-8", "surrogatepass")
        return data[:at] + word + data[at + int(random.integers(4)) :]
    return b"\n".join(lines)


def read_all(what: str, files: Files) -> str:
    """Read files -> "ok" or "refused".

    Raises:
        AssertionError: a result breaks a rule. Any other error of the readers passes through.
    """
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{PLACE}"):
        memory.rm(f"/{PLACE}", recursive=True)
    for name, data in files.items():
        memory.pipe_file(f"/{PLACE}/{name}", data)
    said: list[str] = []
    for read in _READERS[what](f"memory://{PLACE}"):
        try:
            read()
        except AdaptFocusError as error:
            said.append(str(error))
    assert all(text.strip() for text in said), "an error without a message"
    assert SECRET not in "".join(said), "a secret was printed"
    return "refused" if said else "ok"


def _release(name: str, url: str, **options: Any) -> Callable[[], None]:
    def read() -> None:
        release: Release = read_release(name, url, **options)
        summarise(release, [*release.problems, *release.interval_problems()])
        moments_of(release, stated_seconds(release))
        for video in release.videos:
            assert set(video.labels) <= set(release.classes), f"labels {video.labels} are not among the classes"
            assert all(label.strip() for label in video.labels), "a label is empty"
        write_list(release, f"memory://{PLACE}-out/list.jsonl")
        read_labels(f"memory://{PLACE}-out/list.jsonl", release.classes)

    return read


def _read_labels(url: str, classes: tuple[str, ...] | None = None) -> None:
    """Read labels as `index --labels` does."""
    found = read_labels(url, classes)
    pa.array([list(labels) for labels, _ in found.values()], pa.list_(pa.string()))
    pa.array(list(found), pa.string())


def _read_manifest(url: str) -> None:
    videos, _ = read_manifest(url)
    ids = [video.video_id for video in videos]
    assert len(set(ids)) == len(ids), "an id occurs twice"


_READERS: dict[str, Callable[[str], list[Callable[[], Any]]]] = {
    "manifest_csv": lambda url: [
        lambda: _read_manifest(f"{url}/list.csv"), lambda: _read_labels(f"{url}/list.csv", ("w", "x")),
        _release("csv", f"{url}/list.csv"),
    ],
    "manifest_jsonl": lambda url: [
        lambda: _read_manifest(f"{url}/list.jsonl"), lambda: _read_labels(f"{url}/list.jsonl"),
        _release("csv", f"{url}/list.jsonl", classes=["w", "x"]),
    ],
    "charades": lambda url: [_release("charades", url), lambda: read_charades_sta([f"{url}/sta.txt"])],
    "breakfast": lambda url: [_release("breakfast", url), _release("breakfast", url, activities_as_labels=True)],
    "breakfast_coarse": lambda url: [_release("breakfast", url)],
    "multithumos": lambda url: [_release("multithumos", f"{url}/m.json")],
    "multithumos_text": lambda url: [_release("multithumos", url)],
    "activitynet": lambda url: [_release("activitynet", f"{url}/a.json")],
    "gmdcsa24": lambda url: [lambda: read_gmdcsa24(url)],
    "tasks": lambda url: [
        lambda: read_segmentation(f"{url}/segmentation.jsonl"), lambda: read_activities(f"{url}/activity.jsonl"),
        lambda: read_grounding(f"{url}/grounding.jsonl"),
    ],
    "classes": lambda url: [lambda: read_classes(f"{url}/classes.txt")],
}  # fmt: skip
