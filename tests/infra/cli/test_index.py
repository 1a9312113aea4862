"""`adaptfocus index` and `pack`: what was left out, what looks like a typo, one class list for all splits."""

from __future__ import annotations

import json
from pathlib import Path

from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.snapshots import snapshot_numbers
from tests.footage import encode, write_tar
from tests.pipelines.index.test_compact import content, grown

VIDEO = encode(5)


def test_what_is_refused_is_said_and_can_be_listed(type_, tmp_path: Path) -> None:
    members = {"good.mp4": VIDEO, "good.json": b'{"labels": ["x"]}'} | {f"n{n}.txt": b"?" for n in range(4)}
    shard = write_tar(tmp_path / "s.tar", members | {"bad.mp4": VIDEO, "bad.json": b"{"})
    (tmp_path / "l.csv").write_text("id,labels\ngood,y\ngone,y\n")
    code, out, _ = type_("index", shard, "--out", tmp_path / "index", "--labels", tmp_path / "l.csv", "--workers", 1)
    assert code == 0
    assert out.startswith("1 video of 1 class in 1 shard (0 unchanged)")
    assert "bad_sample_json 1, no_video_in_sample 4" in out
    assert out.count("no_video_in_sample: its members are txt") == 2, "three reasons, of both kinds"
    assert "bad.mp4: bad_sample_json: its .json does not parse" in out
    assert f"adaptfocus index {tmp_path / 'index'} --show-refused lists all" in out
    assert "that no video has: 1 ('gone')" in out
    code, out, _ = type_("index", tmp_path / "index", "--show-refused")
    assert code == 0
    assert all(f"n{n}: no_video_in_sample" in out for n in range(4))
    assert out.endswith("in all: bad_sample_json 1, no_video_in_sample 4")
    code, _, err = type_("index", tmp_path / "nowhere", "--show-refused")
    assert (code, "there is no index at" in err) == (2, True)
    code, _, err = type_("index", shard)
    assert (code, "--out is missing" in err) == (2, True)


def test_keys_that_repeat_are_told_the_fix(type_, tmp_path: Path) -> None:
    for name in ("0", "1"):
        write_tar(tmp_path / f"{name}.tar", {"000000.mp4": VIDEO})
    words = ["index", tmp_path, "--out", tmp_path / "index", "--workers", 1]
    assert "index with --prefix-shard" in type_(*words)[1]
    assert type_(*words, "--prefix-shard")[1].startswith("2 videos of 0 classes in 2 shards")
    assert load_index(str(tmp_path / "index"), ["video_id"]).table["video_id"].to_pylist() == ["0/000000", "1/000000"]


def test_one_class_list_for_all_splits_and_slips_are_said(type_, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(VIDEO)
    (tmp_path / "m.csv").write_text(
        'path,labels,split,id\na.mp4,walking,train,1\nb.mp4,Walking;run,test,2\na.mp4,"run,walking",test,3\n'
    )
    for split, videos in (("train", "1 video,"), ("test", "2 videos,")):
        code, out, _ = type_("pack", "--manifest", tmp_path / "m.csv", "--split", split, "--out", tmp_path / split)
        assert code == 0
        assert out.startswith(videos)
        assert "4 classes -> 1 shard in" in out
        assert "warning: classes that differ only in case or punctuation: 'Walking' and 'walking'" in out
        assert "warning: labels that look like several in one: 'run,walking'" in out
        assert "warning: splits share files (test and train):" in out
        assert (tmp_path / split / "classes.txt").read_text() == "Walking\nrun\nrun,walking\nwalking\n"
    code, _, err = type_("pack", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "train")
    assert (code, "give another folder, or --overwrite" in err) == (2, True)
    code, out, _ = type_("pack", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "train", "--overwrite", "--json")
    assert len(json.loads(out)["warnings"]) == 3
    code, _, err = type_("pack", "--manifest", tmp_path / "m.csv", "--split", "val", "--out", tmp_path / "val")
    assert (code, "is in the split 'val'; there are: test, train" in err) == (2, True)


def test_a_signed_url_is_not_repeated_whatever_is_wrong(type_, tmp_path: Path) -> None:
    url = "https://127.0.0.1:9/x.tar?X-Amz-Signature=HIDDEN"
    for words in (
        ["index", url, "--out", tmp_path / "i"],
        ["index", "https://u:HIDDEN@h/{0..2.tar", "--out", tmp_path / "i"],
        ["index", tmp_path, "--out", url],
        ["index", tmp_path, "--out", tmp_path / "i", "--labels", url],
        ["index", tmp_path, "--out", tmp_path / "i", "--classes", url],
        ["pack", "--manifest", url, "--out", tmp_path / "o"],
        ["plan", "small", url],
        ["plan", "small", "name=x", f"runs={url}", "index=i"],
        ["evaluate", url, "--index", "i"],
        ["report", url, "--out", "r.html"],
        ["runs", url, "extra", url],
    ):
        code, out, err = type_(*words)
        assert code == 2, words
        assert "HIDDEN" not in out + err, words


def test_an_index_is_compacted(type_, tmp_path: Path) -> None:
    out = grown(tmp_path)
    first, snapshots = content(out), len(snapshot_numbers(str(out)))
    code, said, _ = type_("index", out, "--compact", "--keep-snapshots", 1, "--dry-run", "--older-than", 0)
    assert (code, "would join" in said, "would be removed" in said) == (0, True, True)
    assert len(snapshot_numbers(str(out))) == snapshots
    code, said, _ = type_("index", out, "--compact", "--keep-snapshots", 1, "--older-than", 0)
    assert code == 0
    assert "videos have new rows: a run stays with the snapshot that it was begun on" in said
    assert content(out) == first
    assert len(snapshot_numbers(str(out))) == 1
    assert "nothing to join" in type_("index", out, "--compact")[1]
    assert "give that too" in type_("index", out, "--dry-run")[2]
    assert "takes no tars" in type_("index", out, "--compact", "--out", out)[2]
