"""The stages of `clip_stream` as a Ray Dataset. The only file of pipelines/ that imports ray.

Input: a folder of markers on the store, the newest of which says which plan to read and from which slot.
Does: plan rows -> blocks of k bags -> range read and decode in a pool of tasks, in order.
Output: a Dataset that Ray Train splits so that rank r gets its slice of every global batch, in order.

Why markers: Ray plans a dataset anew at each epoch, in a process of its own, with a counter that restarts when a
worker group does. So rank 0 writes down what is to be read before each iteration, under the name of its own worker
group; Ray's barrier at the beginning of an iteration makes every rank wait until that has been seen. A process left
over from an older group can write only into that group's folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset, Datasource, ReadTask, TaskPoolStrategy
from ray.data.block import BlockMetadata

from pipelines import storage
from pipelines.clip_stream import ClipShape, read_and_decode
from pipelines.errors import StorageError
from pipelines.plan_store import PlanFacts, read_plan
from pipelines.records import PLAN_SCHEMA
from pipelines.tables import read_table

# Larger blocks delay the first batch; smaller ones cost Ray about 10 ms each.
MAX_BLOCK_BYTES = 64 * 2**20


def claim_stream(run_url: str) -> str:
    """A new folder for the markers of one worker group; called in the controller as the group starts."""
    for number in range(_newest_stream_number(run_url) + 1, 1 << 20):
        url = storage.join(run_url, "streams", f"{number:06d}.json")
        if storage.create_exclusive(url, b"{}"):
            return url.removesuffix(".json")
    raise StorageError(f"{run_url}/streams: no number is free")


def newest_stream(run_url: str) -> str:
    """The folder claimed last; rank 0 asks once, as its loop starts."""
    return storage.join(run_url, "streams", f"{_newest_stream_number(run_url):06d}")


def mark(stream_url: str, plan: PlanFacts, first_slot: int) -> None:
    """Say what the next iteration reads; rank 0 alone, before its own iteration begins."""
    number = len(storage.list_files(stream_url))
    marker = {"plan": plan.folder_url, "first_slot": first_slot}
    if not storage.create_exclusive(storage.join(stream_url, f"{number:06d}.json"), json.dumps(marker).encode()):
        raise StorageError(f"{stream_url}: marker {number} exists already; two processes lead the same worker group")


def clip_dataset(
    stream_url: str, shape: ClipShape, bags_per_block: int, decode_workers: int, cpus_per_decoder: float = 1.0
) -> Dataset:
    """Decoded bags of whatever plan the newest marker names at the beginning of each iteration."""
    return decoded(PlanSource(partial(_marked, stream_url)), shape, bags_per_block, decode_workers, cpus_per_decoder)


def plan_dataset(plan: PlanFacts, shape: ClipShape, decode_workers: int, cpus_per_decoder: float = 1.0) -> Dataset:
    """Decoded bags of one plan, a block each."""
    return decoded(PlanSource(partial(list, list(plan.slices(0)))), shape, 1, decode_workers, cpus_per_decoder)


def decoded(
    source: PlanSource, shape: ClipShape, bags_per_block: int, decode_workers: int, cpus_per_decoder: float
) -> Dataset:
    """Plan rows -> ClipBatch columns, `bags_per_block` bags a block."""
    # One block asked for: the plan's parts are the read tasks; otherwise Ray would split each into many blocks.
    plan_rows = ray.data.read_datasource(source, override_num_blocks=1)
    return plan_rows.repartition(target_num_rows_per_block=bags_per_block).map_batches(
        partial(decode_columns, shape=shape),
        batch_size=bags_per_block,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=cpus_per_decoder,
        # Tasks, not actors: an actor pool is started anew each epoch (3.6 s between epochs on two cores, against
        # 0.7 s with tasks, whose processes stay). The pool's size is fixed: without it Ray starts a process a task.
        compute=TaskPoolStrategy(size=decode_workers),
    )


def bags_per_block(bags_per_rank: int, shape: ClipShape) -> int:
    """The largest divisor of a rank's share of a global batch whose frames fit a block."""
    bag_bytes = shape.clips * shape.frames * 3 * shape.size_pixels**2
    fits = [k for k in range(1, bags_per_rank + 1) if bags_per_rank % k == 0 and k * bag_bytes <= MAX_BLOCK_BYTES]
    return max(fits, default=1)


def decode_columns(rows: pa.Table, shape: ClipShape) -> dict[str, Any]:
    """`read_and_decode` as Ray Data wants it; codec contexts stay in the process for the next block."""
    return read_and_decode(rows, shape).columns()


class PlanSource(Datasource):
    """Rows of a plan: `slices` says which rows of which parts, asked anew at the beginning of each iteration."""

    def __init__(self, slices: Callable[[], list[tuple[str, int, int]]]) -> None:
        super().__init__()
        self.slices = slices

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Each task is bound to a part's URL and rows: a task that is retried reads the same."""
        # num_rows must be None: Ray caches the answer of its first call, which knows no plan yet.
        facts = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(partial(_read, url, start, stop), facts, schema=PLAN_SCHEMA) for url, start, stop in self.slices()
        ]


def _marked(stream_url: str) -> list[tuple[str, int, int]]:
    """What the newest marker says; nothing before training begins, when Ray asks once."""
    markers = storage.list_files(stream_url)
    if not markers:
        return []
    marker = json.loads(storage.read_bytes(markers[-1]))
    plan = read_plan(marker["plan"])
    if plan is None:
        raise StorageError(f"{marker['plan']}: the plan that {markers[-1]} names is not there")
    return list(plan.slices(marker["first_slot"]))


def _read(url: str, start: int, stop: int) -> Iterable[pa.Table]:
    return [read_table(url, PLAN_SCHEMA, start, stop)]


def _newest_stream_number(run_url: str) -> int:
    urls = storage.list_files(storage.join(run_url, "streams"))
    return int(urls[-1].rsplit("/", 1)[-1].removesuffix(".json")) if urls else -1
