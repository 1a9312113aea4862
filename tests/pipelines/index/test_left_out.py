"""What an index leaves out is counted with its reason: members, videos, tars; the others stay."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.shards.read import read_samples
from tests.footage import write_tar
from tests.pipelines.index.tar_samples import VIDEO, index, refused_rows, sample

BAD = {
    "unsafe_name": {"../../x.mp4": VIDEO},
    "no_key": {"README": b"hello"},
    "no_video_in_sample": {"x.jpg": b"jpg", "x.txt": b"text"},
    "several_videos": {"x.left.mp4": VIDEO, "x.right.mp4": VIDEO},
    "unreadable_video": {"x.mp4": b"\0" * 4096},
    "bad_sample_json": {"x.mp4": VIDEO, "x.json": b'{"labels": '},
    "label_not_in_classes": sample("x", {"labels": ["wolk"]}),
}
ODD_LABELS = [
    ({"labels": [7]}, "label_not_in_classes"),
    ({"labels": [True]}, "bad_sample_json"),
    ({"labels": {"walk": 1}}, "bad_sample_json"),
    ({"labels": ["walk", 1]}, "bad_sample_json"),
    ({"labels": ["walk"], "intervals": [["walk", 1]]}, "bad_sample_json"),
    (["walk"], "bad_sample_json"),
]


@pytest.mark.parametrize("kind", BAD)
def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path, kind: str):
    shard = write_tar(tmp_path / "s.tar", {**sample("good"), **BAD[kind]})
    summary = index(shard, out=tmp_path / "index", classes=["walk"])
    assert summary.refused == {kind: 1}
    (row,) = refused_rows(tmp_path / "index")
    assert (row["kind"], row["shard_url"]) == (kind, str(shard))
    assert len(row["message"]) > 20
    ids = load_index(str(tmp_path / "index")).table["video_id"].to_pylist()
    assert ids == (["good", "x"] if kind == "several_videos" else ["good"])


@pytest.mark.parametrize(("annotation", "kind"), ODD_LABELS)
def test_odd_annotations_refuse_their_video_only(tmp_path: Path, annotation: Any, kind: str):
    shard = write_tar(tmp_path / "s.tar", {**sample("x", annotation), **sample("good")})
    assert index(shard, out=tmp_path / "index", classes=["walk"]).refused == {kind: 1}


def test_a_number_without_a_class_list_asks_for_one(tmp_path: Path):
    shard = write_tar(tmp_path / "s.tar", {**sample("x", {"labels": [1]}), **sample("good")})
    assert index(shard, out=tmp_path / "index").refused == {"label_not_in_classes": 1}
    assert "give a class list" in refused_rows(tmp_path / "index")[0]["message"]


def test_links_devices_and_sparse_members_are_refused(tmp_path: Path):
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (("l.mp4", tarfile.SYMTYPE), ("h.mp4", tarfile.LNKTYPE), ("d.mp4", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        info = tarfile.TarInfo("good.mp4")
        info.size = len(VIDEO)
        tar.addfile(info, io.BytesIO(VIDEO))
    summary = index(shard, out=tmp_path / "index")
    assert (summary.videos, summary.refused) == (1, {"unsafe_name": 3})


def test_a_sparse_member_is_refused(tmp_path: Path):
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.mp4", "GNU.sparse.realsize": "4096"}
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x.mp4")
        content = b"1\n0\n512\n".ljust(512, b"\0") + b"\1" * 512
        info.size, info.pax_headers = len(content), pax
        tar.addfile(info, io.BytesIO(content))
    _, (refusal,) = read_samples(str(tmp_path / "s.tar"), (tmp_path / "s.tar").stat().st_size)
    assert (refusal.kind, refusal.member_name) == ("sparse_member", "x.mp4")


@pytest.mark.parametrize("cut_bytes", [11_000, 1])
def test_a_truncated_tar_keeps_what_is_whole(tmp_path: Path, cut_bytes: int):
    whole = write_tar(tmp_path / "s.tar", {**sample("a"), **sample("b")}).read_bytes()
    end = whole.rindex(VIDEO) + len(VIDEO)
    (tmp_path / "s.tar").write_bytes(whole[: end - min(cut_bytes, len(VIDEO) - 1)])
    summary = index(tmp_path / "s.tar", out=tmp_path / "index")
    assert (summary.videos, summary.refused) == (1, {"truncated_member": 1})
    assert "copy the tar again" in refused_rows(tmp_path / "index")[0]["message"]


def test_a_damaged_header_is_said_and_not_taken_for_the_end(tmp_path: Path):
    whole = bytearray(write_tar(tmp_path / "s.tar", {**sample("a"), **sample("b")}).read_bytes())
    whole[whole.rindex(b"b.mp4")] ^= 1  # the header's checksum no longer fits
    (tmp_path / "s.tar").write_bytes(whole)
    assert index(tmp_path / "s.tar", out=tmp_path / "index").refused == {"broken_tar": 1}


def test_a_header_that_asks_for_gigabytes_is_not_read(tmp_path: Path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 31
    good = write_tar(tmp_path / "good.tar", sample("a")).read_bytes().rstrip(b"\0")
    good += b"\0" * (-len(good) % 512)
    with open(tmp_path / "s.tar", "wb") as out:
        out.write(good + info.tobuf(tarfile.GNU_FORMAT))
        out.truncate(1 << 32)  # sparse on disk
    tracemalloc.start()
    samples, refusals = read_samples(str(tmp_path / "s.tar"), 1 << 32)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 << 20
    assert [s.key for s in samples] == ["a"]
    assert [r.kind for r in refusals] == ["broken_tar"]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("compressed_tar", gzip.compress(b"x" * 2000)),
        ("compressed_tar", b"\x28\xb5\x2f\xfd" + b"x" * 2000),
        ("not_a_tar", b"<html>404</html>" * 100),
        ("empty_shard", b""),
        ("empty_shard", b"\0" * 10240),
    ],
)
def test_what_is_no_usable_tar_is_refused_and_the_others_stay(tmp_path: Path, kind: str, data: bytes):
    write_tar(tmp_path / "0.tar", sample("a"))
    (tmp_path / "1.tar").write_bytes(data)
    summary = index(tmp_path, out=tmp_path / "index")
    assert (summary.videos, summary.refused) == (1, {kind: 1})


def test_if_nothing_can_be_indexed_the_first_reasons_are_said(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(gzip.compress(b"x" * 2000))
    write_tar(tmp_path / "b.tar", {"x.mp4": b"no video"})
    with pytest.raises(InputError, match=r"(?s)nothing could be indexed: 2 shards, .*decompress it.*unreadable_video"):
        index(tmp_path, out=tmp_path / "index")
    assert not (tmp_path / "index" / "snapshots").exists()
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="all 2 shards are empty"):
        index(tmp_path, out=tmp_path / "index")
