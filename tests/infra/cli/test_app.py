"""What a user types, and what comes back: results, or one message that says what to do. Never a traceback."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from adaptfocus.pipelines import store
from tests.ceph import CephGateway
from tests.footage import encode, write_tar
from tests.worlds import SmallWorld


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three short videos and their labels."""
    rows = []
    for number, labels in enumerate(["jump;run", "run", "sit"]):
        (tmp_path / f"v{number}.mp4").write_bytes(encode(60, options={"g": "12"}))
        rows.append(f"v{number}.mp4,{labels},{labels.split(';')[0]} 1.0 99.0")
    path = tmp_path / "list.csv"
    path.write_text("path,labels,intervals\n" + "\n".join(rows) + "\n")
    return path


def test_from_videos_to_a_report(type_, manifest: Path, tmp_path: Path) -> None:
    """The README's own commands, one after the other, in one process."""
    shards, index, runs = tmp_path / "shards", tmp_path / "index", tmp_path / "runs"
    code, out, _ = type_("pack", "--manifest", manifest, "--out", shards)
    assert code == 0
    assert "3 videos" in out
    assert "interval_clamped 3" in out, "intervals past the end are clamped, and counted"
    assert type_("index", shards, "--out", index)[1].startswith("3 videos of 3 classes in 1 shard (0 unchanged)")
    assert "(1 unchanged)" in type_("index", shards, "--out", index)[1]
    settings = ["small", "name=first", f"runs={runs}", f"index={index}", "plan.bags_per_batch=1", "epochs=2"]
    settings += ["placement.engine=local", "clip.fps=10", "plan.clips_per_bag=2"]
    code, out, _ = type_("plan", *settings, "--out", tmp_path / "plan")
    assert code == 0
    assert "3 videos, 6 clips, 3 global batches of 1 bag" in out
    assert "1 bags" not in out
    assert store.exists(str(tmp_path / "plan" / "plan.json"))
    code, _, err = type_("train", *settings)
    assert (code, "trained" in err) == (0, True)
    assert "is finished" in type_("train", *settings)[2]
    code, out, _ = type_("evaluate", runs / "first", "--index", index, "--views", 3, "--engine", "local")
    assert code == 0
    assert "mAP, max over views" in out
    thrice = ("--views", 2, "--crops", 3, "--engine", "local", "--name", "thrice")
    code, out, _ = type_("evaluate", runs / "first", "--index", index, *thrice)
    assert (code, "2 x 3" in out) == (0, True)
    code, _, err = type_("evaluate", runs / "first", "--index", index, "--crops", 2, "--engine", "local")
    assert (code, "there can be 1 crop or 3" in err) == (2, True)
    assert type_("evaluate", runs / "first", "--index", index, "--engine", "local", "--epoch", 1)[0] == 0
    assert store.exists(str(runs / "first" / "evaluations" / "test-epoch-1" / "scores.json"))
    code, _, err = type_("evaluate", runs / "first", "--index", index, "--engine", "local", "--epoch", 7)
    assert (code, "those of the ends of epochs (counted from 1): 1, 2." in err) == (2, True)
    code, out, _ = type_("report", runs / "first", "--out", tmp_path / "report.html")
    assert code == 0
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_world_is_made_and_trained_on(type_, tmp_path: Path) -> None:
    """The commands of docs/method.md."""
    place, runs = tmp_path / "world", tmp_path / "runs"
    words = ["world", "--kind", "b", "--seed", 3, "--train-videos", 4, "--test-videos", 2, "--out", place]
    code, out, err = type_(*words, "--long-tail", "--processes", 2)
    assert code == 0
    assert f"world b, seed 3: 4 training and 2 test videos of 12 classes -> {place}" in out
    assert "encoding videos" in err
    made = json.loads((place / "world.json").read_text())
    assert (made["kind"], made["seed"], made["long_tail"], made["num_train_videos"]) == ("b", 3, True, 4)
    settings = ["world", "name=a", f"runs={runs}", f"index={place}/index/train", "plan.bags_per_batch=2", "epochs=1"]
    assert type_("train", *settings, "placement.engine=local", "focus.regime=full")[0] == 0
    code, out, _ = type_("evaluate", runs / "a", "--index", place / "index" / "test", "--engine", "local")
    assert (code, "per-time mAP" in out) == (0, True)
    code, _, err = type_(*words)
    assert code == 2
    assert "is not empty" in err
    assert type_(*words, "--overwrite")[0] == 0
    assert json.loads((place / "world.json").read_text())["long_tail"] is False


def test_a_missing_bucket_is_named(type_, s3_url: str, tmp_path: Path, manifest: Path) -> None:
    for words in (
        ["index", "s3://nowhere-at-all/shards", "--out", tmp_path / "index"],
        ["pack", "--manifest", manifest, "--out", "s3://nowhere-at-all/shards"],
        ["train", "small", "name=a", "runs=s3://nowhere-at-all/runs", "index=s3://nowhere-at-all/index"],
        ["evaluate", "s3://nowhere-at-all/runs/a", "--index", "s3://nowhere-at-all/index"],
    ):
        code, _, err = type_(*words)
        assert code == 2
        assert "there is no bucket 'nowhere-at-all'" in err


