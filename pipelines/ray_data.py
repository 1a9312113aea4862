"""The stages of `clip_stream` as a Ray Dataset. The only file of pipelines/ that imports ray.

Input: a folder of markers on the store, the newest of which says which plan to read and from which slot.
Does: plan rows -> blocks of k bags -> range read and decode in an actor pool, in order.
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
from ray.data import ActorPoolStrategy, Dataset, Datasource, ReadTask
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
    # parallelism 1: the plan's parts are the read tasks; otherwise Ray would split each into many blocks.
    plan_rows = ray.data.read_datasource(PlanSource(stream_url), override_num_blocks=1)
    return decoded(plan_rows, shape, bags_per_block, decode_workers, cpus_per_decoder)


def decoded(
    plan_rows: Dataset, shape: ClipShape, bags_per_block: int, decode_workers: int, cpus_per_decoder: float = 1.0
) -> Dataset:
    """Plan rows -> ClipBatch columns, `bags_per_block` bags a block."""
    return plan_rows.repartition(target_num_rows_per_block=bags_per_block).map_batches(
        Decoder,
        fn_constructor_args=(shape,),
        batch_size=bags_per_block,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=cpus_per_decoder,
        # A pool of known size: a task pool started a process a task when cold (15 s on two cores).
        compute=ActorPoolStrategy(size=decode_workers),
    )


def bags_per_block(bags_per_rank: int, shape: ClipShape) -> int:
    """The largest divisor of a rank's share of a global batch whose frames fit a block."""
    bag_bytes = shape.clips * shape.frames * 3 * shape.size_pixels**2
    fits = [k for k in range(1, bags_per_rank + 1) if bags_per_rank % k == 0 and k * bag_bytes <= MAX_BLOCK_BYTES]
    return max(fits, default=1)


class Decoder:
    """One decoding actor: keeps its codec contexts between blocks."""

    def __init__(self, shape: ClipShape) -> None:
        self.shape = shape

    def __call__(self, rows: pa.Table) -> dict[str, Any]:
        return read_and_decode(rows, self.shape).columns()


class PlanSource(Datasource):
    """Rows of an epoch's plan, from the slot and in the order that the newest marker says."""

    def __init__(self, stream_url: str) -> None:
        super().__init__()
        self.stream_url = stream_url

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Each task is bound to a part's URL and rows: a task that is retried reads the same."""
        markers = storage.list_files(self.stream_url)
        if not markers:
            return []  # Ray asks once before training begins
        marker = json.loads(storage.read_bytes(markers[-1]))
        plan = read_plan(marker["plan"])
        if plan is None:
            raise StorageError(f"{marker['plan']}: the plan that {markers[-1]} names is not there")
        # num_rows must be None: Ray caches the answer of its first call, which knows no plan yet.
        facts = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(_reader(url, start, stop), facts, schema=PLAN_SCHEMA)
            for url, start, stop in plan.slices(marker["first_slot"])
        ]


def _reader(url: str, start: int, stop: int) -> Callable[[], Iterable[pa.Table]]:
    return partial(_read, url, start, stop)


def _read(url: str, start: int, stop: int) -> Iterable[pa.Table]:
    return [read_table(url, PLAN_SCHEMA, start, stop)]


def _newest_stream_number(run_url: str) -> int:
    urls = storage.list_files(storage.join(run_url, "streams"))
    return int(urls[-1].rsplit("/", 1)[-1].removesuffix(".json")) if urls else -1
