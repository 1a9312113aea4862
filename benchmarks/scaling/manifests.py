"""An index of which only the manifests exist: what a process that lays out an epoch of a corpus holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import open_index, read_partitions
from adaptfocus.pipelines.index.partitions import Partition, write_manifests
from adaptfocus.pipelines.index.shard_lists import IndexedShard, write_shards
from adaptfocus.pipelines.index.snapshots import Snapshot, fingerprint_of, write_snapshot
from adaptfocus.pipelines.over import Over
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.epochs.window_tasks import Drawn
from adaptfocus.trainers.runs.snapshots import PartitionFiles
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.scaling.corpus import CLASSES
from benchmarks.scaling.steps import Step, engine, measured

PARTITION_ROWS = Sizes().partition_rows
PAIRS = 3.5  # labels a video


def write_manifest_only(index_url: str, videos: int, shards: int) -> None:
    """An index of `videos` videos in `shards` tars, without its partitions' rows."""
    count, sizes = -(-videos // PARTITION_ROWS), Sizes()
    rows = np.diff(np.linspace(0, videos, count + 1).astype(int)).tolist()
    edges = [n * 2**64 // count for n in range(count + 1)]
    partitions = [
        Partition(uid, rows[uid], f"{uid:06d}-{uid:016x}", 0, rows[uid], 12, None, rows[uid], first, last - 1)
        for uid, (first, last) in enumerate(itertools.pairwise(edges))
    ]
    each = -(-videos // shards)
    tars = [
        IndexedShard(f"s3://corpus/train-{n:06d}.tar", 1 << 30, f"{n:032x}", f"{n:016x}", each, {}, 0, count, 60.0)
        for n in range(shards)
    ]
    manifests = write_manifests(index_url, partitions, sizes.manifest_partitions)
    lists = write_shards(index_url, tars, sizes.list_shards)
    counts = {name: int(PAIRS * videos / len(CLASSES)) for name in CLASSES}
    write_snapshot(
        index_url,
        Snapshot(
            0, None, fingerprint_of(None, list(CLASSES), manifests), videos, 0, 12, list(CLASSES), counts, {}, count,
            manifests, lists, [],
        ),
    )  # fmt: skip


def laid_out(config: TrainConfig, tasks: int) -> Step:
    """Plan an epoch of an index of which only manifests exist, with tasks that do nothing; the number of its bags."""
    with engine(tasks) as over:
        return measured(lambda: _lay_out(config, over.over))


def opened(index_url: str, with_partitions: bool) -> int:
    """Open an index, as any rank does, or as the one that plans -> its number of videos."""
    facts = open_index(index_url)
    return sum(each.rows for each in read_partitions(index_url)) if with_partitions else facts.videos


def _lay_out(config: TrainConfig, over: Over) -> int:
    corpus = Corpus.of(config)
    files = {
        uid: PartitionFiles(uid, f"epochs/0001/saliency/{uid:06d}-{uid:016x}.parquet", "", 0, int(PAIRS * each.rows))
        for uid, each in corpus.partitions.items()
    }
    return EpochPlanner(config, corpus, files, _Idle(over)).draw(1, ()).num_bags


class _Idle:
    """The tasks of another `Over`, without their work."""

    def __init__(self, over: Over) -> None:
        self.over = over

    def __call__(self, items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
        return self.over(items, _nothing)


def _nothing(item: Any) -> Drawn:
    return Drawn([], None)
