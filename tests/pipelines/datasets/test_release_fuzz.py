"""Whatever is in the files of a release, reading them gives a Release or one error that a user can read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.annotations.tasks import SegmentedVideo
from adaptfocus.pipelines.datasets.charades import read_charades_sta
from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.datasets.release_summary import summarise
from adaptfocus.pipelines.errors import AdaptFocusError

TOKENS = st.sampled_from(
    ["c000", "c001", "1", "2", "0", "-3.5", "nan", "inf", "1e999", "1-30", "31-", "SIL", "pour_milk", "#bundle", "##",
     ";", ",", '"', "\n", "\r\n", " ", "\t", "video_test_0000004", "../x", "AO8RW", "é", "\x00", "id,actions,length\n"]
)  # fmt: skip
TEXTS = st.lists(TOKENS, max_size=40).map("".join) | st.text(max_size=60)
SCALARS = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner))
KEYS = st.sampled_from(["duration", "subset", "actions", "annotations", "label", "segment"])
ENTRIES = st.dictionaries(
    st.sampled_from(["video_test_1", "a", "b/c"]) | st.text(max_size=3),
    st.dictionaries(KEYS, st.lists(st.lists(SCALARS, max_size=3) | st.dictionaries(KEYS, VALUES), max_size=3) | VALUES)
    | VALUES,
    max_size=4,
)


def read(name: str, url: str) -> None:
    """Read a release, check it, and sum it up; what it says must be consistent."""
    with contextlib.suppress(AdaptFocusError):
        release = read_release(name, url)
        summarise(release, [*release.problems, *release.interval_problems()])
        for video in release.videos:
            assert set(video.labels) <= set(release.classes)
            assert all(label.strip() and "\n" not in label for label in video.labels)
            if video.segments:
                SegmentedVideo(video.video_id, video.split, video.segments[-1][1], video.segments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, header=st.booleans())
def test_any_text(folder: Path, text: str, header: bool) -> None:
    files = {
        "charades/Charades_v1_classes.txt": "c000 Run\nc001 Sit\n",
        "charades/Charades_v1_train.csv": ("id,actions,length\n" if header else "") + text,
        "multithumos/class_list.txt": "1 Run\n2 Sit\n",
        "multithumos/annotations/Run.txt": text,
        "breakfast/groundTruth/P03_cam01_P03_tea.txt": text,
        "breakfast/splits/test.split1.bundle": text,
        "coarse/segmentation_coarse/tea/P03_cam01_P03_tea.txt": text,
        "csv/list.csv": ("id,labels,intervals,split\n" if header else "") + text,
        "sta.txt": text,
        "classes/Charades_v1_classes.txt": text,
        "classes/Charades_v1_train.csv": "id,actions,length\nA,c000 0 1,5\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode("utf-8", errors="surrogatepass"))
    for name in ("charades", "multithumos", "breakfast"):
        read(name, str(folder / name))
    read("breakfast", str(folder / "coarse"))
    read("charades", str(folder / "classes"))
    read("csv", str(folder / "csv" / "list.csv"))
    sentences, problems = read_charades_sta([str(folder / "sta.txt")])
    assert len(sentences) + len(problems) == sum(bool(line.strip()) for line in text.splitlines())


@settings(max_examples=40, deadline=None)
@given(entries=ENTRIES)
def test_any_json(folder: Path, entries: dict) -> None:
    place = folder / "json"
    place.mkdir(exist_ok=True)
    (place / "class_list.txt").write_text("1 Run\n2 Sit\n")
    (place / "m.json").write_text(json.dumps(entries))
    read("multithumos", str(place / "m.json"))
    (place / "a.json").write_text(json.dumps({"database": entries}))
    read("activitynet", str(place / "a.json"))
