"""Breakfast's files as they are: at full size with the known counts, and each quirk by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines.datasets.breakfast import read_breakfast, video_names
from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.datasets.release_summary import summarise
from tests.pipelines.datasets import official_sizes as sizes
from tests.pipelines.datasets.release_files import by_id, kinds, write


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
