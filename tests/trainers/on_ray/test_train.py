"""The same run on Ray: any number of workers, whatever is killed, the same plans, batches, saliency and weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.features.store import open_features
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.errors import StoppedError
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here
from adaptfocus.trainers.evaluation.feature_model import weights_of
from adaptfocus.trainers.evaluation.scoring import evaluate, predict_here
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import classes_of, load_config
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.runs.snapshots import read_saliency
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.loop.test_training import broken_copy
from tests.worlds import SmallWorld

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]

RAY = ("placement.engine=ray", "placement.decode_workers=2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A local cluster for all tests here -> its address."""
    from adaptfocus.infra.running.cluster import connect

    with connect(None, cpus=10):
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def local_run(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The reference: the same run in one process, without Ray."""
    config = small_world.run_config(tmp_path_factory.mktemp("local"), "run", "checkpoint.every_batches=1")
    prepare(config)
    train(config, LocalEngine(config.plan.bags_per_batch))
    return Run(config.url)


def fit(config: TrainConfig) -> Run:
    from adaptfocus.trainers.on_ray import train as ray_train

    prepare(config)
    ray_train.fit(config)
    return Run(config.url)


def weights(run: Run) -> dict[str, torch.Tensor]:
    _, commit = run.newest()
    assert commit is not None
    return run.load_state(commit)["model"]


def plan_rows(run: Run, epoch: int) -> list[dict]:
    plan = read_plan(run.epoch_url(epoch, "plan"))
    assert plan is not None
    rows = [row for url, a, b in plan.slices(0) for row in read_table(url, PLAN_SCHEMA, a, b).to_pylist()]
    return [{k: v for k, v in row.items() if not k.startswith("saliency")} for row in rows]


def slots_of_batches(run: Run) -> dict[tuple[int, int], set[int]]:
    """(epoch, cursor) of each commit -> the slots whose scores came with it, over all ranks."""
    found = {}
    for entry in run.entries():
        if entry.kind == "checkpoint":
            tables = [read_table(run.at(f), LEDGER_SCHEMA) for f in entry.own_ledger]
            found[entry.epoch, entry.cursor] = {s for t in tables for s in t.column("slot").to_pylist()}
    return found


def check_same(run: Run, reference: Run, epochs: int = 3) -> None:
    """Plans and each commit's batches equal, merged saliency and weights equal to 1e-5."""
    assert slots_of_batches(run) == slots_of_batches(reference)
    for epoch in range(epochs):
        assert plan_rows(run, epoch) == plan_rows(reference, epoch), f"the plan of epoch {epoch}"
    ours, theirs = read_saliency(run, epochs).bins, read_saliency(reference, epochs).bins
    assert torch.equal(ours.epoch, theirs.epoch)
    assert torch.allclose(ours.score, theirs.score, atol=1e-5)
    assert torch.allclose(ours.tau, theirs.tau, atol=1e-5)
    for name, value in weights(reference).items():
        assert torch.allclose(value, weights(run)[name], atol=1e-5), name


def test_frozen_batch_norms_train_the_same_on_two_workers(
    cluster: str, small_world: SmallWorld, tmp_path: Path
) -> None:
    """X3D, whole, on small clips: its batch norms and both groups of weights go through DistributedDataParallel."""
    settings = ("backbone=x3d_s", "from_scratch=true", "epochs=1", "clip.frames=4", "clip.size_pixels=32",
                "plan.clips_per_bag=2", "checkpoint.every_batches=1", "optim.learning_rate=1e-3")  # fmt: skip
    alone = small_world.run_config(tmp_path, "alone", *settings)
    prepare(alone)
    train(alone, LocalEngine(alone.plan.bags_per_batch))
    both = fit(small_world.run_config(tmp_path, "both", *RAY, *settings, "placement.workers=2"))
    losses = [[e.metrics["loss"] for e in run.entries() if e.kind == "checkpoint"] for run in (Run(alone.url), both)]
    assert len(losses[0]) == 4
    assert np.ptp(losses[0]) > 1e-4, "the steps do something"
    np.testing.assert_allclose(losses[0], losses[1], rtol=3e-5)
    ours, theirs = read_saliency(both, 1).bins, read_saliency(Run(alone.url), 1).bins
    assert torch.allclose(ours.score, theirs.score, atol=1e-3)
    moved = weights(both)["blocks.0.norm.running_mean"]
    assert not moved.any(), "statistics stay those of a fresh norm"


@pytest.mark.parametrize("more", [(), ("plan.bags_per_epoch=12", "plan.priority_share=.34")])
def test_windows_of_tasks_are_those_of_one_process(
    cluster: str, small_world: SmallWorld, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """18 videos in 18 partitions: three windows, so Ray Data gets tasks. Two epochs of 12 bags are more than a pass."""
    build_index([str(small_world.folder / "shards-train")], str(tmp_path), workers=1, sizes=Sizes(partition_rows=1))
    settings = (f"index={tmp_path}", "plan.window_videos=1", "epochs=2", "checkpoint.every_batches=1", *more)
    alone = small_world.run_config(tmp_path, "alone", *settings)
    prepare(alone)
    train(alone, LocalEngine(alone.plan.bags_per_batch))
    both = fit(small_world.run_config(tmp_path, "both", *RAY, *settings, "placement.workers=2"))
    assert len(read_plan(both.epoch_url(1, "plan")).windows) >= 3  # type: ignore[union-attr]
    check_same(both, Run(alone.url), epochs=2)
    assert (audit(both).clips_lost, audit(both).clips_twice) == (0, 0)


def test_what_is_drawn_by_clip_is_the_same_on_two_workers(
    cluster: str, small_world: SmallWorld, tmp_path: Path
) -> None:
    """Crops drawn while decoding, changes on the device, dropout: all follow the clip, through Ray Data too."""
    settings = ("epochs=1", "decode.crop_place=drawn", "decode.crop_fraction=0.8", "augment.crop_area=[0.5, 1]",
                "augment.decode_size_pixels=26", "augment.flip_probability=0.5", "augment.brightness=0.3",
                "augment.hue=0.1", "dropout=0.3", "checkpoint.every_batches=1")  # fmt: skip
    alone = small_world.run_config(tmp_path, "alone", *settings)
    prepare(alone)
    train(alone, LocalEngine(alone.plan.bags_per_batch))
    both = fit(small_world.run_config(tmp_path, "both", *RAY, *settings, "placement.workers=2"))
    check_same(both, Run(alone.url), epochs=1)
    assert audit(both).claims == 1, "two workers of a run that nothing happens to claim it once"


def test_a_run_of_one_process_goes_on_with_its_weights_shared_by_two_workers(
    cluster: str, small_world: SmallWorld, tmp_path: Path, local_run: Run
) -> None:
    """FSDP2: each rank has half of every weight; states are whole, and what reads them does not know."""
    from tests.trainers.loop.test_training import DyingEngine, Killed

    config = small_world.run_config(tmp_path, "run", "checkpoint.every_batches=1")
    prepare(config)
    with pytest.raises(Killed):
        train(config, DyingEngine(config.plan.bags_per_batch, 5))
    run = fit(small_world.run_config(tmp_path, "run", *RAY, "placement.workers=2", "step.sharding=fsdp2",
                                     "checkpoint.every_batches=1"))  # fmt: skip
    check_same(run, local_run)
    found = audit(run)
    assert (found.clips_lost, found.clips_twice) == (0, 0)


def test_one_worker_trains_the_same_model(
    cluster: str, small_world: SmallWorld, tmp_path: Path, local_run: Run
) -> None:
    """And so do two, below, where one is killed, and four, where the driver of two is."""
    run = fit(small_world.run_config(tmp_path, "run", *RAY, "placement.workers=1", "checkpoint.every_batches=1"))
    check_same(run, local_run)
    batches = slots_of_batches(run)
    assert all(slots == set(range(cursor - 4, cursor)) for (_, cursor), slots in batches.items())
    found = audit(run)
    assert (found.clips_lost, found.clips_twice, found.claims) == (0, 0, 1)


def test_a_killed_worker_loses_and_repeats_nothing(
    cluster: str, small_world: SmallWorld, tmp_path: Path, local_run: Run
) -> None:
    """SIGKILL of a rank in the middle: Ray starts the group again, and the run resumes from its last commit."""
    config = small_world.run_config(tmp_path, "run", *RAY, "placement.workers=2", "checkpoint.every_batches=1")
    killer = threading.Thread(target=kill_a_worker, args=(Run(config.url), 1), daemon=True)
    killer.start()
    run = fit(config)
    killer.join(timeout=10)
    found = audit(run)
    assert (found.clips_lost, found.clips_twice) == (0, 0)
    assert found.claims == 2
    check_same(run, local_run)


def kill_a_worker(run: Run, epoch: int) -> None:
    """SIGKILL one training process once `epoch` has a commit."""
    for _ in range(1200):
        _, commit = run.newest()
        if commit and commit.epoch >= epoch:
            children = psutil.Process().children(recursive=True)  # another's on this machine are none of ours
            victims = [p for p in children if "RayTrainWorker" in _command_line(p)]
            victims[-1].send_signal(signal.SIGKILL)
            return
        time.sleep(0.05)


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_a_killed_driver_is_resumed_on_another_number_of_workers(
    cluster: str, small_world: SmallWorld, tmp_path: Path, local_run: Run
) -> None:
    """SIGKILL of the training command inside an epoch; the same command again, with 4 workers for 2."""
    first = small_world.run_config(tmp_path, "run", *RAY, "placement.workers=2", "checkpoint.every_batches=1")
    process = start_command(first, cluster)
    run = Run(first.url)
    try:
        for _ in range(2400):
            _, commit = run.newest()
            if commit and commit.epoch == 1 and commit.cursor < commit.num_bags:
                break
            assert process.poll() is None, "training ended before it could be killed"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    fit(small_world.run_config(tmp_path, "run", *RAY, "placement.workers=4", "checkpoint.every_batches=1"))
    found = audit(run)
    assert (found.clips_lost, found.clips_twice) == (0, 0)
    assert found.workers[0] == 2
    assert found.workers[-1] == 4
    check_same(run, local_run)


def start_command(config: TrainConfig, address: str) -> subprocess.Popen:
    import yaml

    values = Path(config.runs) / "settings.yaml"
    values.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "adaptfocus", "train", "small", "--config", str(values), "--address", address]
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip


def test_an_error_for_the_user_comes_out_as_itself(cluster: str, small_world: SmallWorld, tmp_path: Path) -> None:
    """An error that ends a run for good is reported once, and not retried like a lost worker."""
    from tests.trainers.loop.test_training import broken_copy

    world = broken_copy(small_world, tmp_path / "broken", 6)
    config = world.run_config(tmp_path / "runs", "bad", *RAY, "max_bad_share=0.1", "placement.workers=2")
    with pytest.raises(StoppedError, match=r"of 18 videos could not be decoded, more than max_bad_share = 0.1"):
        fit(config)
    assert len([e for e in Run(config.url).entries() if e.kind == "start"]) == 1


def test_a_run_taken_over_elsewhere_is_given_up(cluster: str, small_world: SmallWorld, tmp_path: Path) -> None:
    """Another process claims the run while it trains: this command stops without another commit, and says so."""
    config = small_world.run_config(tmp_path, "run", *RAY, "placement.workers=2", "checkpoint.every_batches=1")
    robber = threading.Thread(target=claim_after, args=(Run(config.url), 1), daemon=True)
    robber.start()
    with pytest.raises(StoppedError, match="has been taken over by another process"):
        fit(config)
    robber.join(timeout=10)
    entries = Run(config.url).entries()
    assert [e.kind for e in entries].count("start") == 2
    assert entries[-1].kind == "start", "no commit after the claim"


def claim_after(run: Run, epoch: int) -> None:
    """Claim the run as another process would, once `epoch` has a commit."""
    for _ in range(1200):
        _, commit = run.newest()
        if commit and commit.epoch >= epoch:
            run.claim(workers=1)
            return
        time.sleep(0.05)


def test_prediction_on_the_cluster_equals_that_in_this_process(
    cluster: str, small_world: SmallWorld, local_run: Run
) -> None:
    from adaptfocus.trainers.on_ray import over, predict

    decode = DecodeConfig(crop_fraction=0.6)  # the world's pictures are square: crops of a part of them differ
    config = load_config(local_run.url).model_copy(update={"decode": decode})
    here = evaluate(local_run, config, small_world.test_index, 3, "here", predict_here, crops=3)
    on_ray = {"crops": 3, "over": over.tasks_where_decoded(config)}
    there = evaluate(local_run, config, small_world.test_index, 3, "there", predict.predict_on_cluster, **on_ray)
    assert here.per_class_ap == pytest.approx(there.per_class_ap)


def test_features_from_the_cluster_equal_those_of_this_process(
    cluster: str, small_world: SmallWorld, local_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order in which windows come back has no effect; one of the videos does not decode."""
    from adaptfocus.trainers.on_ray import extraction, over

    monkeypatch.setattr("adaptfocus.trainers.evaluation.extraction.PART_VIDEOS", 3)
    world = broken_copy(small_world, tmp_path / "broken", 1)
    config = load_config(local_run.url)
    job = Extraction(config, len(classes_of(config)), weights_of(config), world.train_index, "pooled", 0.5)
    extract(job, str(tmp_path / "here"), make_here)
    extract(job, str(tmp_path / "there"), extraction.make_on_cluster, over=over.tasks_beside_decoding(config))
    here, there = (open_features(str(tmp_path / name)) for name in ("here", "there"))
    assert here.facts == there.facts
    assert (here.facts["videos"], sum(here.facts["refused"].values()), len(here.facts["parts"])) == (17, 1, 6)
    for one, other in zip(here, there, strict=True):
        assert (one.video_id, one.video_row, one.labels) == (other.video_id, other.video_row, other.labels)
        assert np.array_equal(one.center_seconds, other.center_seconds)
        np.testing.assert_allclose(one.features, other.features, atol=1e-5)


def test_a_head_on_features_trains_and_scores_the_same_on_two_workers(
    cluster: str, small_world: SmallWorld, tmp_path: Path
) -> None:
    """Tasks read features instead of decoding; a video without features goes through the ledger of both runs."""
    from adaptfocus.trainers.on_ray.predict import predict_on_cluster
    from tests.trainers.runs.test_on_features import head_config, truth_features

    train_on = truth_features(small_world, small_world.train_index, tmp_path / "train", refused=[4])
    test_on = truth_features(small_world, small_world.test_index, tmp_path / "test")
    settings = ("epochs=2", "max_bad_share=0.2", "clip.frames=3", "checkpoint.every_batches=1", "dropout=0.2")
    alone = head_config(small_world, tmp_path, "alone", train_on, *settings)
    prepare(alone)
    train(alone, LocalEngine(alone.plan.bags_per_batch))
    both = fit(head_config(small_world, tmp_path, "both", train_on, *RAY, *settings, "placement.workers=2"))
    check_same(both, Run(alone.url), epochs=2)
    found, reference = audit(both), audit(Run(alone.url))
    assert (found.clips_undecodable, found.clips_trained) == (3, reference.clips_trained)
    assert found.clips_lost == found.clips_twice == 0
    config, index = load_config(both.url), small_world.test_index
    here = evaluate(both, config, index, 5, "here", predict_here, features=test_on)
    there = evaluate(both, config, index, 5, "there", predict_on_cluster, features=test_on)
    assert here.per_class_ap == pytest.approx(there.per_class_ap)
    assert (here.map_max, here.per_time_map) == pytest.approx((there.map_max, there.per_time_map))
