"""What ranks agree on without waiting for each other: two real processes, joined by gloo, each with two threads."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

pytest.importorskip("ray")
from trainers.checkpoint import TakenOverError
from trainers.ray_train import RayEngine

pytestmark = pytest.mark.slow


class GlooEngine(RayEngine):
    """The engine of a Ray Train worker, in a process that this test has started."""

    def __init__(self, rank: int, workers: int) -> None:
        self.rank, self.workers, self.device = rank, workers, torch.device("cpu")
        self.wishes, self.answer = self._gloo_group(), None


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
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(one_rank, args=(2, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined]
    for rank in range(2):
        found = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True)
        assert found["heard"] == [0, 0, 2, 0, 1]
        assert (found["gathered"], found["made"], found["taken"]) == ([0, 1], "entry", "gone")
        assert found["sum"] == [1 + 2 * step for step in range(200)]
