"""`adaptfocus clips`: from a run or a list to shards that webdataset and `adaptfocus index` read."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset
from pyarrow import csv

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.preparation import prepare
from tests.footage import encode, write_tar
from tests.worlds import SmallWorld


@pytest.fixture(scope="module")
def run(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a run of one epoch."""
    config = small_world.run_config(tmp_path_factory.mktemp("runs"), "r", "epochs=1")
    prepare(config)
    train(config, LocalEngine(4))
    return config.url


def samples_of(out: Path) -> list[dict]:
    """All samples, decoded by webdataset."""
    shards = sorted(str(path) for path in out.glob("*.tar"))
    return list(webdataset.WebDataset(shards, shardshuffle=False).decode())


def test_a_run_becomes_a_labelled_data_set(type_, run: str, small_world: SmallWorld, tmp_path: Path) -> None:
    out, again = tmp_path / "100% clips", tmp_path / "again"
    code, said, _ = type_("clips", run, "--out", out, "--seconds", 2, "--workers", 1)
    assert code == 0
    samples = samples_of(out)
    rows = {row["video_id"]: row for row in load_index(small_world.train_index).table.to_pylist()}
    assert f"{len(samples)} clips" in said
    pairs = [(each["json"]["video_id"], each["json"]["label"]) for each in samples]
    tags = {(name, label) for name, row in rows.items() for label in row["labels"]}
    assert len(set(pairs)) == len(pairs), "one clip of a label in a video"
    assert set(pairs) <= tags
    assert len(pairs) > len(tags) / 2
    classes = (out / "classes.txt").read_text().splitlines()
    for each in samples:
        facts = each["json"]
        assert classes[each["cls"]] == facts["label"]
        assert facts["end_seconds"] - facts["start_seconds"] == pytest.approx(2)
        assert 0 <= facts["start_seconds"] <= rows[facts["video_id"]]["duration_seconds"] - 2 + 1e-9
        assert each["mp4"][4:8] == b"ftyp"
    assert len({each["__key__"] for each in samples}) == len(samples)
    assert type_("clips", run, "--out", again, "--seconds", 2, "--workers", 2)[0] == 0
    for shard in out.glob("*.tar"):
        assert (again / shard.name).read_bytes() == shard.read_bytes(), "for any number of processes"
    assert type_("clips", run, "--out", again)[0] == 2, "it does not mix with clips that are there"
    best = ("--per-label", 2, "--seconds", 1, "--overwrite", "--per-video", 2)
    assert type_("clips", run, "--out", again, *best)[0] == 0
    counts = json.loads((again / "clips.json").read_text())["labels"]
    assert set(counts.values()) == {2}
    highest = sorted(each["json"]["score"] for each in samples if each["json"]["label"] == classes[0])[-1]
    assert highest == max(each["json"]["score"] for each in samples_of(again) if each["json"]["label"] == classes[0])
    code, said, error = type_("index", out, "--out", tmp_path / "index")
    assert code == 0, error
    found = load_index(str(tmp_path / "index")).table.to_pylist()
    assert len(found) == len(samples), "the clips are a corpus"
    assert {row["video_id"]: row["labels"] for row in found} == {
        each["__key__"]: [each["json"]["label"]] for each in samples
    }
    assert all(0 <= row["intervals"][0]["start_seconds"] < row["duration_seconds"] for row in found)


