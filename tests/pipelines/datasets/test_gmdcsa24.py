"""The lists of the dataset as they are: each of their irregularities is read or counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from adaptfocus.pipelines.datasets.gmdcsa24 import parse_classes, read_gmdcsa24
from adaptfocus.pipelines.errors import InputError
from tests.footage import footage_folder

HEADER = "File Name,Length (seconds),Time of Recording,Attire,Description, Classes\n"


@pytest.mark.parametrize(
    ("text", "intervals", "kinds"),
    [
        ("Falling (BW)[6.9 to 12]; Walking[0 to 3.6]", (("Falling (BW)", 6.9, 12), ("Walking", 0, 3.6)), []),
        ("Falling (SW)[1.8 to 5]:; Walking[0 to 1.8]", (("Falling (SW)", 1.8, 5), ("Walking", 0, 1.8)), []),
        ("Falling (BW) [0.3 to 5]; Standing [ 0 to 0.2] ", (("Falling (BW)", 0.3, 5), ("Standing", 0, 0.2)), []),
        ("Falling (BW[5.9 to 10]; Walking[0 to 1.3]", (("Falling (BW)", 5.9, 10), ("Walking", 0, 1.3)), []),
        ("Fall (FW)[0 to 3]", (("Falling (FW)", 0, 3),), []),
        ("Eating[0.9 4.6]", (("Eating", 0.9, 4.6),), []),
        ("Standing[0 to 0.5; 4.2 to 6.5]", (("Standing", 0, 0.5), ("Standing", 4.2, 6.5)), []),
        ("Standing[2 to 3; 6 to 7; Walking[3 to 5]", (("Standing", 2, 3), ("Standing", 6, 7), ("Walking", 3, 5)), []),
        ("Standing[3.3 to 5];Walking[5 to 7]; ", (("Standing", 3.3, 5), ("Walking", 5, 7)), []),
        ("Sitting[9.7 to 3]", (), ["interval_dropped"]),
        ("Sitting[7]", (), ["interval_dropped"]),
        ("Falling (FW); Sitting[0 to 1.7]", (("Sitting", 0, 1.7),), ["label_without_interval"]),
        ("Sitting[0 to 1] %&", (("Sitting", 0, 1),), ["stray_text"]),
    ],
)  # fmt: skip
def test_the_classes_column(text: str, intervals: tuple, kinds: list[str]):
    labels, found, problems = parse_classes(text, "here")
    assert found == intervals
    assert [p.kind for p in problems] == kinds
    assert {label for label, _, _ in intervals} <= set(labels)


def test_a_label_without_times_stays_a_label():
    labels, _, _ = parse_classes("Falling (FW); Sitting[0 to 1.7]", "here")
    assert labels == ("Falling (FW)", "Sitting")


def test_rows_and_files_that_do_not_meet_are_counted(tmp_path: Path):
    folder = tmp_path / "Subject 3"
    (folder / "ADL").mkdir(parents=True)
    for name in ("01.mp4", "02.mp4", "09.mp4"):
        (folder / "ADL" / name).touch()
    (folder / "ADL.csv").write_text(
        HEADER + "01.mp4,99,Day,Shirt,Walking, then sitting, Walking[0 to 2]; Sitting[2 to 3]\n"
        "02.mp4,03\n03.mp4,03,Day,Shirt,gone, Sitting[0 to 1]\n"
    )
    (video,), problems = read_gmdcsa24(str(tmp_path))
    assert video.video_id == "subject_3/ADL/01"
    assert video.labels == ("Walking", "Sitting"), "a description with a comma in it does not shift the classes"
    assert video.group == "Subject 3", "who must not be both trained on and tested on"
    assert Counter(p.kind for p in problems) == {"bad_row": 1, "missing_file": 1, "not_listed": 1}
    assert "line 4" in next(p.where for p in problems if p.kind == "missing_file")
    with open(folder / "ADL.csv", "a") as rows:
        rows.write("01.mp4,03,Day,Shirt,again, Sitting[0 to 1]\n")
    with pytest.raises(InputError, match=r"line 5: '01.mp4' occurs twice in this list"):
        read_gmdcsa24(str(tmp_path))


def test_linked_folders_lists_and_videos_are_read(tmp_path: Path):
    """People link data sets from other disks."""
    disk = tmp_path / "disk" / "Subject 1"
    (disk / "Fall").mkdir(parents=True)
    (disk / "Fall" / "01.mp4").touch()
    (disk / "Fall.csv").write_text(HEADER + "01.mp4,3,Day,Shirt,falls, Falling (BW)[0 to 2]\n")
    here = tmp_path / "linked" / "Subject 2"
    (here / "Fall").mkdir(parents=True)
    (here.parent / "Subject 1").symlink_to(disk)
    (here / "Fall.csv").symlink_to(disk / "Fall.csv")
    (here / "Fall" / "01.mp4").symlink_to(disk / "Fall" / "01.mp4")
    (here / "Fall" / "02.mp4").symlink_to(disk / "gone.mp4")
    videos, problems = read_gmdcsa24(str(here.parent))
    assert [video.video_id for video in videos] == ["subject_1/Fall/01", "subject_2/Fall/01"]
    assert all(Path(video.path).is_file() for video in videos)
    assert problems == []


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"no subject_N/ADL.csv"):
        read_gmdcsa24(str(tmp_path))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "ADL.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="must be 'File Name'"):
        read_gmdcsa24(str(tmp_path))


@pytest.mark.footage
def test_the_real_lists():
    videos, problems = read_gmdcsa24(str(footage_folder() / "gmdcsa24"))
    assert len(videos) == 13
    assert Counter(p.kind for p in problems) == {"missing_file": 104}
    falls = {v.video_id: v for v in videos}["subject_2/Fall/12"]
    assert falls.intervals == (
        ("Falling (BW)", 6.9, 12.0),
        ("Drinking", 3.5, 5.3),
        ("Standing", 3.6, 6.9),
        ("Walking", 0.0, 3.6),
    )
