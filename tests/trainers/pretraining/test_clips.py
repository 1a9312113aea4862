"""Pre-training on a set of encoded clips: the pixels and labels are those of the set, in an order that repeats."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptfocus.infra.running.worlds import make_world
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.worlds.config import world_of
from adaptfocus.pipelines.worlds.trimmed import LABELS
from adaptfocus.pipelines.worlds.video import make_video
from adaptfocus.trainers.backbones import build, load_pretrained
from adaptfocus.trainers.backbones.small3d import Small3D
from adaptfocus.trainers.pretraining.clips import batches_of_set
from adaptfocus.trainers.pretraining.training import pretrain
from tests.worlds import SmallWorld, retag

CONFIG = world_of("pretrain", num_train_videos=60, num_test_videos=1)
SPEC = Small3D.input_spec


@pytest.fixture(scope="module")
def clip_set(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 training clips: seven batches of eight, and four to carry over."""
    url = str(tmp_path_factory.mktemp("set"))
    make_world(CONFIG, url, processes=1)
    return url


def weights(url: str) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(store.read_bytes(url)), weights_only=True)["state_dict"]


def test_every_clip_comes_once_an_epoch_with_its_labels_and_pixels(clip_set: str) -> None:
    """Clips are identified by their pixels: the frames of a clip must be 8 frames of the video whose labels it has."""
    videos = [make_video(CONFIG, "train", index) for index in range(60)]
    seen = []
    for frames, targets in islice(batches_of_set(clip_set, 0, 8, SPEC), 15):  # two epochs
        assert frames.shape == (8, 8, 3, 20, 20)
        assert (frames.dtype, targets.dtype) == (np.uint8, np.float32)
        for clip, target in zip(frames.transpose(0, 1, 3, 4, 2).astype(int), targets, strict=True):
            apart = [
                min(np.abs(clip - video.frames[at : at + 8]).mean() for at in range(len(video.frames) - 7))
                for video in videos
            ]
            nearest = int(np.argmin(apart))
            assert apart[nearest] < 12, "codec and scaling"
            assert {LABELS[k] for k in np.flatnonzero(target)} == set(videos[nearest].labels)
            seen.append(nearest)
    assert sorted(seen[:60]) == sorted(seen[60:]) == list(range(60))
    assert seen[:60] != seen[60:]


def test_the_order_follows_from_the_seed(clip_set: str) -> None:
    first, again, other = (next(batches_of_set(clip_set, seed, 8, SPEC))[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_start_from_a_set_learns_repeats_and_can_be_loaded(clip_set: str, tmp_path: Path) -> None:
    urls, losses = [str(tmp_path / name) for name in ("a.pt", "b.pt", "c.pt", "rendered.pt")], []
    final = pretrain(urls[0], steps=40, progress=lambda *at: losses.append(at[2]), set_url=clip_set)
    assert final < 0.9 * losses[0]
    for url in urls[1:3]:
        pretrain(url, steps=2, set_url=clip_set)
    b, c = (weights(url) for url in urls[1:3])
    assert all(torch.equal(b[name], c[name]) for name in b)
    facts = load_pretrained(build("small3d", 12), urls[0])
    assert (facts["labels"], facts["set"]) == (list(LABELS), clip_set)
    pretrain(urls[3], steps=1)
    assert "set" not in load_pretrained(build("small3d", 12), urls[3]), "clips rendered on the way come from no set"


def test_a_benchmark_world_is_no_set_to_pretrain_on(small_world: SmallWorld, clip_set: str, tmp_path: Path) -> None:
    """Its labels are the answers to the test."""
    for name in ("index", "shards"):
        (tmp_path / name).mkdir()
    (tmp_path / "index" / "train").symlink_to(small_world.train_index)
    with pytest.raises(InputError, match=r"red_square_horizontal.* make one with `adaptfocus world --kind pretrain`"):
        pretrain(str(tmp_path / "w.pt"), set_url=str(tmp_path))
    with pytest.raises(ConfigError, match=r"has 60 clips, fewer than a batch of 61; make a larger set"):
        next(batches_of_set(clip_set, 0, 61, SPEC))


def test_a_damaged_set_is_said_with_its_reason(tmp_path: Path) -> None:
    url = str(tmp_path)
    make_world(world_of("pretrain", num_train_videos=8, num_test_videos=1), url, processes=1)
    row = load_index(f"{url}/index/train").table.slice(0, 1).to_pylist()[0]
    with open(row["shard_url"], "r+b") as shard:
        shard.seek(row["member_offset_bytes"])
        shard.write(bytes(row["member_size_bytes"]))
    retag(tmp_path / "index" / "train")
    with pytest.raises(InputError, match=r"1 of 8 clips did not decode \(.+\); make the set again"):
        next(batches_of_set(url, 0, 8, SPEC))


def test_the_command_takes_a_set_and_says_what_is_wrong_with_one(clip_set: str, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess:
        command = [
            sys.executable,
            "-m",
            "adaptfocus.trainers.pretraining.training",
            "--steps",
            "2",
            "--out",
            str(tmp_path / "w.pt"),
            *words,
        ]
        root = Path(__file__).resolve().parents[3]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)

    done = run("--set", clip_set)
    assert done.returncode == 0, done.stderr
    assert load_pretrained(build("small3d", 12), str(tmp_path / "w.pt"))["set"] == clip_set
    done = run("--set", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no index at")
    assert "Traceback" not in done.stderr
