"""Features out of a run and into other projects' layouts, as a user types it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.features.store import open_features
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.trainers.backbones import place_of_weights
from adaptfocus.trainers.pretraining.training import pretrain
from tests.footage import write_tar
from tests.moving import moving
from tests.trainers.backbones.small_backbones import needs_library
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld


@pytest.fixture(scope="module")
def run(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> str:
    return trained(small_world.run_config(tmp_path_factory.mktemp("runs"), "run", "epochs=1")).url


def test_from_a_run_to_a_folder_that_ms_tcn_reads(type_, small_world: SmallWorld, run: str, tmp_path: Path) -> None:
    """The commands of docs/features.md."""
    urls = []
    for split, index in (("train", small_world.train_index), ("test", small_world.test_index)):
        words = ["extract", run, "--index", index, "--out", tmp_path / split, "--stride-seconds", 0.5]
        words += ["--split", split, "--engine", "local", "--set", "placement.isolate_decoding=false"]
        code, out, _ = type_(*words)
        videos = load_index(index).table.num_rows
        assert code == 0
        assert f" windows from {videos} videos (every 0.5 s), 32 small3d features each -> {tmp_path / split}" in out
        facts = open_features(str(tmp_path / split)).facts
        assert f"decoded {facts['packets_decoded']} packets, converted {facts['frames_converted']} frames" in out
        urls.append(tmp_path / split)
    code, _, err = type_(*words[:6], "--stride-seconds", 1, "--engine", "local")
    assert (code, "has features with other settings (" in err) == (2, True)
    a_head_is_trained_and_scored(type_, small_world, *urls)
    code, out, _ = type_("export", *urls, "--as", "mstcn", "--out", tmp_path / "mstcn", "--fps", 10)
    assert (code, "24 videos as mstcn" in out) == (0, True)
    truth = next((tmp_path / "mstcn" / "groundTruth").iterdir()).read_text().split("\n")
    assert {"background"} < set(truth), "the index's intervals, and what lies between them"
    compare = ["--features", urls[0], "--features", urls[1]]
    code, out, _ = type_("verify", tmp_path / "mstcn", "--as", "mstcn", *compare)
    assert (code, "24 videos as MS-TCN reads them and as" in out, "nothing is wrong" in out) == (0, True, True)
    path = sorted((tmp_path / "mstcn" / "features").iterdir())[0]
    np.save(path, np.load(path).T)
    code, _, err = type_("verify", tmp_path / "mstcn", "--as", "mstcn")
    assert code == 2
    assert f"features/{path.name} is [T, D] (" in err
    assert "where MS-TCN reads [D, T]: transpose it (array.T)" in err


def a_head_is_trained_and_scored(type_, small_world: SmallWorld, train: Path, test: Path) -> None:
    runs = train.parent / "runs"
    given = [f"runs={runs}", f"index={small_world.train_index}", f"features={train}", "epochs=1"]
    code, _, err = type_("train", "small", "name=head", *given)
    assert code == 0
    assert "one every 0.5 s: some are taken twice. clip.fps=2 takes each once" in " ".join(err.split())
    evaluate = ["evaluate", runs / "head", "--index", small_world.test_index]
    code, _, err = type_(*evaluate)
    assert (code, "was trained on features, and needs those of" in err) == (2, True)
    code, out, _ = type_(*evaluate, "--features", test)
    assert (code, "per-time mAP" in out) == (0, True)


def plainly(*words: object) -> list[object]:
    return ["extract", *words, "--engine", "local", "--set", "placement.isolate_decoding=false"]


def test_weights_that_no_run_has_trained_give_the_features_that_a_run_gives_from_them(
    type_, small_world: SmallWorld, run: str, tmp_path: Path
) -> None:
    pretrain(str(tmp_path / "start.pt"), steps=1)
    given = ["--weights", tmp_path / "start.pt", "--index", small_world.test_index]
    assert type_(*plainly(run, *given, "--out", tmp_path / "run"))[0] == 0
    clip = json.loads(Path(run, "config.json").read_text())["clip"]
    window = [word for key, value in clip.items() for word in ("--set", f"clip.{key}={value}")]
    code, _, err = type_(*plainly("--backbone", "small3d", *given, "--out", tmp_path / "none", *window))
    assert (code, err.count("error")) == (0, 0)
    one, other = open_features(str(tmp_path / "run")), open_features(str(tmp_path / "none"))
    for a, b in zip(one, other, strict=True):
        assert a.video_id == b.video_id
        np.testing.assert_array_equal(a.features, b.features)
    changed = {key for key, value in one.facts.items() if value != other.facts[key]}
    assert (changed, other.facts["run"]) == ({"run"}, None)


@pytest.mark.library
def test_a_head_on_features_of_packaged_weights(type_, small_world: SmallWorld, tmp_path: Path) -> None:
    """The commands of docs/features.md for someone who has no run yet."""
    needs_library("efficientnet_lite0")
    window = ["--stride-seconds", 1, "--set", "clip.frames=1", "--set", "clip.size_pixels=32"]
    for split, index in (("train", small_world.train_index), ("test", small_world.test_index)):
        given = ["--backbone", "efficientnet_lite0", "--index", index, "--out", tmp_path / split, *window]
        code, out, err = type_(*plainly(*given))
        assert (code, "1280 efficientnet_lite0 features each" in out) == (0, True), err
    facts = open_features(str(tmp_path / "train")).facts
    weights = place_of_weights("efficientnet_lite0", "packaged")
    assert facts["weights_sha256"] == hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert [facts[name] for name in ("run", "weights", "backbone")] == [None, "packaged", "efficientnet_lite0"]
    assert (facts["window"]["frames"], facts["window"]["size_pixels"], facts["epoch"]) == (1, 32, None)
    head = [f"runs={tmp_path}", f"index={small_world.train_index}", f"features={tmp_path / 'train'}", "epochs=1"]
    assert type_("train", "small", "name=head", *head, "clip.fps=1")[0] == 0
    test = ["--index", small_world.test_index, "--features", tmp_path / "test"]
    code, out, _ = type_("evaluate", tmp_path / "head", *test)
    assert (code, "per-time mAP" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract", "--index", "/i", "--out", "/tmp/x"], "give a RUN, or --backbone"),
        (["extract", "/run", "--backbone", "small3d", "--index", "/i", "--out", "/tmp/x"], "give a RUN, or --backbone"),
        (["extract", "--backbone", "x3d_s", "--index", "/i", "--out", "/tmp/x"], "without weights; give --weights URL"),
        (
            ["extract", "--backbone", "x3d_s", "--weights", "w", "--index", "/i", "--out", "/tmp/x", "--set", "seed=1"],
            "--set seed=1: nothing is trained here; only clip, decode",
        ),
        (["export", "/no/features", "--as", "mstcn", "--out", "/tmp/x"], "there are no features at /no/features"),
        (["verify", "/no/place", "--as", "mstcn"], "there is nothing at /no/place"),
        (["verify", "/tmp", "--as", "i3d"], "there is no layout 'i3d'; choose one of: mstcn, asformer"),
        (["extract", "/no/run", "--index", "/i", "--out", "/tmp/x"], "/no/run is not a run"),
    ],
)
def test_mistakes_are_one_message(type_, words: list[str], message: str) -> None:
    code, _, err = type_(*words)
    assert code == 2
    assert message in err


def test_what_differs_from_the_run_is_refused(type_, small_world: SmallWorld, run: str, tmp_path: Path) -> None:
    words = ["extract", run, "--index", small_world.test_index, "--out", tmp_path / "x", "--engine", "local"]
    code, _, err = type_(*words, "--set", "clip.frames=4")
    assert (code, "only settings under placement may differ" in err) == (2, True)
    code, _, err = type_(*words, "--start")
    assert (code, "began from fresh weights" in err) == (2, True)
    assert json.loads(Path(run, "config.json").read_text())["weights"] is None


def test_the_part_that_is_left_of_a_cut_file_is_used_and_reported(type_, run: str, tmp_path: Path) -> None:
    video = moving(tmp_path / "v.mp4", num_frames=50, flags="faststart").read_bytes()
    shard = write_tar(tmp_path / "s.tar", {"whole.mp4": video, "cut.mp4": video[: len(video) * 6 // 10]})
    code, out, _ = type_("index", shard, "--out", tmp_path / "index", "--workers", 1)
    assert (code, "indexed with changes (rows in refused/): ends_early 1" in out) == (0, True)
    words = ["extract", run, "--index", tmp_path / "index", "--out", tmp_path / "x", "--stride-seconds", 0.2]
    code, out, _ = type_(*words, "--engine", "local", "--set", "placement.isolate_decoding=false")
    assert (code, "ends_early 1" in out, "refused (" in out) == (0, True, False)
    rows = {row["video_id"]: row for row in load_index(str(tmp_path / "index")).table.to_pylist()}
    assert rows["whole"]["duration_seconds"] == pytest.approx(2)
    assert 0.9 < rows["cut"]["duration_seconds"] < 1.3
    seconds = sum(np.ceil(row["duration_seconds"] / 0.2 - 1e-9) for row in rows.values())
    assert open_features(str(tmp_path / "x")).facts["steps"] == seconds
