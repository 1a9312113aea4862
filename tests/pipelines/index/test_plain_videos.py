"""Plain video files as an index: what is found, how each is called, and that clips of them are those of a tar."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import video_with_packets
from adaptfocus.pipelines.shards.find import find_videos, video_names
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
    assert video_names(find_videos([str(tmp_path / "clips")])) == ["a", "b"]
    web = tmp_path / "web"
    web.mkdir()
    (web / "c.mp4").write_bytes(video)
    with served(web) as url:
        out = str(tmp_path / "index")
        summary = build_index([str(folder), f"{url}/c.mp4"], out, classes=["run"], are_videos=True)
        assert (summary.videos, summary.refused) == (3, {})
        table = load_index(out).table
        ids, packets = table["video_id"].to_pylist(), {row["packet_count"] for row in table.to_pylist()}
    assert {each.rsplit("/", 1)[-1] for each in ids} == {"a", "b", "c"}
    assert not any(each.startswith("/") for each in ids)
    assert packets == {30}


def test_two_files_of_one_name_are_told(tmp_path: Path, video: bytes) -> None:
    for name in ("a.mp4", "a.mkv"):
        (tmp_path / name).write_bytes(video)
    with pytest.raises(InputError, match=r"(?s)a\.mkv.*rename one of the files"):
        build_index([str(tmp_path)], str(tmp_path / "index"), classes=["run"], are_videos=True)


def test_nothing_to_find_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is no video in .*give an index, a folder of videos, their URLs or a glob"
    ):
        find_videos([str(tmp_path)])
    with pytest.raises(InputError, match=r"no file matches .*\*\.mp4"):
        find_videos([f"{tmp_path}/*.mp4"])
