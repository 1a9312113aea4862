"""What is packed comes out again, byte for byte, and WebDataset itself reads it."""

from __future__ import annotations

import gc
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import webdataset

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import key_of
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo, Problem
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.shards.packing import pack
from tests.footage import encode


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four videos of 4 s, 2 s, 1 s and 1 s in a folder of their own."""
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(encode(40))
    (folder / "b.mkv").write_bytes(encode(20, container="matroska"))
    (folder / "c.MP4").write_bytes(encode(10))
    (folder / "d.bin").write_bytes(encode(10))
    return folder


def video(path: Path, video_id: str = "", labels: tuple[str, ...] = ("walk",), **more) -> AnnotatedVideo:
    return AnnotatedVideo(video_id or path.stem, str(path), labels, **more)


def test_webdataset_reads_the_shards_back(clips: Path, tmp_path: Path):
    videos = [
        video(clips / "a.mp4", "kitchen/a", ("walk", "sit"), intervals=(("walk", 1.0, 3.0),), split="train"),
        video(clips / "b.mkv", "v1.2.b", ()),
        video(clips / "c.MP4"),
        video(clips / "d.bin"),
    ]
    summary = pack(videos, str(tmp_path / "out"), shard_size_bytes=6000)
    assert len(summary.shards) > 1
    samples = {s["__key__"]: s for s in webdataset.WebDataset(summary.shards, shardshuffle=False)}
    assert list(samples) == ["kitchen/a", "v1_2_b", "c", "d"]
    assert samples["kitchen/a"]["mp4"] == (clips / "a.mp4").read_bytes()
    assert samples["v1_2_b"]["mkv"] == (clips / "b.mkv").read_bytes()
    assert samples["c"]["mp4"] == (clips / "c.MP4").read_bytes()
    assert samples["d"]["mp4"] == (clips / "d.bin").read_bytes(), "a name that tells nothing becomes .mp4"
    assert json.loads(samples["kitchen/a"]["json"]) == {
        "id": "kitchen/a",
        "labels": ["walk", "sit"],
        "intervals": [{"label": "walk", "start_seconds": 1.0, "end_seconds": 3.0}],
        "duration_seconds": 4.0,
        "split": "train",
    }
    assert "intervals" not in json.loads(samples["v1_2_b"]["json"])
    assert summary.ids_renamed == 1
    assert store.read_bytes(str(tmp_path / "out" / "classes.txt")) == b"sit\nwalk\n"


def test_the_same_videos_give_the_same_bytes(clips: Path, tmp_path: Path):
    videos = [video(clips / "a.mp4", "ünïcode/" + "long" * 40), video(clips / "b.mkv")]
    for out in ("one", "two"):
        pack(videos, str(tmp_path / out))
    assert (tmp_path / "one/shard-000000.tar").read_bytes() == (tmp_path / "two/shard-000000.tar").read_bytes()
    with tarfile.open(tmp_path / "one/shard-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in tar} == {(0, 0, 0, "")}


def test_intervals_are_cut_to_the_true_duration(clips: Path, tmp_path: Path):
    times = (("x", 1.0, 99.0), ("x", 5.0, 6.0), ("x", 3.0, 2.0))
    summary = pack([video(clips / "a.mp4", intervals=times)], str(tmp_path / "out"))
    (sample,) = webdataset.WebDataset(summary.shards, shardshuffle=False)
    assert json.loads(sample["json"])["intervals"] == [{"label": "x", "start_seconds": 1.0, "end_seconds": 4.0}]
    assert summary.counts == {"interval_clamped": 1, "interval_dropped": 2}


def test_bad_videos_are_left_out_with_a_reason(clips: Path, tmp_path: Path):
    (clips / "text.mp4").write_text("this is no video")
    (clips / "empty.mp4").touch()
    videos = [
        video(clips / "text.mp4"),
        video(clips / "empty.mp4"),
        video(clips / "gone.mp4"),
        video(clips / "a.mp4", "x.y"),
        video(clips / "a.mp4", "x_y"),
        video(clips / "a.mp4", "__meta__/z"),
    ]
    before = [Problem("missing_file", "m.csv line 9", "there is no file")]
    summary = pack(videos, str(tmp_path / "out"), problems=before)
    assert summary.videos == 1
    assert summary.counts == {"unreadable_video": 2, "missing_file": 2, "key_collision": 1, "reserved_key": 1}
    written = json.loads((tmp_path / "out" / "pack.json").read_text())
    assert written["counts"] == summary.counts
    assert written["problems"][0]["where"] == "m.csv line 9"
    assert {p["where"] for p in written["problems"][1:]} == {"text", "empty", "gone", "x_y", "__meta__/z"}


def test_what_makes_the_whole_input_unusable(clips: Path, tmp_path: Path):
    out = str(tmp_path / "out")
    (clips / "text.mp4").write_text("this is no video")
    with pytest.raises(InputError, match="'wolk' is not among the 2 classes; the nearest is 'walk'"):
        pack([video(clips / "a.mp4", labels=("wolk",))], out, classes=["sit", "walk"])
    with pytest.raises(InputError, match=r"'a' occurs twice: .*a\.mp4 and .*b\.mkv"):
        pack([video(clips / "a.mp4", "a"), video(clips / "b.mkv", "a")], out)
    with pytest.raises(InputError, match="cannot be used because"):
        pack([video(clips / "a.mp4", "../a")], out)
    with pytest.raises(InputError, match=r"none of 1 videos could be packed: text: .*text\.mp4"):
        pack([video(clips / "text.mp4")], out)
    with pytest.raises(InputError, match="no videos were given"):
        pack([], out)
    assert not list(Path(out).glob("*.tar*"))


def test_old_shards_are_not_mixed_with_new_ones(clips: Path, tmp_path: Path):
    out = str(tmp_path / "out")
    pack([video(clips / "a.mp4"), video(clips / "b.mkv")], out, shard_size_bytes=1)
    with pytest.raises(InputError, match=r"already holds tars \(2\)"):
        pack([video(clips / "a.mp4")], out)
    summary = pack([video(clips / "a.mp4")], out, overwrite=True)
    assert store.list_files(out) == [
        str(tmp_path / "out" / name) for name in ("classes.txt", "pack.json", "shard-000000.tar")
    ]
    assert summary.classes == ["walk"]


def test_an_interrupted_pack_leaves_no_half_shard(clips: Path, tmp_path: Path):
    def interrupt(done: int, total: int, video_id: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack([video(clips / "a.mp4")], str(tmp_path / "out"), progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_names_each_video_and_shard(clips: Path, tmp_path: Path):
    seen: list[tuple[int, int, str]] = []
    pack(
        [video(clips / "a.mp4"), video(clips / "b.mkv")],
        str(tmp_path / "out"),
        progress=lambda *step: seen.append(step),
    )
    assert seen == [(1, 2, "a"), (2, 2, "b"), (3, 3, str(tmp_path / "out/shard-000000.tar"))]


@pytest.mark.parametrize(("video_id", "key"), [("a", "a"), ("a.b.c", "a_b_c"), ("v1.0/a.b", "v1.0/a_b"), (".x", "_x")])
def test_keys_survive_websdatasets_rule(video_id: str, key: str):
    assert key_of(video_id) == key
    assert webdataset.tariterators.base_plus_ext(f"{key}.mp4") == (key, "mp4")


def test_the_same_bytes_go_to_an_object_store(clips: Path, tmp_path: Path, s3_url: str):
    store.write_bytes(f"{s3_url}/in/a.mp4", (clips / "a.mp4").read_bytes())
    videos = [AnnotatedVideo("a", f"{s3_url}/in/a.mp4", ("walk",)), video(clips / "b.mkv")]
    pack(videos, f"{s3_url}/out")
    pack([video(clips / "a.mp4"), video(clips / "b.mkv")], str(tmp_path / "out"))
    remote = store.read_bytes(f"{s3_url}/out/shard-000000.tar")
    assert remote == (tmp_path / "out" / "shard-000000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(remote)) as tar:
        names = tar.getnames()
    assert names == ["a.mp4", "a.json", "b.mkv", "b.json"]


def test_a_shard_that_fails_in_the_middle_leaves_nothing_in_an_object_store(clips: Path, s3_url: str):
    def over(items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
        yield from in_this_process(items, function)
        (clips / "b.mkv").unlink()  # after all were checked; a is copied before it is missed

    with pytest.raises(InputError, match=r"b\.mkv had \d+ bytes when it was checked, and is gone"):
        pack([video(clips / "a.mp4"), video(clips / "b.mkv")], f"{s3_url}/interrupted", over=over)
    gc.collect()  # the destructor of a stream that is only dropped uploads what it holds
    assert store.list_files(f"{s3_url}/interrupted") == []


def test_a_missing_bucket_is_named(clips: Path, s3_url: str):
    with pytest.raises(StorageError, match="there is no bucket 'nowhere'"):
        pack([video(clips / "a.mp4")], "s3://nowhere/out")
