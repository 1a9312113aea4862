"""An index points at the right bytes, in the right order, and costs nothing when nothing has changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import key_and_extension
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index, open_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.index.partitions import LOADED_SCHEMA
from adaptfocus.pipelines.index.pool import index_shards
from adaptfocus.pipelines.index.rows import ShardTask
from adaptfocus.pipelines.video.spans import packets_of
from tests.footage import encode, footage_files, footage_folder, write_tar
from tests.pipelines.index.tar_samples import VIDEO, index, refused_rows, sample


def test_rows_point_at_the_bytes_of_the_videos(tmp_path: Path):
    other = encode(20, container="matroska")
    shard = write_tar(
        tmp_path / "s.tar",
        {**sample("dir.x/a", {"labels": ["sit"], "intervals": [["sit", 0, 9]]}), "./b.mkv": other, "./b.json": b"{}"},
    )
    summary = index(shard, out=tmp_path / "index")
    loaded = load_index(str(tmp_path / "index"))
    first, second = loaded.table.to_pylist()
    assert loaded.table.schema.equals(LOADED_SCHEMA)
    assert (first["video_id"], second["video_id"]) == ("dir.x/a", "b")
    tar = shard.read_bytes()
    for row, video in ((first, VIDEO), (second, other)):
        assert tar[row["member_offset_bytes"] :][: row["member_size_bytes"]] == video
        assert row["shard_url"] == str(shard)
    assert first["access"] == "packets"
    assert first["intervals"] == [{"label": "sit", "start_seconds": 0.0, "end_seconds": 1.0}]
    assert (second["labels"], second["intervals"], second["member_name"]) == ([], None, "./b.mkv")
    assert (summary.videos, summary.unlabelled, summary.intervals_changed) == (2, 1, {"interval_clamped": 1})
    assert loaded.classes == ["sit"]


@given(st.text(st.sampled_from("ab./_\n"), max_size=12))
def test_keys_are_those_of_webdataset(name: str):
    key, extension = webdataset.tariterators.base_plus_ext(name)
    assert key_and_extension(name) == (key, (extension or "").lower())


def test_labels_in_every_form_that_tars_hold_them(tmp_path: Path):
    members = {
        **sample("names", {"labels": ["sit", "walk"]}),
        **sample("text", {"labels": "walk; sit"}),
        **sample("numbers", {"labels": [1, 0]}),
        "number.mp4": VIDEO,
        "number.cls": b"1\n",
        **sample("none"),
    }
    index(write_tar(tmp_path / "s.tar", members), out=tmp_path / "index", classes=["walk", "sit"])
    rows = {row["video_id"]: row["labels"] for row in load_index(str(tmp_path / "index")).table.to_pylist()}
    assert rows == {
        "names": ["sit", "walk"],
        "text": ["walk", "sit"],
        "numbers": ["sit", "walk"],
        "number": ["sit"],
        "none": [],
    }


def test_a_labels_file_overrides_the_labels_in_the_tar(tmp_path: Path):
    shard = write_tar(tmp_path / "s.tar", {**sample("a", {"labels": ["sit"]}), **sample("b", {"labels": ["sit"]})})
    (tmp_path / "l.csv").write_text("id,labels\na,walk;run\nelsewhere,walk\n")
    summary = index(shard, out=tmp_path / "index", labels_url=str(tmp_path / "l.csv"))
    assert load_index(str(tmp_path / "index")).table["labels"].to_pylist() == [["walk", "run"], ["sit"]]
    assert summary.labels_without_video == 1
    with pytest.raises(InputError, match=r"l\.csv line 2: the label 'run'"):
        index(shard, out=tmp_path / "index", labels_url=str(tmp_path / "l.csv"), classes=["sit", "walk"])


def test_the_class_list_next_to_the_shards_is_used(tmp_path: Path):
    write_tar(tmp_path / "s.tar", sample("a", {"labels": [1]}))
    (tmp_path / "classes.txt").write_text("zebra\nant\n")
    assert index(tmp_path, out=tmp_path / "index").classes == ("zebra", "ant")
    assert load_index(str(tmp_path / "index")).table["labels"].to_pylist() == [["ant"]]


def test_shards_may_be_named_in_every_way(tmp_path: Path):
    for i in range(3):
        write_tar(tmp_path / f"train-{i:06d}.tar", sample(f"v{i}"))
    everything = [f"v{i}" for i in range(3)]
    for pattern in (tmp_path, tmp_path / "*.tar", tmp_path / "train-{000000..000002}.tar"):
        index(pattern, out=tmp_path / "index")
        assert load_index(str(tmp_path / "index")).table["video_id"].to_pylist() == everything
    chosen = [tmp_path / "train-000002.tar", tmp_path / "train-00000{0,2}.tar"]
    index(*chosen, out=tmp_path / "index")
    assert load_index(str(tmp_path / "index")).table["video_id"].to_pylist() == ["v0", "v2"], (
        "those that stay, stay put"
    )
    index(*chosen, out=tmp_path / "other")
    assert load_index(str(tmp_path / "other")).table["video_id"].to_pylist() == ["v2", "v0"]
    for pattern, error, message in [
        ("*.zip", InputError, "no shard matches"),
        ("nothing", (InputError, StorageError), "nothing"),
        ("train-{0..2.tar", InputError, "braces do not close"),
        ("train-{000002..000003}.tar", StorageError, "there is nothing at .*train-000003.tar"),
    ]:
        with pytest.raises(error, match=message):
            index(tmp_path / pattern, out=tmp_path / "index")


def test_an_id_stays_with_its_first_shard(tmp_path: Path):
    write_tar(tmp_path / "0.tar", {**sample("a", {"labels": ["first"]}), **sample("b")})
    write_tar(
        tmp_path / "1.tar", {**sample("a", {"labels": ["second"]}), **sample("c"), **sample("d", {"labels": ["x"]})}
    )
    write_tar(tmp_path / "2.tar", {**sample("e"), **sample("c"), "f.mp4": VIDEO, "g.mp4": VIDEO, "e.mov": VIDEO})
    summary = index(tmp_path, out=tmp_path / "index")
    table = load_index(str(tmp_path / "index")).table
    assert table["video_id"].to_pylist() == ["a", "b", "c", "d", "e", "f", "g"]
    assert table["labels"].to_pylist()[0] == ["first"]
    assert summary.refused == {"duplicate_id": 3}
    assert [row["video_id"] for row in refused_rows(tmp_path / "index")] == ["a", "c", "e"]
    assert summary.classes == ("first", "x"), "a label that only a repeated video has is no class"

    assert index(tmp_path, out=tmp_path / "index").shards_read == 0
    write_tar(tmp_path / "3.tar", {**sample("h"), **sample("f")})
    summary = index(tmp_path, out=tmp_path / "index")
    assert (summary.shards_read, summary.refused) == (1, {"duplicate_id": 4})
    assert refused_rows(tmp_path / "index")[-1]["message"].startswith(f"{tmp_path}/2.tar already has this id")
    (tmp_path / "0.tar").unlink()
    summary = index(tmp_path, out=tmp_path / "index")
    rows = {row["video_id"]: row for row in load_index(str(tmp_path / "index")).table.to_pylist()}
    assert rows.keys() == {*"acdefgh"}
    assert rows["a"]["labels"] == ["second"], "its first shard has gone"
    assert summary.refused == {"duplicate_id": 3}
    assert [row["video_id"] for row in refused_rows(tmp_path / "index")] == ["c", "e", "f"]
    assert summary.shards_read == 3, "those that have lost an id to another shard"
    assert summary.classes == ("second", "x")


def test_only_what_has_changed_is_read_again(tmp_path: Path):
    for i in range(3):
        write_tar(tmp_path / f"{i}.tar", sample(f"v{i}", {"labels": ["x"]}))
    done: list[tuple[int, int, str]] = []
    first = index(tmp_path, out=tmp_path / "index", progress=lambda *step: done.append(step))
    assert [(n, total, Path(url).name) for n, total, url in done] == [(i, 3, f"{i - 1}.tar") for i in (1, 2, 3)]
    fingerprint = load_index(str(tmp_path / "index")).fingerprint
    again = index(tmp_path, out=tmp_path / "index")
    assert (first.shards_read, again.shards_read, again.shards_unchanged, again.videos) == (3, 0, 3, 3)
    assert load_index(str(tmp_path / "index")).fingerprint == fingerprint

    write_tar(tmp_path / "1.tar", {**sample("v1"), **sample("new")})
    write_tar(tmp_path / "00.tar", sample("before"))
    assert index(tmp_path, out=tmp_path / "index").shards_read == 2
    loaded = load_index(str(tmp_path / "index"))
    assert loaded.table["video_id"].to_pylist() == ["v0", "v2", "before", "v1", "new"]
    assert loaded.table["video_row"].to_pylist() == [0, 2, 1 << 24, 1 << 24 | 1, 1 << 24 | 2], "the others keep theirs"
    assert loaded.fingerprint != fingerprint
    assert [path.name for path in sorted((tmp_path / "index" / "snapshots").iterdir())] == [
        "000000.json",
        "000001.json",
    ]
    assert not list((tmp_path / "index" / "staged").iterdir())
    assert index(tmp_path, out=tmp_path / "index", classes=["x"]).shards_read == 4, "another class list, other rows"


def test_an_interrupted_run_continues_where_it_was(tmp_path: Path):
    for i in range(3):
        write_tar(tmp_path / f"{i}.tar", sample(f"v{i}"))

    def interrupt(done: int, total: int, url: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(tmp_path, out=tmp_path / "index", progress=interrupt)
    with pytest.raises(InputError, match="there is no index at"):
        load_index(str(tmp_path / "index"))
    assert index(tmp_path, out=tmp_path / "index").shards_read == 1


def test_processes_give_the_same_rows(tmp_path: Path):
    for i in range(4):
        write_tar(tmp_path / f"{i}.tar", {**sample(f"v{i}", {"labels": ["x"]}), "bad.mp4": b"?"})
    index(tmp_path, out=tmp_path / "one", workers=1)
    index(tmp_path, out=tmp_path / "two", workers=2)
    one, two = (with_packets(load_index(str(tmp_path / name)).table) for name in ("one", "two"))
    assert one.drop_columns(["packets_url"]).equals(two.drop_columns(["packets_url"]))
    assert refused_rows(tmp_path / "one") == refused_rows(tmp_path / "two")


@dataclass(frozen=True)
class DeadlyTask(ShardTask):
    """Ends the process that receives it, as a crash in a native decoder does."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_shard_that_kills_its_process_costs_that_shard_only(tmp_path: Path):
    tasks: dict[int, ShardTask] = {}
    for i in range(3):
        shard = write_tar(tmp_path / f"{i}.tar", sample(f"v{i}"))
        make = DeadlyTask if i == 1 else ShardTask
        tasks[i] = make(str(tmp_path), str(shard), shard.stat().st_size, "", f"{i:016x}", None, None)
    facts = dict(index_shards(tasks, workers=2))
    assert {i: f.rows for i, f in facts.items()} == {0: 1, 1: 0, 2: 1}
    assert facts[1].refused == {"reader_died": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "000007.json is damaged .*remove it and run `adaptfocus index` again"),
        (b'{"schema_version": 99}', "has schema version 99, this version of adaptfocus knows 4"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, message: str):
    store.write_bytes(str(tmp_path / "snapshots" / "000007.json"), content)
    with pytest.raises(InputError, match=message):
        open_index(str(tmp_path))
    with pytest.raises(InputError, match=message):
        load_index(str(tmp_path))


