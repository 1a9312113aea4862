"""The stages of `stream.clips` as a Ray Dataset. Only this file of pipelines/ and `library/on_ray.py` import ray.

The newest marker in a folder on the store says where in the run to begin. Chunks of slots, epoch after epoch, become
plan rows as these are published. Tasks in a pool then read and decode blocks of k bags, in order. Ray Train splits the
Dataset so that each rank gets its slice of every global batch, in order.

One execution serves all epochs. A new one for each epoch would stop the decoders at every boundary (0.7 s with tasks,
3.6 s with actors, on two cores), and could not read the next epoch's first clips while the current epoch still trains.

Markers exist because Ray plans a dataset in another process, with a counter that restarts with the worker group. So
rank 0 records what is to be read before it asks for the first batch, under the name of its own worker group. Ray's
barrier at the beginning of an iteration makes every rank wait until the marker has been read. A process left over from
an older group can write only into that group's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset, Datasource, ReadTask, TaskPoolStrategy
from ray.data.block import BlockMetadata

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.plan.published import BAGS_PER_CHUNK, Chunk, PlanFacts, Stretch, read_bags, wait_for_chunk
from adaptfocus.pipelines.schemas import DECODE_SCHEMA
from adaptfocus.pipelines.stream.clips import ClipShape, read_and_decode
from adaptfocus.pipelines.stream.windows import VideoRange, WindowShape, window_batches

# Larger blocks delay the first batch. Each block costs Ray about 10 ms, so smaller ones cost more.
MAX_BLOCK_BYTES = 64 * 2**20
SLICES_AT_ONCE = 4  # of a plan; a chunk has one or two, unless it stands for many chunks


def claim_stream(run_url: str) -> str:
    """Create a new folder for the markers of one worker group. The controller calls this as the group starts."""
    for number in range(_newest_stream_number(run_url) + 1, 1 << 20):
        url = store.join(run_url, "streams", f"{number:06d}.json")
        if store.create_exclusive(url, b"{}"):
            return url.removesuffix(".json")
    raise StorageError(f"{run_url}/streams: no number is free")


def newest_stream(run_url: str) -> str:
    """The folder that was claimed last. Rank 0 asks once, as its loop starts."""
    return store.join(run_url, "streams", f"{_newest_stream_number(run_url):06d}")


def mark(stream_url: str, stretch: Stretch) -> None:
    """Record what the next iteration reads. Only rank 0 calls this, before its own iteration begins."""
    number = len(store.list_files(stream_url))
    data = json.dumps(asdict(stretch)).encode()
    if not store.create_exclusive(store.join(stream_url, f"{number:06d}.json"), data):
        raise StorageError(f"{stream_url}: marker {number} exists already; two processes lead the same worker group")


@dataclass(frozen=True)
class Decoding:
    """Where bags are decoded, and by how many tasks at once.

    There are 1.5 tasks for each core, so that cores stay busy while some tasks wait for their first bytes. Each task
    is a process.
    """

    cores: int = 1
    cpus_per_core: float = 1.0  # that Ray counts; below 1 if something else sleeps while bags are decoded
    label_selector: tuple[tuple[str, str], ...] = ()  # of the nodes that decode, as (label, value)

    @property
    def tasks(self) -> int:
        return self.cores + (self.cores + 1) // 2

    @property
    def lookups(self) -> int:
        """The number of tasks that look up plan rows. One task reads about a thousand clips a second."""
        return 1 + self.cores // 64


def plan_rows(stream_url: str, decoding: Decoding, index_urls: Sequence[str] = ()) -> Dataset:
    """Plan rows of the run as they are published, beginning at the position in the newest marker.

    Args:
        index_urls: as in `read_bags`.
    """
    chunks = ray.data.read_datasource(ChunkSource(stream_url), override_num_blocks=1, num_cpus=0)
    return chunks.repartition(target_num_rows_per_block=1).map_batches(
        partial(_rows_of_chunks, index_urls=index_urls),
        batch_size=1,
        # A task sleeps until its plan exists. It must not hold a core meanwhile.
        num_cpus=0,
        compute=TaskPoolStrategy(size=decoding.lookups),
    )


def plan_dataset(plan: PlanFacts, shape: ClipShape, decoding: Decoding, bags_per_block: int = 1) -> Dataset:
    """Decoded bags of one plan."""
    chunks = [
        {"url": url, "start": at, "stop": min(at + BAGS_PER_CHUNK, stop)}
        for url, start, stop in plan.slices()
        for at in range(start, stop, BAGS_PER_CHUNK)
    ]
    rows = (
        ray.data.from_items(chunks)
        .repartition(target_num_rows_per_block=1)
        .map_batches(_rows_of_slices, batch_size=1, num_cpus=0, compute=TaskPoolStrategy(size=decoding.lookups))
    )
    return decode_rows(rows, shape, bags_per_block, decoding)


def decode_rows(plan_rows: Dataset, shape: ClipShape, bags_per_block: int, decoding: Decoding) -> Dataset:
    """Plan rows -> DecodedBatch columns, `bags_per_block` bags a block."""
    labels: Any = {"label_selector": dict(decoding.label_selector)} if decoding.label_selector else {}
    return plan_rows.repartition(target_num_rows_per_block=bags_per_block).map_batches(
        partial(decode_columns, shape=shape),
        batch_size=bags_per_block,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=decoding.cpus_per_core * decoding.cores / decoding.tasks,
        # Tasks, not actors: their processes stay when a worker group is started again. The pool's size is fixed:
        # without it Ray starts a process a task.
        compute=TaskPoolStrategy(size=decoding.tasks),
        **labels,
    )


def window_dataset(ranges: Iterable[VideoRange], shape: WindowShape, decoding: Decoding) -> Dataset:
    """WindowBatch columns of the videos of an index, in no particular order. One task decodes each range."""
    ray.data.DataContext.get_current().target_max_block_size = MAX_BLOCK_BYTES
    labels: Any = {"label_selector": dict(decoding.label_selector)} if decoding.label_selector else {}
    return (
        ray.data.from_items([{"range": json.dumps(asdict(each))} for each in ranges])
        .repartition(target_num_rows_per_block=1)
        .map_batches(
            partial(_windows_of_ranges, shape=shape),
            batch_size=1,
            num_cpus=decoding.cpus_per_core * decoding.cores / decoding.tasks,
            compute=TaskPoolStrategy(size=decoding.tasks),
            **labels,
        )
    )


def _windows_of_ranges(ranges: Any, shape: WindowShape) -> Iterator[dict[str, Any]]:
    for each in ranges["range"].tolist():
        for batch in window_batches(VideoRange(**json.loads(each)).videos(), shape):
            yield batch.columns()


def bags_per_block(bags_per_rank: int, shape: ClipShape) -> int:
    """Bags in a block: the largest divisor of a rank's share of a global batch for which the frames fit a block."""
    bag_bytes = shape.clips * shape.frames * (4 * shape.features.dim if shape.features else 3 * shape.size_pixels**2)
    fits = [k for k in range(1, bags_per_rank + 1) if bags_per_rank % k == 0 and k * bag_bytes <= MAX_BLOCK_BYTES]
    return max(fits, default=1)


