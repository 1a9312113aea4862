"""DDP and FSDP2 train the same, and each resumes from the other's states. Two real processes, joined by gloo."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule

from adaptfocus.trainers.device.transfer import Leaving
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.sharding import on_cpu, state_on_rank_zero, wrap_model
from adaptfocus.trainers.loop.step import train_step
from adaptfocus.trainers.loop.training import wrap_and_restore
from adaptfocus.trainers.ranks import Engine
from benchmarks.focus_overhead import config_of
from tests.ranks import in_ranks
from tests.trainers.backbones.small_backbones import small
from tests.trainers.loop.test_distributed import GlooEngine, part
from tests.trainers.loop.test_step import CLASSES, batch_for, shape_of

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

# What each step of a run is computed with: the same steps, and its state is carried from one to the next.
RUNS = {
    "ddp": ("", "", ""),
    "ddp in parts": ("step.accumulate=2", "step.accumulate=2", "step.accumulate=2"),
    "fsdp2": ("step.sharding=fsdp2",) * 3,
    "fsdp2 in parts": ("step.sharding=fsdp2 step.accumulate=2",) * 3,
    "fsdp2, activations again": ("step.sharding=fsdp2 step.checkpoint_activations=true",) * 3,
    "in turns": ("step.sharding=fsdp2", "", "step.sharding=fsdp2"),
    "in turns, all else too": ("step.sharding=fsdp2", "step.channels_last=true",
                               "step.sharding=fsdp2 step.fused_optimiser=false"),
}  # fmt: skip
# A small one: AdamW's first step is the sign of a gradient, rounding included, at the whole rate.
RATE = "optim.learning_rate=1e-4"
CASES = [
    *(("small3d", name) for name in RUNS),
    *(("mvit_b_16x4", name) for name in ("ddp", "fsdp2, activations again", "in turns")),
]
TOLERANCE = 1e-5


def run(engine: Engine, backbone: str, switches: tuple[str, ...]) -> dict[str, Any]:
    """Some steps, each in a new worker group that resumes from the state of the one before."""
    state: dict[str, Any] | None = None
    said: list[Any] = []
    for seed, overrides in enumerate(switches):
        model = small(backbone, CLASSES)
        config = config_of(shape_of(model), "best", f"backbone={backbone}", "optim.clip_gradient_norm=1", RATE,
                           "focus.background_from=0", "plan.bags_per_batch=4", *overrides.split())  # fmt: skip
        engine.sharding = config.step.sharding  # type: ignore[attr-defined]
        trained, optimiser = wrap_and_restore(config, engine, model, state)
        assert isinstance(model, FSDPModule) == (config.step.sharding == "fsdp2" and engine.workers > 1)
        done, batch = SinceCommit(), part(batch_for(model, seed).head(4), engine)
        train_step(config, engine, trained, model, optimiser, batch, 20, 0.5, done)
        said += [row["probability"] for row in done.scores.to_arrow().to_pylist()]
        saved = state_on_rank_zero(model, optimiser, engine.rank, Leaving())
        assert bool(saved) == (engine.rank == 0)
        state = engine.on_rank_zero(partial(dict, saved))  # a state comes back from the store
    own = on_cpu({"model": model.state_dict(), "optimiser": optimiser.state_dict()}, Leaving())
    return {"state": own, "said": said, "saved": saved, "by torch": by_torch(model, optimiser)}


def by_torch(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The same state as torch saves it; moments by the name of their weight."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    names = {weight: name for name, weight in model.named_parameters()}
    order = [names[weight] for group in optimiser.param_groups for weight in group["params"]]
    moments = get_optimizer_state_dict(model, optimiser, options=options).get("state", {})
    return {"model": get_model_state_dict(model, options=options), "moments": moments, "order": order}


def one_rank(rank: int, workers: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(str(Path(folder) / "store"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers, timeout=timedelta(seconds=120))
    engine = GlooEngine(rank, workers)
    found = {(backbone, name): run(engine, backbone, RUNS[name]) for backbone, name in CASES}
    torch.save(found, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two ranks has at the end of every run."""
    folder = tmp_path_factory.mktemp("sharding")
    in_ranks(one_rank, 2, 2, str(folder))
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    """The same steps in one process."""
    return {backbone: run(LocalEngine(4, torch.device("cpu")), backbone, RUNS["ddp"]) for backbone in dict(CASES)}


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_every_way_of_sharing_a_model_trains_the_same(ranks: list, alone: dict, backbone: str, name: str) -> None:
    # One process adds up in another order. Where an entry of MViT's gradient is nearly zero, AdamW takes
    # rounding for a direction: it is held to DDP on as many ranks.
    wanted = (alone[backbone] if backbone == "small3d" else ranks[0][backbone, "ddp"])["state"]
    for rank in ranks:
        found = rank[backbone, name]["state"]
        assert found["model"].keys() == wanted["model"].keys()
        for key, value in wanted["model"].items():
            torch.testing.assert_close(found["model"][key], value, rtol=0, atol=TOLERANCE, msg=f"{name}: {key}")
        for at, moments in wanted["optimiser"]["state"].items():
            for moment, value in moments.items():
                apart = (found["optimiser"]["state"][at][moment] - value).abs().max()
                assert float(apart) <= 1e-3 * float(value.abs().max()) + 1e-9, (at, moment)


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_the_ledger_is_that_of_one_process(ranks: list, alone: dict, backbone: str, name: str) -> None:
    """Rank 0 has the first half of each step's bags."""
    both = [rank[backbone, name]["said"] for rank in ranks]
    steps = len(RUNS[name])
    said = [p for step in range(steps) for rank in both for p in rank[2 * step : 2 * step + 2]]
    for found, wanted in zip(said, alone[backbone]["said"], strict=True):
        assert found == pytest.approx(wanted, abs=TOLERANCE)


