"""Features of whole videos: right in time and value, each frame decoded once, and no part made twice after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.apart import pool
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features.store import FeatureSet, open_features
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.video.spans import frames_at, packets_of, shown_pts
from adaptfocus.trainers.backbones import build, load_pretrained, normalise
from adaptfocus.trainers.evaluation import extraction as extract_module
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here, parts_of
from adaptfocus.trainers.evaluation.feature_model import Kind, weights_of
from adaptfocus.trainers.evaluation.fragments import FeatureParts
from adaptfocus.trainers.inputs.model_input import build_adapted
from adaptfocus.trainers.pretraining.training import pretrain
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import classes_of, load_config
from tests.moving import expected_rgb, sequential
from tests.trainers.loop.test_training import broken_copy, trained
from tests.worlds import SmallWorld

pytestmark = pytest.mark.usefixtures("one_thread")
STRIDE = 0.4


@pytest.fixture(scope="module")
def run(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs on a pre-trained start, every state kept."""
    folder = tmp_path_factory.mktemp("runs")
    pretrain(str(folder / "start.pt"), steps=2)
    return trained(
        small_world.run_config(folder, "run", f"weights={folder / 'start.pt'}", "checkpoint.keep=100", "epochs=2")
    )


def job_of(run: Run, index: str, kind: Kind = "pooled", stride: float = STRIDE, **which: Any) -> Extraction:
    config = load_config(run.url)
    return Extraction(config, len(classes_of(config)), weights_of(config, **which), index, kind, stride, "test")


def extracted(run: Run, index: str, out: Path, **how: Any) -> FeatureSet:
    extract(job_of(run, index, **how), str(out), make_here)
    return open_features(str(out))


def as_files(index: str, folder: Path) -> list[tuple[dict, Path]]:
    """(row of the index, its video as a file of its own)."""
    found = []
    for row in with_packets(load_index(index).table).to_pylist():
        path = folder / row["member_name"].replace("/", "-")
        with open(row["shard_url"], "rb") as shard:
            shard.seek(row["member_offset_bytes"])
            path.write_bytes(shard.read(row["member_size_bytes"]))
        found.append((row, path))
    return found