def test_a_list_of_strange_ids_and_broken_videos(type_, tmp_path: Path) -> None:
    """Ids become keys: they must not climb, collide, or end the sample's name early."""
    ids = ["a.b/c d", "ünï/视频", "a_b-c_d", "-rf", "x" * 80]
    video = encode(40, options={"g": "10"})
    write_tar(tmp_path / "shards" / "s.tar", {f"{each.replace('.', '')}.mp4": video for each in ids})
    assert type_("index", tmp_path / "shards", "--out", tmp_path / "index")[0] == 0
    known = [row["video_id"] for row in load_index(str(tmp_path / "index")).table.to_pylist()]
    assert len(known) == len(ids)
    lines = [f'"{each}",1.2,2,"wave, hand",0.5' for each in known] + [
        f'"{known[0]}",7,8,late,0.9', f'"{known[0]}",1,2,unsure,0.1', "../../etc/passwd,1,2,wave,"
    ]  # fmt: skip
    listed = tmp_path / "moments.csv"
    listed.write_text("video_id,start_seconds,end_seconds,label,score\n" + "\n".join(lines) + "\n")
    words = ("clips", "--moments", listed, "--index", tmp_path / "index", "--workers", 1, "--min-score", 0.2)
    code, said, _ = type_(*words, "--out", tmp_path / "out")
    assert code == 0
    assert "5 copied, 0 encoded" in said
    assert "low_score 1, not_in_index 1, outside_video 1" in said
    samples = samples_of(tmp_path / "out")
    assert sorted(each["json"]["video_id"] for each in samples) == sorted(known)
    keys = [each["__key__"] for each in samples]
    assert len(set(keys)) == 5
    assert all(key.isascii() and not set("./\\ ") & set(key) and len(key) < 90 for key in keys)
    (refused,) = map(json.loads, (tmp_path / "out" / "refused.jsonl").read_text().splitlines())
    assert (refused["kind"], refused["label"]) == ("outside_video", "late")
    (tmp_path / "lists").mkdir()  # the list may be Parquet, as `localise` writes it
    pq.write_table(csv.read_csv(listed), tmp_path / "lists" / "000000.parquet")
    words = ("clips", "--moments", tmp_path / "lists", "--index", tmp_path / "index", "--min-score", 0.2)
    assert type_(*words, "--out", tmp_path / "same", "--workers", 1)[0] == 0
    assert (tmp_path / "same" / "clips-000000.tar").read_bytes() == (tmp_path / "out" / "clips-000000.tar").read_bytes()


def test_shards_in_a_bucket_have_the_same_bytes(type_, tmp_path: Path, s3_url: str) -> None:
    tar = write_tar(tmp_path / "shards" / "s.tar", {"v.mp4": encode(40, options={"g": "10"})})
    listed = tmp_path / "moments.csv"
    listed.write_text("video_id,start_seconds,end_seconds,label\nv,1.2,2,x\nv,2.2,3,y\n")
    assert type_("index", tar, "--out", tmp_path / "index")[0] == 0
    for out in (tmp_path / "here", s3_url):
        words = ("clips", "--moments", listed, "--index", tmp_path / "index", "--workers", 1)
        code, _, error = type_(*words, "--out", out)
        assert code == 0, error
    assert store.read_bytes(f"{s3_url}/clips-000000.tar") == (tmp_path / "here" / "clips-000000.tar").read_bytes()
    assert store.read_bytes(f"{s3_url}/classes.txt") == b"x\ny\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("v,2,1,x", "line 3: a moment begins at 0 or later and ends after that, not 2 to 1 s"),
        ("v,-1,1,x", "line 3: a moment begins at 0 or later"),
        ("v,one,2,x", "line 3: 'start_seconds' is 'one'; give a number"),
        ("v,nan,2,x", "line 3: 'start_seconds' is 'nan'; give a number"),
        ("v,1,2", "line 3: 'label' is empty"),
        (",1,2,x", "line 3: 'video_id' is empty"),
    ],
)
def test_a_wrong_line_is_named(type_, tmp_path: Path, line: str, said: str) -> None:
    listed = tmp_path / "moments.csv"
    listed.write_text(f"video_id,start_seconds,end_seconds,label\nv,1,2,x\n{line}\n")
    code, _, error = type_("clips", "--moments", listed, "--index", tmp_path / "none", "--out", tmp_path / "out")
    assert code == 2
    assert said in error


def test_what_cannot_go_together_is_refused(type_, tmp_path: Path) -> None:
    assert "give either a run or --moments" in type_("clips", "--out", tmp_path)[2]
    assert "needs --index" in type_("clips", "--moments", "a.csv", "--out", tmp_path)[2]
    assert (
        "leave them out" in type_("clips", "--moments", "a.csv", "--index", "i", "--seconds", 2, "--out", tmp_path)[2]
    )