@pytest.mark.ceph
def test_a_wrong_secret_is_said_and_not_shown(
    type_, ceph_s3: CephGateway, ceph_url: str, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-is-wrong")
    S3FileSystem.clear_instance_cache()
    code, out, err = type_("pack", "--manifest", manifest, "--out", ceph_url)
    assert code == 2
    assert "was refused by the store" in err
    assert "AWS_SECRET_ACCESS_KEY" in err
    assert "hunter2" not in out + err


def test_an_empty_tar_is_said(type_, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    code, _, err = type_("index", tmp_path / "empty.tar", "--out", tmp_path / "index")
    assert code == 2
    assert "empty" in err


def test_a_label_outside_the_class_list_is_said(type_, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("jump\nrum\nsit\n")
    code, _, err = type_("pack", "--manifest", manifest, "--out", tmp_path / "s", "--classes", tmp_path / "classes.txt")
    assert code == 2
    assert "'run'" in err
    assert "'rum'" in err, "the nearest class is suggested"


def test_an_unreadable_video_is_left_out_with_its_reason(type_, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "v1.mp4").write_bytes(b"this is no video" * 100)
    code, out, _ = type_("pack", "--manifest", manifest, "--out", tmp_path / "shards")
    assert code == 0
    assert "2 videos" in out
    assert "unreadable_video 1" in out


def test_duplicate_ids_are_said_or_refused(type_, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text(manifest.read_text() + "v0.mp4,sit,\n")
    code, _, err = type_("pack", "--manifest", manifest, "--out", tmp_path / "shards")
    assert code == 2
    assert "v0" in err
    video = encode(30)
    for shard in ("a", "b"):
        write_tar(tmp_path / f"{shard}.tar", {"same.mp4": video, "same.json": b'{"labels": ["run"]}'})
    code, out, _ = type_("index", tmp_path / "a.tar", tmp_path / "b.tar", "--out", tmp_path / "index")
    assert code == 0
    assert "1 video" in out
    assert "duplicate_id 1" in out


def test_a_name_that_climbs_out_of_a_tar_is_refused(type_, tmp_path: Path) -> None:
    video, label = encode(30), b'{"labels": ["run"]}'
    write_tar(
        tmp_path / "evil.tar", {"../../x.mp4": video, "../../x.json": label, "good.mp4": video, "good.json": label}
    )
    code, out, _ = type_("index", tmp_path / "evil.tar", "--out", tmp_path / "index")
    assert code == 0
    assert "1 video" in out
    assert "unsafe_name" in out
    assert not list(tmp_path.parent.glob("x.*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "smal", "name=a", "runs=/r", "index=/i"], "did you mean 'small'?"),
        (["train", "small", "name=a", "runs=/r", "index=/i", "focus.detla=1"], "did you mean 'focus.delta'?"),
        (["train", "small", "name=a", "runs=/r", "index=/no/index"], "/no/index"),
        (["evaluate", "/no/run", "--index", "/i"], "/no/run is not a run"),
        (["report", "/no/run", "--out", "/tmp/x.html"], "/no/run is not a run"),
        (["pack", "--out", "/tmp/x"], "give one input: --format NAME --annotations URL, --manifest URL"),
        (["pack", "--manifest", "/no/list.csv", "--out", "/tmp/x"], "there is nothing at /no/list.csv"),
        (["index", "/no/shards-*.tar", "--out", "/tmp/x"], "/no/shards-*.tar"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "small", "name=a", "runs=/r", "index=/i", "optim.lr=0.1"], "did you mean 'optim.learning_rate'?"),
        (["train", "small", "name=a", "runs=/r", "index=/i", "backbone=small3"], "did you mean 'small3d'?"),
        (["train", "small", "name=w/x", "runs=/r", "index=/i"], "a name begins with a letter"),
        (["runs", "/no/runs"], "there is no run at /no/runs"),
        (["world", "--kind", "z", "--out", "/tmp/x"], "'z' is not known; choose one of a, b, demo, c, pretrain"),
        (["world", "--kind", "pretrain", "--long-tail", "--out", "/tmp/x"], "neither a long tail nor distractors"),
        (["world", "--kind", "a", "--train-videos", "0", "--out", "/tmp/x"], "--train-videos"),
    ],
)
def test_mistakes_are_one_message(type_, words: list[str], message: str) -> None:
    code, _, err = type_(*words)
    assert code == 2
    assert message in err


def test_a_run_on_another_index_is_refused(type_, small_world: SmallWorld, tmp_path: Path) -> None:
    """The index changed under a run: its plans name rows of the old one."""
    import shutil

    index = tmp_path / "index"
    shutil.copytree(small_world.train_index, index)
    settings = ["small", "name=a", f"runs={tmp_path}", f"index={index}", "placement.engine=local", "epochs=1"]
    assert type_("train", *settings)[0] == 0
    facts = tmp_path / "a" / "index.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"fingerprint": "another"}))
    code, _, err = type_("train", *settings)
    assert code == 2
    assert "was made again since" in " ".join(err.split())


def test_backbones_are_listed_with_what_they_cost_and_need(type_) -> None:
    code, out, _ = type_("backbones")
    assert code == 0
    assert "G multiply-adds" in out
    assert "small3d 0.03 M 0.004 8 x 1" in out
    assert "slowfast_r50 34.57 M 50.3 32 x 2 224 - pytorchvideo: SLOWFAST_8x8_R50.pyth" in out
    assert "videomae_b 86.53 M 180.3 16 x 4 224 transformers (" in out
    assert "of pictures, in the extra (Apache 2.0): weights=packaged" in out