@torch.inference_mode()
def plainly(row: dict, path: Path, run: Run, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Times and features by a plain loop, one window at a time, over all frames decoded from the start of the video."""
    config, frames = load_config(run.url), sequential(path)
    tick = row["time_base_numerator"] / row["time_base_denominator"]
    pts = np.array(sorted(frames))
    shown_seconds = (pts - pts[0]) * tick
    pictures = {p: expected_rgb(frames[p], config.clip.size_pixels) for p in pts.tolist()}
    centers, features = [], []
    at = 0.0
    while at < row["duration_seconds"] - 1e-9:
        end = min(at + STRIDE, row["duration_seconds"])
        center = (at + end) / 2
        times = [center + (n - (config.clip.frames - 1) / 2) / config.clip.fps for n in range(config.clip.frames)]
        last = [int(np.searchsorted(shown_seconds, t + 1e-6, side="right")) - 1 for t in times]
        window = np.stack([pictures[pts[max(n, 0)]] for n in last])
        features.append(model.pooled(normalise(torch.from_numpy(window)[None], model.input_spec))[0].numpy())
        centers.append(center)
        at = len(centers) * STRIDE
    return np.array(centers), np.stack(features)


def test_features_are_those_of_a_plain_loop(small_world: SmallWorld, run: Run, tmp_path: Path) -> None:
    found = extracted(run, small_world.test_index, tmp_path / "features")
    config = load_config(run.url)
    model = build_adapted(config.backbone, len(classes_of(config)), config.input).eval()
    newest = run.newest()[1]
    assert newest is not None
    model.load_state_dict(run.load_state(newest)["model"])
    assert (found.kind, found.dim, found.stride_seconds) == ("pooled", 32, STRIDE)
    assert (found.facts["epoch"], found.facts["checkpoint"]) == (1, newest.number)
    frames = 0
    for (row, path), video in zip(as_files(small_world.test_index, tmp_path), found, strict=True):
        centers, features = plainly(row, path, run, model)
        assert (video.video_id, video.labels, video.split) == (row["video_id"], tuple(row["labels"]), "test")
        np.testing.assert_allclose(video.center_seconds, centers, atol=1e-9)
        np.testing.assert_allclose(video.features, features, atol=1e-5)
        frames += distinct_frames(row, centers, config)
    assert found.facts["frames_converted"] == frames, "each frame once, though windows overlap five times"
    packets = sum(load_index(small_world.test_index).table["packet_count"].to_pylist())
    assert found.facts["packets_decoded"] <= packets, "and each packet"
    assert found.facts["refused"] == {}


def distinct_frames(row: dict, centers: np.ndarray, config: Any) -> int:
    steps = (np.arange(config.clip.frames) - (config.clip.frames - 1) / 2) / config.clip.fps
    return len(np.unique(frames_at(row, shown_pts(row, packets_of(row)), (centers[:, None] + steps).ravel())))


def test_maps_are_what_is_pooled(small_world: SmallWorld, run: Run, tmp_path: Path) -> None:
    maps = extracted(run, small_world.test_index, tmp_path / "maps", kind="maps")
    pooled = extracted(run, small_world.test_index, tmp_path / "pooled")
    assert maps.facts["feature_shape"] == [5, 5, 32]
    for one, other in zip(maps, pooled, strict=True):
        assert one.features.shape == (len(other.features), 5, 5, 32)
        # Small3D takes the maximum over space at each time, then the mean, which is never below that of the mean map.
        assert (one.features.max(axis=(1, 2)) <= other.features + 1e-5).all()
        assert np.corrcoef(one.features.max(axis=(1, 2)).ravel(), other.features.ravel())[0, 1] > 0.5


def test_the_start_an_epoch_and_the_newest_differ(small_world: SmallWorld, run: Run, tmp_path: Path) -> None:
    which: dict[str, dict] = {"start": {"start": True}, "first": {"epoch": 0}, "newest": {}}
    sets = {name: extracted(run, small_world.test_index, tmp_path / name, **how) for name, how in which.items()}
    first = {name: next(iter(found)).features for name, found in sets.items()}
    assert not np.allclose(first["start"], first["first"])
    assert not np.allclose(first["first"], first["newest"])
    config = load_config(run.url)
    assert [sets["start"].facts[name] for name in ("checkpoint", "epoch", "weights")] == [None, None, config.weights]
    model = build("small3d", 3)
    load_pretrained(model, config.weights or "")
    (row, path), *_ = as_files(small_world.test_index, tmp_path)
    np.testing.assert_allclose(first["start"], plainly(row, path, run, model.eval())[1], atol=1e-5)


# Parts of two videos, and a third of a second after each, in which it can be killed.
PROGRAM = """
import time
import adaptfocus.trainers.evaluation.extraction as extract
from adaptfocus.pipelines.features import store as feature_store
from adaptfocus.infra.cli.app import main

def write_slowly(*part, write=feature_store.write_part):
    write(*part)
    time.sleep(0.3)

extract.PART_VIDEOS, feature_store.write_part = 2, write_slowly
main()
"""


def begun(run: Run, index: str, out: Path) -> subprocess.Popen:
    words = ["extract", run.url, "--index", index, "--out", str(out), "--stride-seconds", "0.2", "--engine", "local"]
    program = [sys.executable, "-c", PROGRAM, *words]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=one_thread)


@pytest.mark.slow
def test_a_killed_extraction_that_is_started_again_only_does_what_is_missing(
    small_world: SmallWorld, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, index = tmp_path / "features", small_world.train_index
    process = begun(run, index, out)
    deadline = time.monotonic() + 120
    while len(list((out / "parts").glob("*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    parts = sorted((out / "parts").glob("*.parquet"))
    assert 2 <= len(parts) < 9, "it was not killed half-way"
    with pytest.raises(InputError, match="not complete"):
        open_features(str(out))
    before = {path.name: path.stat().st_mtime_ns for path in parts}
    again = begun(run, index, out)
    text = again.communicate(timeout=300)[0].decode()
    assert again.returncode == 0, text
    assert {path.name: path.stat().st_mtime_ns for path in parts} == before, "what was whole is not made again"
    monkeypatch.setattr(extract_module, "PART_VIDEOS", 2)
    extracted(run, index, tmp_path / "undisturbed", stride=0.2)
    one, other = open_features(str(out)), open_features(str(tmp_path / "undisturbed"))
    assert one.video_ids == other.video_ids == load_index(index).table["video_id"].to_pylist(), "nothing twice or lost"
    for name in ("videos", "steps", "packets_decoded", "frames_converted", "read_bytes"):
        assert one.facts[name] == other.facts[name]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.features, b.features, atol=1e-5)


def test_parts_are_made_once_and_a_folder_has_one_kind(
    small_world: SmallWorld, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract_module, "PART_VIDEOS", 2)
    out, asked = str(tmp_path), []

    def counted(job: Extraction, ranges: Any, write: FeatureParts) -> Any:
        asked.append([(each.start, each.stop) for each in ranges])
        return make_here(job, ranges, write)

    job = job_of(run, small_world.test_index)
    extract(job, out, counted)
    store.delete(f"{out}/parts/000001.parquet")
    store.delete(f"{out}/features.json")
    seen: list[tuple[int, int]] = []
    extract(job, out, counted, lambda done, total: seen.append((done, total)))
    assert asked == [[(0, 2), (2, 4), (4, 6)], [(2, 4)]], "what is there is not made again"
    assert (seen[-1], min(seen)[0] >= 4) == ((6, 6), True)
    with pytest.raises(ConfigError, match=r"other settings \(stride_seconds: 0.4 -> 0.5\)"):
        extract(job_of(run, small_world.test_index, stride=0.5), out, counted)
    with pytest.raises(ConfigError, match="weights_sha256"):
        extract(job_of(run, small_world.test_index, epoch=0), out, counted)


def test_windows_may_come_in_any_order(
    small_world: SmallWorld, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from many tasks and actors; the windows before a break may come after the news of it."""
    monkeypatch.setattr(extract_module, "PART_VIDEOS", 5)
    world = broken_copy(small_world, tmp_path / "broken", 1, from_packet=-5)

    def shuffled(job: Extraction, ranges: Any, write: FeatureParts) -> Any:
        blocks: list[Any] = []
        list(make_here(job, ranges, Mock(write=blocks.append)))
        rows = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        order = np.random.default_rng(0).permutation(len(rows["step"]))
        assert (rows["step"] == -1).sum() == 1
        assert (rows["video_row"][rows["step"] == 0] == 0).any(), "the broken video had a good window"
        for some in np.array_split(order, 40):
            yield write.write({name: values[some] for name, values in rows.items()})

    job = job_of(run, world.train_index, stride=0.1)
    extract(job, str(tmp_path / "shuffled"), shuffled)
    extract(job, str(tmp_path / "ordered"), make_here)
    one, other = open_features(str(tmp_path / "shuffled")), open_features(str(tmp_path / "ordered"))
    assert one.facts == other.facts
    assert (len(one), sum(one.facts["refused"].values())) == (17, 1)
    for a, b in zip(one, other, strict=True):
        assert a.video_id == b.video_id
        np.testing.assert_allclose(a.features, b.features, atol=1e-5)


def test_what_does_not_decode_is_refused_and_quarantine_is_respected(small_world: SmallWorld, tmp_path: Path) -> None:
    """Two videos are broken: the run has found them, and its start knows nothing of it."""
    world = broken_copy(small_world, tmp_path / "broken", 2)
    bad = trained(world.run_config(tmp_path, "bad", "max_bad_share=0.5", "epochs=1"))
    found = extracted(bad, world.train_index, tmp_path / "features")
    assert found.facts["refused"] == {"quarantined": 2}
    assert len(found) == 16
    assert all("in epoch 1: " in row["message"] for row in found.refused())
    other = trained(small_world.run_config(tmp_path, "other", "epochs=1"))
    refused = extracted(other, world.train_index, tmp_path / "refused")
    assert sum(refused.facts["refused"].values()) == 2
    assert {row["video_id"] for row in refused.refused()} == {row["video_id"] for row in found.refused()}
    assert "quarantined" not in refused.facts["refused"]
    pool.end_idle()


def test_what_cannot_be_is_said(small_world: SmallWorld, run: Run, tmp_path: Path) -> None:
    config = load_config(run.url)
    with pytest.raises(ConfigError, match="exclude each other"):
        weights_of(config, epoch=1, start=True)
    with pytest.raises(ConfigError, match="began from fresh weights"):
        weights_of(config.model_copy(update={"weights": None}), start=True)
    with pytest.raises(InputError, match="has no checkpoint yet"):
        weights_of(config.model_copy(update={"name": "never"}))
    with pytest.raises(ConfigError, match="--stride-seconds is 0"):
        extract(job_of(run, small_world.test_index, stride=0.0), str(tmp_path), make_here)


def test_parts_follow_from_the_index_alone() -> None:
    assert parts_of([3, 3, 3, 10, 1, 1], 6, 64) == [range(0, 2), range(2, 3), range(3, 4), range(4, 6)]
    assert parts_of([1] * 130, 4096, 64) == [range(0, 64), range(64, 128), range(128, 130)]
    assert parts_of([9, 3, 3, 3, 9], 6, 64, range(1, 4)) == [range(1, 3), range(3, 4)]
    assert parts_of([], 6, 64) == []