def test_a_state_holds_plain_whole_tensors(ranks: list) -> None:
    """The states that evaluation and export read do not depend on how they were trained."""
    state = ranks[0]["small3d", "fsdp2"]["state"]
    values = [*state["model"].values(), *(v for each in state["optimiser"]["state"].values() for v in each.values())]
    assert {type(value) for value in values} == {torch.Tensor}
    small("small3d", CLASSES).load_state_dict(state["model"])


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_what_is_saved_is_the_state_that_torch_gives_rank_zero(ranks: list, backbone: str, name: str) -> None:
    saved, wanted = ranks[0][backbone, name]["saved"], ranks[0][backbone, name]["by torch"]
    assert saved["model"].keys() == wanted["model"].keys()
    assert all(torch.equal(value, wanted["model"][key]) for key, value in saved["model"].items())
    assert len(saved["optimiser"]["state"]) == len(wanted["moments"]) > 0
    for at, moments in saved["optimiser"]["state"].items():
        for moment, value in moments.items():
            assert torch.equal(value, wanted["moments"][wanted["order"][at]][moment]), (at, moment)
    assert ranks[1][backbone, name]["saved"] == {}


def peak_of_saving(rank: int, workers: int, folder: str) -> None:
    """Notes by how much a rank's memory grows at most while a state of 192 MB is made; it has half of it."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(str(Path(folder) / "store"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers, timeout=timedelta(seconds=120))
    model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(16)))
    wrap_model(model, "fsdp2", torch.device("cpu"), workers)
    optimiser = torch.optim.AdamW(model.parameters())
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimiser.step()
    dist.barrier()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = memory_megabytes("VmRSS")
    kept = state_on_rank_zero(model, optimiser, rank, Leaving())
    Path(folder, f"peak-{rank}").write_text(str(memory_megabytes("VmHWM") - before))
    assert len(kept) == (2 if rank == 0 else 0)
    dist.destroy_process_group()


def memory_megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def test_a_state_is_copied_to_rank_zero_only(tmp_path: Path) -> None:
    in_ranks(peak_of_saving, 2, 2, str(tmp_path))
    peaks = [float((tmp_path / f"peak-{rank}").read_text()) for rank in range(2)]
    assert peaks[0] >= 192 * 0.9, "the measure sees a whole state"
    assert peaks[1] <= 64, "a tensor of 4 MB at a time, and what an allocator keeps"
