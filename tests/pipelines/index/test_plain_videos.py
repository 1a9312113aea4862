"""Plain video files as an index: what is found, how each is called, and that clips of them are those of a tar."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import video_with_packets
from adaptfocus.pipelines.shards.find import find_videos
from adaptfocus.pipelines.shards.plain import video_ids
from tests.footage import encode, write_tar
from tests.pipelines.shards.range_server import served


@pytest.fixture(scope="module")
def video() -> bytes:
    return encode(30, options={"g": "10"})


def test_a_file_has_the_packets_that_it_has_in_a_tar(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "one.mp4").write_bytes(video)
    write_tar(tmp_path / "shard.tar", {"one.mp4": video})
    rows = []
    for source, are_videos in (("one.mp4", True), ("shard.tar", False)):
        out = str(tmp_path / f"index-{are_videos}")
        build_index([str(tmp_path / source)], out, classes=["run"], are_videos=are_videos)
        (row,) = load_index(out).table.to_pylist()
        rows.append(video_with_packets(row))
    plain, packed = rows
    assert (plain["video_id"], plain["member_offset_bytes"]) == ("one", 0)
    assert plain["member_size_bytes"] == plain["shard_size_bytes"] == len(video)
    for name in ("video_id", "packets", "duration_seconds", "codec", "extradata", "access"):
        assert plain[name] == packed[name], name


def test_files_of_folders_of_a_disk_and_of_the_web_are_one_index(tmp_path: Path, video: bytes) -> None:
    folder = tmp_path / "clips" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.mp4").write_bytes(video)
    (folder / "b.MOV").write_bytes(video)
    (folder / "notes.txt").write_text("no video")
    assert video_ids(find_videos([str(tmp_path / "clips")])) == ["a", "b"]
    web = tmp_path / "web"
    web.mkdir()
    (web / "c.mp4").write_bytes(video)
    with served(web) as url:
        out = str(tmp_path / "index")
        summary = build_index([str(folder), f"{url}/c.mp4"], out, classes=["run"], are_videos=True, workers=1)
        assert (summary.videos, summary.refused) == (3, {})
        table = load_index(out).table
        ids, packets = table["video_id"].to_pylist(), {row["packet_count"] for row in table.to_pylist()}
    assert {each.rsplit("/", 1)[-1] for each in ids} == {"a", "b", "c"}
    assert not any(each.startswith("/") for each in ids)
    assert packets == {30}


def test_no_name_ends_it(tmp_path: Path, video: bytes) -> None:
    """Of a camera's folder all files are taken that can be, and each of the others has a reason."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "a.mkv", "...mp4", "{b,c}.mp4", "{d.mp4", "[e].mp4", "line\nbreak.mp4"):
        (folder / name).write_bytes(video)
    os.link(folder / "a.mp4", os.fsencode(folder) + b"/caf\xe9.mp4")
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    out = str(tmp_path / "index")
    summary = build_index([str(folder)], out, classes=["run"], are_videos=True, workers=1)
    ids = {"...mp4", "a.mkv", "a.mp4", "{b,c}", "{d", "[e]"}
    assert set(load_index(out).table["video_id"].to_pylist()) == ids
    assert summary.refused == {"missing_file": 1, "name_not_utf8": 1, "unsafe_name": 1}
    assert all(kind in " ".join(summary.reasons) for kind in summary.refused)
    (tmp_path / "nowhere.mp4").write_bytes(video)
    assert build_index([str(folder)], out, classes=["run"], are_videos=True, workers=1).videos == 7, "it is there now"
    given = [str(folder / name) for name in ("{b,c}.mp4", "{d.mp4", "none.mp4")]
    summary = build_index(given, str(tmp_path / "given"), classes=["run"], are_videos=True, workers=1)
    assert (summary.videos, summary.refused) == (2, {"missing_file": 1})


def test_a_file_that_the_web_does_not_have_ends_nothing(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(video)
    with served(tmp_path) as url:
        given = [f"{url}/a.mp4", f"{url}/none.mp4"]
        summary = build_index(given, str(tmp_path / "index"), classes=["run"], are_videos=True, workers=1)
    assert (summary.videos, summary.refused) == (1, {"missing_file": 1})


def test_nothing_to_find_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is no video in .*give an index, a folder of videos, their URLs or a glob"
    ):
        find_videos([str(tmp_path)])
    with pytest.raises(InputError, match=r"no file matches .*\*\.mp4"):
        find_videos([f"{tmp_path}/*.mp4"])
