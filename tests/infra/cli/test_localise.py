"""`adaptfocus localise`: from a trained run to intervals, tracks and a page, for an index and for plain files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adaptfocus.pipelines.index.build import build_index
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.preparation import prepare
from tests.footage import encode
from tests.worlds import SmallWorld

HERE = ("--engine", "local", "--stride-seconds", 2)


@pytest.fixture(scope="module")
def run(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a run of one epoch."""
    config = small_world.run_config(tmp_path_factory.mktemp("runs"), "r", "epochs=1")
    prepare(config)
    train(config, LocalEngine(4))
    return config.url


def rows_of(folder: Path, what: str) -> list[dict]:
    return [row for part in sorted((folder / what).glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_an_index_becomes_intervals_tracks_scores_and_a_page(
    type_, run: str, small_world: SmallWorld, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    words = ("localise", run, small_world.test_index, "--out", out, "--calibrate", small_world.train_index, *HERE)
    code, said, _ = type_(*words)
    assert code == 0
    assert "in 6 videos" in said
    assert "from intervals" in said
    assert "mAP, tIoU 0.5:0.05:0.95 (ActivityNet)" in said, "the world's intervals are known"
    videos = rows_of(out, "videos")
    assert len(videos) == 6
    lengths = {row["video_id"]: row["duration_seconds"] for row in videos}
    shown = rows_of(out, "intervals")
    assert shown
    assert all(0 <= row["start_seconds"] < row["end_seconds"] <= lengths[row["video_id"]] for row in shown)
    results = json.loads((out / "activitynet.json").read_text())["results"]
    assert set(results) == set(lengths)
    ranked = [each["score"] for each in results[videos[0]["video_id"]]]
    assert ranked == sorted(ranked, reverse=True)
    tracks = sorted(path.name for path in (out / "tracks").iterdir())
    assert tracks == sorted(f"{row['track']}{end}" for row in videos for end in (".srt", ".vtt"))
    cues = sum((out / "tracks" / f"{row['track']}.vtt").read_text().count("-->") for row in videos)
    assert cues == len(shown)
    page = (out / "index.html").read_text()
    assert all(row["video_id"] in page for row in videos)
    assert json.loads((out / "metrics.json").read_text())["videos"] == 6
    before = {path: path.read_bytes() for path in out.glob("[ivp]*/*.parquet")}
    assert type_(*words)[0] == 0, "given again, it makes nothing anew"
    assert {path: path.read_bytes() for path in out.glob("[ivp]*/*.parquet")} == before
    again = tmp_path / "again"
    thresholds = ("--calibrate", out / "thresholds.json", "--page-videos", 0, *HERE)
    assert type_("localise", run, small_world.test_index, "--out", again, *thresholds)[0] == 0
    assert rows_of(again, "intervals") == shown, "thresholds that were saved are taken as they are"
    assert not (again / "index.html").exists()


def test_plain_videos_with_strange_names_and_broken_ones_beside_them(type_, run: str, tmp_path: Path) -> None:
    """No video ends it, each that is not read is told with a reason, and no name leads out of the folder."""
    whole = encode(60, options={"g": "12"})
    folder = tmp_path / "videos" / "deeper"
    folder.mkdir(parents=True)
    for name, content in {
        "plain.mp4": whole, "a <b> & 'c'.mp4": whole, "..tricky.mp4": whole, "deeper/Üben.mp4": whole,
        "cut.mp4": whole[:-400], "text.mp4": b"hello", "empty.mp4": b"", "notes.txt": b"not looked at",
    }.items():  # fmt: skip
        (tmp_path / "videos" / name).write_bytes(content)
    out = tmp_path / "fo[/b]und"
    code, said, _ = type_("localise", run, tmp_path / "videos", "--out", out, "--threshold", 0.01, *HERE)
    assert code == 0
    assert "in 4 videos" in said
    assert f"-> {out}" in said, "brackets are no markup"
    for kind in ("empty_file 1", "unreadable_video 1"):
        assert kind in said
    assert len(rows_of(out, "videos")) == 4
    assert {path.parent for path in out.rglob("*.vtt")} == {out / "tracks"}
    page = (out / "index.html").read_text()
    assert "<b>" not in page, "a name is text"
    assert "a &lt;b&gt; &amp;" in page
    assert "unreadable_video" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fo[", "videos"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", 0.5, "--calibrate", "x"), "--threshold and --calibrate exclude each other"),
        (("--threshold", 1.5), "--threshold is 1.5; scores are probabilities"),
        (("--stride-seconds", 1e-9), "--stride-seconds is 1e-09; give at least 0.001"),
        (("--merge-seconds", -1), "--merge-seconds is -1; it must be 0 or more"),
        (("--epoch", 9), "has no weights from the end of epoch 9"),
    ],
)
def test_settings_that_cannot_be_are_told(
    type_, run: str, small_world: SmallWorld, tmp_path: Path, words: tuple, said: str
) -> None:
    code, _, err = type_("localise", run, small_world.test_index, "--out", tmp_path / "found", *HERE, *words)
    assert (code, said in err) == (2, True)


def test_an_index_and_files_are_not_mixed(type_, run: str, small_world: SmallWorld, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(encode(12))
    words = ("localise", run, small_world.test_index, tmp_path / "v.mp4", "--out", tmp_path / "found", *HERE)
    code, _, err = type_(*words)
    assert (code, "is an index, and 2 places are given" in err) == (2, True)
    (tmp_path / "none").mkdir()
    code, _, err = type_("localise", run, tmp_path / "none", "--out", tmp_path / "found", *HERE)
    assert (code, "there is no video in" in err) == (2, True)


def test_other_videos_do_not_spoil_a_folder_of_scores(type_, run: str, tmp_path: Path) -> None:
    """Else a wrong path costs all scores: the index would move on, and they would belong to no index any more."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(encode(24))
    out = ("--out", tmp_path / "found", "--page-videos", 0, *HERE)
    assert type_("localise", run, tmp_path / "a.mp4", *out)[0] == 0
    code, _, err = type_("localise", run, tmp_path / "b.mp4", *out)
    assert (code, "has scores of other videos: 1 that are given are not among them, and 1 of them" in err) == (2, True)
    assert type_("localise", run, tmp_path / "a.mp4", *out)[0] == 0


@pytest.mark.parametrize("place", ["nowhere", "nowhere.json"])
def test_a_wrong_place_to_calibrate_is_told_before_videos_are_scored(
    type_, run: str, small_world: SmallWorld, tmp_path: Path, place: str
) -> None:
    words = ("localise", run, small_world.test_index, "--out", tmp_path / "found", "--calibrate", tmp_path / place)
    code, _, err = type_(*words, *HERE)
    assert (code, place in err) == (2, True)
    assert not (tmp_path / "found" / "scores").exists()


def test_labels_that_the_run_does_not_have_are_told(type_, run: str, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(encode(12))
    index = str(tmp_path / "index")
    build_index([str(tmp_path / "v.mp4")], index, classes=["somersault"], are_videos=True, workers=1)
    code, said, _ = type_("localise", run, index, "--out", tmp_path / "found", "--page-videos", 0, *HERE)
    assert code == 0
    assert "not scored: 1 label that the run does not have: somersault" in said
