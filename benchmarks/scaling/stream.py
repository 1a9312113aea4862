"""What the one process that coordinates a stream spends on each block of clips. Nothing is decoded."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import ray
from ray.data import TaskPoolStrategy
from ray.exceptions import RayActorError

from adaptfocus.infra.running.cluster import connect
from adaptfocus.pipelines.plan.published import Stretch
from adaptfocus.pipelines.stream.on_ray import Decoding, claim_stream, mark, plan_rows
from adaptfocus.trainers.on_ray.datasets import quiet_data
from adaptfocus.trainers.settings.run import TrainConfig

RANKS = 2
WARM_BLOCKS = 200  # until every process is there


class Streamed(NamedTuple):
    """Of the blocks after the first WARM_BLOCKS."""

    first_row_seconds: float
    blocks: int
    seconds: float
    coordinator_seconds: float  # of CPU, in the process that splits the stream


def streamed(config: TrainConfig, bags: int, max_bags: int) -> Streamed:
    """The first bags of a published plan, each as a block of its own, through the stages of a stream to two ranks.

    Args:
        max_bags: the size that the corpus is said to have; the stream lists its chunks for 30 epochs.
    """
    with connect(None, cpus=8):
        quiet_data()
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        url = claim_stream(config.url)
        rows = plan_rows(url, Decoding(cores=2)).repartition(target_num_rows_per_block=1)
        blocks = rows.map_batches(_slot, batch_size=1, batch_format="pyarrow", compute=TaskPoolStrategy(size=3))
        splits: Any = blocks.streaming_split(RANKS, equal=True)
        came: list[float] = []
        slots: list[list[int]] = [[] for _ in range(RANKS)]
        spent: dict[int, float] = {}
        lock = threading.Lock()

        def consume(rank: int) -> None:
            with contextlib.suppress(RayActorError):
                take(rank)

        def take(rank: int) -> None:
            for batch in splits[rank].iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=0):
                slots[rank] += batch["slot"].tolist()
                with lock:
                    came.append(time.monotonic())
                    if len(came) in (WARM_BLOCKS, bags):
                        spent[len(came)] = _coordinator_seconds()
                    if len(came) >= bags:
                        return

        began = time.monotonic()
        mark(url, Stretch(config.url, 0, 0, 30, config.plan.bags_per_batch, max_bags))
        threads = [threading.Thread(target=consume, args=(rank,), daemon=True) for rank in range(RANKS)]
        for thread in threads:
            thread.start()
        while bags not in spent:
            time.sleep(0.1)
        # A thread may wait for rows of the next epoch. If Ray stopped under it, the process would end before its result
        # is out.
        ray.kill(splits[0]._coord_actor)
        for thread in threads:
            thread.join()
        if any(each != sorted(each) for each in slots):
            raise RuntimeError("bags came out of order")
        seconds = came[bags - 1] - came[WARM_BLOCKS - 1]
        return Streamed(came[0] - began, bags - WARM_BLOCKS, seconds, spent[bags] - spent[WARM_BLOCKS])


def _slot(rows: pa.Table) -> pa.Table:
    return rows.select(["slot"])


def _coordinator_seconds() -> float:
    """CPU of Ray's process that plans the stream and hands out its blocks."""
    for process in psutil.process_iter(["cmdline"]):
        if any("SplitCoordinator" in part for part in process.info["cmdline"] or []):
            times = process.cpu_times()
            return times.user + times.system
    raise RuntimeError("Ray has no process that splits the stream")