def decode_columns(rows: pa.Table, shape: ClipShape) -> dict[str, Any]:
    """`read_and_decode` in the form that Ray Data needs. Codec contexts stay in the process for the next block."""
    return read_and_decode(rows, shape).columns()


class ChunkSource(Datasource):
    """The chunks of a run's plans as one small table. They are known long before the plans are.

    It yields chunks rather than plan rows, because Ray holds the output of a read task back until it fills a block of
    128 MB.
    """

    def __init__(self, stream_url: str) -> None:
        super().__init__()
        self.stream_url = stream_url

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """One task, bound to the newest marker, so that a retry reads the same. No task before training begins."""
        markers = store.list_files(self.stream_url)
        if not markers:
            return []
        stretch = Stretch(**json.loads(store.read_bytes(markers[-1])))
        # num_rows must be None: Ray caches the answer of its first call, when no plan exists yet.
        facts = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_chunks, stretch), facts)]


def _chunks(stretch: Stretch) -> Iterator[pa.Table]:
    for epoch, ends in stretch.pieces():
        names = dict(zip(Chunk._fields, (np.full(len(ends) - 1, epoch), ends[:-1], ends[1:]), strict=True))
        yield pa.table({"run_url": pa.array([stretch.run_url] * (len(ends) - 1)), **names})


def _rows_of_chunks(chunks: Any, index_urls: Sequence[str]) -> Iterator[pa.Table]:
    """The plan rows of one chunk, as soon as they exist, some slices at a time; none beyond the end of its plan."""
    ((run_url, *slots),) = zip(*(chunks[name].tolist() for name in ("run_url", *Chunk._fields)), strict=True)
    slices = wait_for_chunk(run_url, Chunk(*slots))
    for first in range(0, max(len(slices), 1), SLICES_AT_ONCE):
        yield _tables(slices[first : first + SLICES_AT_ONCE], index_urls)


def _rows_of_slices(slices: Any) -> pa.Table:
    return _tables(zip(*(slices[name].tolist() for name in ("url", "start", "stop")), strict=True))


def _tables(slices: Iterable[tuple[str, int, int]], index_urls: Sequence[str] = ()) -> pa.Table:
    return pa.concat_tables(
        [DECODE_SCHEMA.empty_table(), *(read_bags(url, start, stop, index_urls) for url, start, stop in slices)]
    )


def _newest_stream_number(run_url: str) -> int:
    urls = store.list_files(store.join(run_url, "streams"))
    return int(urls[-1].rsplit("/", 1)[-1].removesuffix(".json")) if urls else -1
