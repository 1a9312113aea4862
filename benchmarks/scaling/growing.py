"""An index that grows, epochs that are stretches, and draws by priority: what is touched, lost or twice."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.priority import pick_partitions, pick_rows, ticks_and_bags
from adaptfocus.trainers.epochs.planner import Corpus
from adaptfocus.trainers.runs.ledger import Audit, audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from benchmarks.faults.s3_latency import FarStore
from benchmarks.scaling import steps
from benchmarks.scaling.corpus import SHORT, add, stage, templates, write_corpus
from tests.s3_server import ExclusiveS3


class Appended(NamedTuple):
    """What adding tars to an index took, beyond reading them."""

    requests: int
    partitions: int  # of the index, whose ids are looked through for repeated ones
    new_partitions: int
    changed: int  # objects of the index that are not what they were


def append(folder: Path, cache: Path, shards: int, added: int, videos: int) -> Appended:
    """Add `added` tars of `videos` videos to an index of `shards` on S3."""
    made_of, sizes = templates(cache, SHORT), Sizes()
    with ExclusiveS3(folder / "s3") as s3, FarStore(s3) as far:
        os.environ.update(far.environment)
        url = far.store.url("index")
        before = write_corpus(url, shards * videos, made_of, in_this_process, sizes, videos)
        staged = [stage(url, number, videos, made_of) for number in range(shards, shards + added)]
        old = _tags(url)
        far.reset(0)
        after = add(url, staged, in_this_process, sizes)
        requests, now = sum(each.requests for each in far.traffic()), _tags(url)
    changed = sum(now.get(name) != tag for name, tag in old.items())
    return Appended(requests, before.next_uid, after.next_uid - before.next_uid, changed)


def _tags(index_url: str) -> dict[str, str]:
    """What lies in an index, without what is staged."""
    folders = ("rows", "manifests", "shards", "snapshots", "packets", "dead", "refused")
    urls = [url for folder in folders for url in store.list_files(store.join(index_url, folder))]
    return {url: store.size_and_tag(url).tag for url in urls}


def touched_share(folder: Path, cache: Path, partitions: int, partition_rows: int, epochs: int) -> list[float]:
    """The shares of partitions that get new files, of epochs of 1 % of a corpus."""
    videos = partitions * partition_rows
    index = str(folder / "index")
    write_corpus(index, videos, templates(cache, SHORT), in_this_process, Sizes(partition_rows=partition_rows))
    bags = videos // 100 // steps.BAGS_PER_BATCH * steps.BAGS_PER_BATCH
    config = steps.settings(folder, "run", index, f"plan.bags_per_epoch={bags}", f"epochs={epochs + 1}")
    run, found = Run(config.url), []
    steps.publish(config, 0)
    for epoch in range(epochs):
        steps.trained(config, epoch)
        steps.publish(config, epoch + 1)
        written = store.list_files(run.epoch_url(epoch + 1, "saliency"))
        found.append(len(written) / len(Corpus.of(config).partitions))
    return found


def priority_error(partitions: int, videos: int, wanted: int, epochs: int) -> tuple[float, int]:
    """How far the mean number of bags of a video is from its share of all weights -> (the root mean square, in standard
    errors of the mean, which is 1 if there is no error; the number of videos)."""
    random = np.random.default_rng(0)
    weights = {uid: random.integers(1, 1 << 16, videos).tolist() for uid in range(partitions)}
    counts: Counter[tuple[int, int]] = Counter()
    squares: Counter[tuple[int, int]] = Counter()
    ticks, bags = ticks_and_bags(wanted, partitions)
    sums = {uid: sum(own) for uid, own in weights.items()}
    for epoch in range(epochs):
        for uid, times in pick_partitions(sums, ticks, 0, epoch).items():
            names = [f"{uid}/{place}" for place in range(videos)]
            drawn = Counter(
                row for row, _ in pick_rows(names, range(videos), weights[uid], times * bags, 0, epoch, uid)
            )
            for row, n in drawn.items():
                counts[uid, row] += n
                squares[uid, row] += n * n
    total, off = sum(sums.values()), []
    for uid, own in weights.items():
        for place, weight in enumerate(own):
            expected, mean = ticks * bags * weight / total, counts[uid, place] / epochs
            variance = squares[uid, place] / epochs - mean**2
            off.append((mean - expected) ** 2 / (max(variance, expected * (1 - min(expected, 0.9))) / epochs))
    return float(np.mean(off)) ** 0.5, len(off)


def followed(folder: Path, cache: Path, videos: int, added: int, bags: int | None) -> Audit:
    """A run that follows its index: tars come while its second epoch is trained -> the audit of four epochs.

    Args:
        bags: of an epoch; None: an epoch is a pass.
    """
    made_of, index, sizes = templates(cache, SHORT), str(folder / "index"), Sizes(partition_rows=256)
    write_corpus(index, videos, made_of, in_this_process, sizes)
    more = [f"plan.bags_per_epoch={bags}"] if bags else []
    config = steps.settings(folder, "run", index, "follow_index=true", "epochs=4", "plan.max_labels=40", *more)
    prepare(config)
    for epoch in range(4):
        steps.publish(config, epoch)
        if epoch == 1:
            staged = [stage(index, 10_000 + number, 100, made_of) for number in range(added // 100)]
            add(index, staged, in_this_process, sizes)
        steps.trained(config, epoch)
    return audit(Run(config.url))