def test_only_some_columns_can_be_loaded(tmp_path: Path):
    index(write_tar(tmp_path / "s.tar", sample("a")), out=tmp_path / "index")
    assert load_index(str(tmp_path / "index"), ["duration_seconds", "video_id"]).table.to_pydict() == {
        "video_row": [0],
        "duration_seconds": [1.0],
        "video_id": ["a"],
    }


def test_an_object_store_is_indexed_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("shards")
        for i in range(2):
            data = write_tar(tmp_path / "x.tar", sample(f"v{i}", {"labels": ["x"]})).read_bytes()
            store.write_bytes(f"s3://shards/in/train-{i:06d}.tar", data)
        shards = ["s3://shards/in/train-{000000..000001}.tar"]
        assert build_index(shards, "s3://shards/index", workers=2).shards_read == 2
        assert load_index("s3://shards/index").table["video_id"].to_pylist() == ["v0", "v1"]
        assert build_index(["s3://shards/in"], "s3://shards/index", workers=2).shards_read == 0
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.mark.footage
def test_all_real_footage_is_indexed_or_refused(tmp_path: Path):
    folder, files = footage_folder(), footage_files()
    members = {str(p.relative_to(folder)): p.read_bytes() for p in files}
    shard = write_tar(tmp_path / "s.tar", members)
    summary = index(shard, out=tmp_path / "index")
    assert summary.videos + sum(summary.refused.values()) == len(files)
    assert summary.refused == {"encrypted": 1, "no_packets": 1, "no_video_stream": 1, "unreadable_video": 2}
    assert summary.seconds < 20
    for row in with_packets(load_index(str(tmp_path / "index")).table).to_pylist():
        if row["access"] == "packets":
            packets = packets_of(row)
            assert packets.offset_bytes[-1] + packets.size_bytes[-1] <= row["member_size_bytes"]
            assert packets.is_key[0]
