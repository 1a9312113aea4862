"""A step does not know how many workers share its global batch: 1, 2 and 4 processes against this one.

Real processes, joined by gloo, with DistributedDataParallel and the engine that a Ray Train worker uses; no cluster.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist

from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge
from adaptfocus.pipelines.schemas import NO_LABEL
from adaptfocus.trainers.backbones import build
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.step import train_step
from adaptfocus.trainers.ranks import Engine
from benchmarks.focus_overhead import Shape, config_of, random_batch

pytest.importorskip("ray")
from adaptfocus.trainers.on_ray.engine import RayEngine, RayRanks
from tests.ranks import in_ranks

pytestmark = pytest.mark.slow

SHAPE = Shape(bags=8, clips=4, frames=4, size_pixels=20, classes=12, labels=(1, 5), commit_steps=1)
WORKERS = (1, 2, 4)
EPOCHS = (4, 5)  # one step in each; the second is weighed by what the first has said
NOT_DECODED = 5
TOLERANCE = 1e-6
# In addition to the recipe: noisy-OR, weak negatives, fading.
ALL_THERE_IS = ("focus.background_from=0", "augment.crop_area=[0.3, 1]", "augment.flip_probability=0.5",
                "augment.brightness=0.3", "augment.contrast=0.3", "augment.hue=0.1", "dropout=0.4")  # fmt: skip


class GlooEngine(RayEngine):
    """The engine of a Ray Train worker, in a process that this test has started."""

    def __init__(self, rank: int, workers: int) -> None:
        RayRanks.__init__(self, rank, workers)
        self.device = torch.device("cpu")


def run(engine: Engine) -> dict[str, Any]:
    """Two steps, each merged into the next snapshot -> what this rank has seen. All steps depend on all before."""
    config = config_of(SHAPE, "best", *ALL_THERE_IS)
    torch.manual_seed(0)
    model = build("small3d", SHAPE.classes)
    trained = engine.wrap(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)  # AdamW makes a step of any gradient, rounding included
    labels = labels_of_videos()
    table, losses, ledgers, gradients = first_snapshot(labels), [], [], []
    for epoch in EPOCHS:
        done = SinceCommit()
        batch = part(global_batch(epoch, labels, table), engine)
        train_step(config, engine, trained, model, optimiser, batch, epoch, 0.5, done)
        ledger = pa.concat_tables(engine.gather(done.scores.to_arrow()))
        table = merge(table, ledger, epoch, config.saliency)
        losses.append(float(done.losses[0]))
        ledgers.append(ledger.to_pylist())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    return {"losses": losses, "gradients": gradients, "ledgers": ledgers, "snapshot": table.to_arrow()}


def labels_of_videos() -> np.ndarray:
    """[B, L]; videos with few labels first, so that the ranks' positives weigh very different sums."""
    ids = random_batch(SHAPE, 0).label_ids
    return ids[np.argsort((ids != NO_LABEL).sum(axis=1), kind="stable")]


def first_snapshot(labels: np.ndarray) -> SaliencyTable:
    bag, place = np.nonzero(labels != NO_LABEL)
    random = np.random.default_rng(0)
    visited = random.random((SHAPE.bags, 20))[bag] < 0.7
    score, tau = random.random((len(bag), 20)), np.broadcast_to((np.arange(20) + 0.5) / 20, (len(bag), 20))
    bins = Bins(
        torch.from_numpy(np.where(visited, score, 0).astype(np.float32)),
        torch.from_numpy(np.where(visited, tau, 0).astype(np.float32)),
        torch.from_numpy(np.where(visited, 2, -1).astype(np.int32)),
    )
    return SaliencyTable(bag, labels[bag, place], bins)


def global_batch(epoch: int, labels: np.ndarray, table: SaliencyTable) -> ClipBatch:
    """All bags of an epoch, with the snapshot's saliency."""
    columns = random_batch(SHAPE, epoch).columns()
    bag, place = np.nonzero(labels != NO_LABEL)
    for name in ("score", "tau", "epoch"):
        columns[f"saliency_{name}"][bag, place] = getattr(table.bins, name).numpy()
    own = {
        "label_ids": labels,
        "clip_positive": np.repeat((labels != NO_LABEL)[:, None], SHAPE.clips, axis=1),
        "ok": np.arange(SHAPE.bags) != NOT_DECODED,
    }
    return ClipBatch(**columns | own)


def part(batch: ClipBatch, engine: Engine) -> ClipBatch:
    bags = batch.num_bags // engine.workers
    mine = slice(engine.rank * bags, (engine.rank + 1) * bags)
    return ClipBatch(**{name: values[mine] for name, values in batch.columns().items()})


def in_groups(rank: int, folder: str) -> None:
    """What each of four processes does: the run in those groups of 1, 2 and 4 to which it belongs."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    for workers in WORKERS:
        if rank < workers:
            store = f"file://{folder}/store-{workers}"
            dist.init_process_group("gloo", store, timedelta(seconds=60), world_size=workers, rank=rank)
            torch.save(run(GlooEngine(rank, workers)), f"{folder}/{rank}-of-{workers}.pt")
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return run(LocalEngine(SHAPE.bags, torch.device("cpu")))


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """Number of workers -> what each rank has seen."""
    folder = tmp_path_factory.mktemp("gloo")
    in_ranks(in_groups, max(WORKERS), str(folder))
    return {
        workers: [torch.load(Path(folder) / f"{rank}-of-{workers}.pt", weights_only=False) for rank in range(workers)]
        for workers in WORKERS
    }


@pytest.mark.parametrize("workers", WORKERS)
def test_the_loss_is_that_of_the_global_batch(groups: dict, alone: dict, workers: int) -> None:
    for step, loss in enumerate(alone["losses"]):
        assert sum(rank["losses"][step] for rank in groups[workers]) == pytest.approx(loss, abs=TOLERANCE)


@pytest.mark.parametrize("workers", WORKERS)
def test_every_rank_has_the_gradient_of_the_global_batch(groups: dict, alone: dict, workers: int) -> None:
    for rank in groups[workers]:
        for step, gradients in enumerate(alone["gradients"]):
            assert max(gradient.abs().max().item() for gradient in gradients.values()) > 100 * TOLERANCE
            for name, gradient in gradients.items():
                assert torch.allclose(rank["gradients"][step][name], gradient, rtol=0, atol=TOLERANCE), (step, name)


@pytest.mark.parametrize("workers", WORKERS)
def test_probabilities_and_the_merged_saliency_are_those_of_one_process(
    groups: dict, alone: dict, workers: int
) -> None:
    expected = SaliencyTable.from_arrow(alone["snapshot"]).bins
    for rank in groups[workers]:
        for found, wanted in zip(rank["ledgers"], alone["ledgers"], strict=True):
            assert [without_p(row) for row in found] == [without_p(row) for row in wanted]
            for row, other in zip(found, wanted, strict=True):
                assert row["probability"] == pytest.approx(other["probability"], abs=TOLERANCE)
        bins = SaliencyTable.from_arrow(rank["snapshot"]).bins
        assert torch.equal(bins.epoch, expected.epoch)
        assert torch.allclose(bins.score, expected.score, rtol=0, atol=TOLERANCE)
        assert torch.allclose(bins.tau, expected.tau, rtol=0, atol=TOLERANCE)


def without_p(row: dict) -> dict:
    """Ranks are of what one rank has trained, and p differs by rounding."""
    return {name: value for name, value in row.items() if name not in ("probability", "null_rank", "null_variance")}
