"""Many items as tasks of Ray: results in order, the project's own errors, killed processes, and CPUs that are taken."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.over import in_this_process

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]
CPUS = 2  # one for a worker, one for decoders


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    from adaptfocus.infra.running.cluster import connect

    with connect(None, cpus=CPUS):
        yield


@dataclass(frozen=True)
class Item:
    number: int
    folder: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    number: int
    payload: bytes


def doubled(item: Item) -> Result:
    time.sleep(item.seconds)
    return Result(2 * item.number, b"\0" * 1000 * item.number)


def on_ray(tasks_at_once: int = 2) -> Any:
    from adaptfocus.trainers.on_ray.over import OnRay

    return OnRay(tasks_at_once)


def test_results_come_in_the_order_of_the_items() -> None:
    items = [Item(number, seconds=0.5 if number % 4 == 0 else 0.0) for number in range(12)]
    expected = [Result(2 * number, b"\0" * 1000 * number) for number in range(12)]
    assert list(on_ray()(items, doubled)) == expected
    assert list(in_this_process(items[:1], doubled)) == expected[:1]
    assert list(on_ray()([], doubled)) == []


def refuses(item: Item) -> int:
    if item.number == 3:
        raise InputError("item 3 cannot be read; index it again")
    return item.number


def test_an_error_for_the_user_is_raised_as_it_is() -> None:
    with pytest.raises(InputError) as found:
        list(on_ray()([Item(number) for number in range(6)], refuses))
    assert type(found.value) is InputError
    assert str(found.value) == "item 3 cannot be read; index it again"


def dies_once(item: Item) -> int:
    mark = Path(item.folder) / str(item.number)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return item.number
    if item.number % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return item.number


def test_a_task_whose_process_is_killed_is_done_again(tmp_path: Path) -> None:
    assert list(on_ray()([Item(n, str(tmp_path)) for n in range(7)], dies_once)) == list(range(7))


def slowly(rows: dict) -> dict:
    time.sleep(0.2)
    return rows


def _boundary_in_a_worker(settings: dict) -> None:
    """Rank 0 has work for tasks while the blocks of its own stream, which nobody waits for, take every other CPU."""
    from ray.data import TaskPoolStrategy

    stream = ray.data.from_items(list(range(400)), override_num_blocks=400).map_batches(
        slowly, batch_size=1, num_cpus=1, compute=TaskPoolStrategy(size=1)
    )
    ended, came = threading.Event(), []

    def decode() -> None:
        for row in stream.iter_rows():
            came.append(row)
            if ended.is_set():
                return

    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while len(came) < 3 or ray.available_resources().get("CPU", 0.0):
        assert time.monotonic() < deadline, "decoders never held every CPU"
        time.sleep(0.05)
    before = len(came)
    found = list(on_ray()([Item(number) for number in range(8)], doubled))
    ended.set()
    assert [result.number for result in found] == list(range(0, 16, 2))
    Path(settings["report"]).write_text(f"{before} {len(came)}")
    thread.join(30)


def test_a_worker_gets_its_tasks_done_while_decoders_hold_every_cpu(tmp_path: Path) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    report = tmp_path / "report"
    TorchTrainer(
        _boundary_in_a_worker,
        train_loop_config={"report": str(report)},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(storage_path=str(tmp_path)),
    ).fit()
    before, after = map(int, report.read_text().split())
    assert after > before, "the stream kept running"
