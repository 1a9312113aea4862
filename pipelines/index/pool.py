"""Index shards in parallel processes, and handle the death of a process.

Tasks run in a pool of spawned processes, because s3fs does not survive a fork. With one worker they run in this
process. Results come in the order in which they are done.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from adaptfocus.pipelines.index.packets import UNSPLIT_SCHEMA
from adaptfocus.pipelines.index.rows import ShardTask, index_shard
from adaptfocus.pipelines.index.staged import ShardFacts, refused_table, write_staged
from adaptfocus.pipelines.over import end_with_parent
from adaptfocus.pipelines.shards.members import Refusal


def index_shards(tasks: dict[int, ShardTask], workers: int) -> Iterator[tuple[int, ShardFacts]]:
    """(number, facts) of each task as it is done.

    Raises:
        StorageError: a shard cannot be read or a part cannot be written; tasks that have not begun are dropped.
    """
    if workers == 1 or len(tasks) <= 1:
        yield from ((number, index_shard(task)) for number, task in tasks.items())
        return
    left = dict(tasks)
    try:
        yield from _in_pool(left, min(workers, len(tasks)))
    except BrokenProcessPool:
        # A native library died on some video and took the pool with it. One process for each shard finds the culprit.
        for number in list(left):
            task = left[number]
            try:
                yield from _in_pool({number: task}, 1)
            except BrokenProcessPool:
                yield number, _write_off(task)


def _in_pool(left: dict[int, ShardTask], workers: int) -> Iterator[tuple[int, ShardFacts]]:
    """Run tasks in processes; finished tasks are removed from `left`."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    try:
        numbers = {pool.submit(index_shard, task): number for number, task in left.items()}
        for future in as_completed(numbers):
            facts = future.result()
            del left[numbers[future]]
            yield numbers[future], facts
    finally:
        pool.shutdown(cancel_futures=True)


def _write_off(task: ShardTask) -> ShardFacts:
    """Write the staged part of a shard whose reading ended the process."""
    message = "the process that read it died (a crash in a native decoder, or out of memory); leave it out"
    refused = refused_table(task.shard_url, [Refusal("reader_died", message)])
    return write_staged(task.index_url, task.identity, UNSPLIT_SCHEMA.empty_table(), refused, 0.0)
