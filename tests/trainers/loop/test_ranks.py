"""Ranks agree without waiting for each other: two real processes, joined by gloo, each with two threads."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from threading import Thread
from time import sleep

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("ray")
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.errors import TakenOverError
from adaptfocus.trainers.loop.commits import Commits, SinceCommit
from adaptfocus.trainers.loop.divergence import DivergedError
from adaptfocus.trainers.on_ray.engine import RayEngine, RayRanks
from adaptfocus.trainers.settings.run import TrainConfig
from tests.ranks import in_ranks

pytestmark = pytest.mark.slow


class GlooEngine(RayEngine):
    """The engine of a Ray Train worker, in a process that this test has started."""

    def __init__(self, rank: int, workers: int) -> None:
        RayRanks.__init__(self, rank, workers)
        self.device, self.answer = torch.device("cpu"), None


def taken() -> None:
    raise TakenOverError("gone")


def one_rank(rank: int, workers: int, folder: str) -> None:
    store = dist.FileStore(str(Path(folder) / "store"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers, timeout=timedelta(seconds=120))
    engine = GlooEngine(rank, workers)
    aside = engine.aside()
    # Rank 1 asks at its second step; both hear of it at their third, and of nothing at the others.
    heard = [engine.agreed(wish) for wish in ([0, 0, 0, 1, 0] if rank == 0 else [0, 2, 0, 0, 0])]
    found: dict[str, object] = {"heard": heard}

    def commit() -> None:
        found["gathered"] = aside.gather(rank)
        found["on_zero"] = aside.to_rank_zero({"rows": [rank] * (1 + 9 * rank)})
        found["made"] = aside.on_rank_zero(lambda: "entry")
        try:
            aside.on_rank_zero(taken)
        except TakenOverError as error:
            found["taken"] = str(error)

    thread = Thread(target=commit)
    thread.start()
    found["sum"] = [engine.add_up(torch.tensor([rank + step])).item() for step in range(200)]  # steps, meanwhile
    thread.join(timeout=60)
    torch.save(found, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()


def test_ranks_hear_the_largest_wish_one_step_later_and_commit_beside_their_steps(tmp_path: Path) -> None:
    in_ranks(one_rank, 2, 2, str(tmp_path))
    for rank in range(2):
        found = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True)
        assert found["heard"] == [0, 0, 2, 0, 1]
        assert (found["gathered"], found["made"], found["taken"]) == ([0, 1], "entry", "gone")
        assert found["on_zero"] == (None if rank else [{"rows": [0]}, {"rows": [1] * 10}])
        assert found["sum"] == [1 + 2 * step for step in range(200)]


def plan_slowly() -> str:
    sleep(3)
    return "plan"


def one_waiting_rank(rank: int, workers: int, folder: str) -> None:
    """Rank 0 plans for three times as long as a rank may wait in a step."""
    store = dist.FileStore(str(Path(folder) / "store"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers, timeout=timedelta(seconds=1))
    engine = GlooEngine(rank, workers)
    found = [engine.on_rank_zero(plan_slowly), engine.add_up(torch.tensor([rank])).item()]
    torch.save(found, Path(folder) / f"found-{rank}.pt")
    dist.destroy_process_group()


def test_planning_may_take_longer_than_a_rank_waits_in_a_step(tmp_path: Path) -> None:
    in_ranks(one_waiting_rank, 2, 2, str(tmp_path))
    assert [torch.load(tmp_path / f"found-{rank}.pt", weights_only=True) for rank in range(2)] == [["plan", 1]] * 2


class SteppingEngine(GlooEngine):
    """An engine that nobody takes away."""

    def asked_to_stop(self) -> bool:
        return False


def one_diverging_rank(rank: int, workers: int, folder: str) -> None:
    """Rank 1's second loss is not a number. First no commit is near, then one is due at that very step."""
    store = dist.FileStore(str(Path(folder) / "store"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers, timeout=timedelta(seconds=120))
    said = []
    for every in (100, 2):
        values = {"name": "a", "runs": folder, "index": folder, "checkpoint": {"every_batches": every}}
        model, engine = torch.nn.Linear(1, 1), SteppingEngine(rank, workers)
        config, optimiser = make(TrainConfig, values), torch.optim.AdamW(model.parameters())
        commits = Commits(config, engine, None, None, model, optimiser)  # type: ignore[arg-type] - it has no use for it
        plan, done, steps = PlanFacts("", 0, 80, (), (), 1), SinceCommit(), 0
        try:
            while steps < 9:
                done.losses.append(float("nan") if (rank, steps) == (1, 1) else 0.5)
                done.rates.append(0.25)
                steps += 1
                done = commits.after_step(plan, 8 * steps, done)
        except DivergedError as error:
            said.append((steps, str(error)))
    torch.save(said, Path(folder) / f"said-{rank}.pt")
    dist.destroy_process_group()


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_with_the_same_words(tmp_path: Path) -> None:
    in_ranks(one_diverging_rank, 2, 2, str(tmp_path))
    said = [torch.load(tmp_path / f"said-{rank}.pt", weights_only=True) for rank in range(2)]
    assert said[0] == said[1]
    assert [steps for steps, _ in said[0]] == [3, 3], "ranks hear of each other one step later"
    assert all("the loss is not finite (nan) in batch 2 of 10 of epoch 1" in text for _, text in said[0])
    assert all("bags 8 to 15 of its plan, learning rate 0.25" in text for _, text in said[0])
    assert not [*tmp_path.rglob("state.pt")]
