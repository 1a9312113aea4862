"""Videos are found by name in whatever folders people keep them; missing and doubtful ones are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.datasets.breakfast import video_names
from adaptfocus.pipelines.datasets.find_videos import find_videos
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.store.walk import files_below


def touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (["AO8RW"], "AO8RW.mp4"),
        (["AO8RW"], "Charades_v1_480/AO8RW.mkv"),
        (["video_validation_0000051"], "TH14/validation/video_validation_0000051.MP4"),
        (["v_x-Y", "x-Y"], "train/v_x-Y.webm"),
        (["v_x-Y", "x-Y"], "val/x-Y.mp4"),
        (["kitchen/01"], "all/kitchen/01.mp4"),
        (video_names("P03_cam01_P03_cereals")[0], "BreakfastII_15fps_qvga_sync/P03/cam01/P03_cereals.avi"),
        (video_names("P03_cam01_P03_cereals")[0], "flat/P03_cam01_P03_cereals.mp4"),
        (video_names("P23_stereo01_P23_tea")[0], "P23/stereo/P23_tea_ch0.avi"),
        (video_names("P23_stereo01_P23_tea")[0], "P23/stereo01/P23_tea.avi"),
        (video_names("P23_stereo01_P23_tea")[0], "P23_stereo01_P23_tea_ch0.mp4"),
    ],
)
def test_usual_layouts(tmp_path: Path, names: list[str], file: str) -> None:
    others = ["other.mp4", f"{file}.npy", f"{file[:-4]}.txt", "P03/cam02/P03_cereals.avi", "P04/stereo/P04_tea_ch0.avi"]
    found, problems = find_videos({"id": names}, [touch(tmp_path, file, *others)])
    assert problems == []
    assert found["id"][0] == f"{tmp_path}/{file}"


def test_what_is_missing_or_there_twice_is_left_out(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/a.mp4", "small/a.avi", "b.mp4", "xc.mp4", "D.mp4", "a/b.mp4.part")
    names = {"a": ["a"], "b": ["b"], "c": ["c", "v_c"], "d": ["d"]}
    found, problems = find_videos(names, [root, f"{root}/small"])
    assert found == {"b": (f"{root}/b.mp4", "b")}
    assert [(p.kind, p.where) for p in problems] == [
        ("ambiguous_video", "a"),
        ("missing_video", "c"),
        ("missing_video", "d"),
    ]
    assert "2 videos are called a: " in problems[0].message
    assert "give a folder that holds one of them" in problems[0].message
    assert problems[1].message == "no video is called c.* or v_c.*"
    assert find_videos({"a": ["a"]}, [f"{root}/small"])[0] == {"a": (f"{root}/small/a.avi", "a")}
    assert find_videos({"a": ["a"]}, [f"{root}/nowhere"])[1][0].kind == "missing_video"


def test_one_channel_of_a_stereo_camera_is_enough(tmp_path: Path) -> None:
    first, second = video_names("P23_stereo01_P23_tea")
    videos = ReleasedVideo("P23_stereo01_P23_tea", names=first, second_names=second)
    release = Release("breakfast", (), (videos,))
    root = touch(tmp_path, "P23/stereo/P23_tea_ch1.avi")
    (video,), problems = release.located([root])
    assert video.path == f"{root}/P23/stereo/P23_tea_ch1.avi"
    assert [p.kind for p in problems] == ["second_choice"]
    touch(tmp_path, "P23/stereo/P23_tea_ch0.avi")
    (video,), problems = release.located([root])
    assert video.path == f"{root}/P23/stereo/P23_tea_ch0.avi"
    assert problems == []


def test_paths_and_ids_in_one_release_keep_their_order(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.mp4", "b.mp4")
    rows = (
        ReleasedVideo("b", names=("b",)),
        ReleasedVideo("a", path=f"{root}/a.mp4"),
        ReleasedVideo("gone", path=f"{root}/gone.mp4"),
    )
    videos, problems = Release("csv", (), rows).located([root])
    assert [video.video_id for video in videos] == ["b", "a"]
    assert [(p.kind, p.where) for p in problems] == [("missing_file", "gone")]
    with pytest.raises(InputError, match=r"1 videos must be looked for; give the folder .*--videos"):
        Release("csv", (), rows).located([])


def test_linked_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "disk2/deep/b.mp4", "videos/a.mp4")
    (tmp_path / "videos" / "more").symlink_to(tmp_path / "disk2")
    (tmp_path / "disk2" / "circle").symlink_to(tmp_path / "videos")
    (tmp_path / "videos" / "c.mp4").symlink_to(tmp_path / "disk2" / "deep" / "b.mp4")
    root = str(tmp_path / "videos")
    assert files_below(root) == [f"{root}/a.mp4", f"{root}/c.mp4", f"{root}/more/deep/b.mp4"]
    assert files_below(f"{root}/nothing") == []


def test_the_same_in_an_object_store(s3_url: str) -> None:
    for name in ("[v1]/P03/cam01/P03_tea.avi", "[v1]/a.mp4", "1/b.mp4"):
        store.write_bytes(f"{s3_url}/{name}", b"")
    root = f"{s3_url}/[v1]"
    assert files_below(root) == [f"{root}/P03/cam01/P03_tea.avi", f"{root}/a.mp4"]
    found, _ = find_videos({"tea": ["P03/cam01/P03_tea"]}, [root])
    assert found["tea"][0] == f"{root}/P03/cam01/P03_tea.avi"
    assert files_below(f"{s3_url}/nothing") == []
    with pytest.raises(StorageError, match="there is no bucket 'nowhere-at-all'"):
        files_below("s3://nowhere-at-all/videos")
