"""Which videos a report shows: those with confident misses, then those where the model is least sure.

(video, action) pairs are ranked by their spikes: a spike is the highest bin of an action's saliency over a video. A
user can ask for videos by id instead. Each choice has its reason in words.

Of a large index, some partitions are looked at, chosen by a hash. Each is a random sample of the corpus.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.deal import hash_of_id
from adaptfocus.pipelines.index.load import NoSnapshotError
from adaptfocus.pipelines.index.partitions import Partition
from adaptfocus.pipelines.plan.labels import is_shown
from adaptfocus.pipelines.plan.order import order_of_partitions
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.saliency.bins import spikes
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.trainers.inputs.run_index import read_videos, run_partitions, training_facts
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import Manifest, PartitionFiles, read_left_out, read_saliency_of
from adaptfocus.trainers.settings.run import TrainConfig

LOOKED_AT = 131_072  # videos: the whole of a small index; some seconds of CPU and one partition in memory
_RANKED_BY = ["labels", "intervals", "duration_seconds"]


class Choice(NamedTuple):
    """A video to show."""

    row: int
    why: str


@dataclass(frozen=True)
class Videos:
    """The videos of the index of some runs, or of all of their indexes."""

    config: TrainConfig  # of a run on it: which index, or which indexes
    fingerprint: str
    classes: tuple[str, ...]
    partitions: tuple[Partition, ...]  # all of them, by uid

    def read(self, partition: Partition, columns: Sequence[str] | None = None) -> pa.Table:
        """The videos of a partition as they are indexed, whatever task the run has."""
        return read_videos(self.config.model_copy(update={"task": "labels"}), [partition], columns)

    @property
    def count(self) -> int:
        return sum(each.rows for each in self.partitions)

    @cached_property
    def looked_at(self) -> tuple[Partition, ...]:
        """All partitions, or the first ones by a hash until they have LOOKED_AT videos; by uid."""
        by_uid, found, room = {each.uid: each for each in self.partitions}, [], LOOKED_AT
        for uid in order_of_partitions(sorted(by_uid), seed=0, epoch=0):
            if room <= 0:
                break
            found.append(uid)
            room -= by_uid[uid].rows
        return tuple(by_uid[uid] for uid in sorted(found))

    @property
    def sampled(self) -> str:
        """What of the index is looked at, in words; nothing if that is all of it."""
        looked = sum(each.rows for each in self.looked_at)
        return "" if looked == self.count else f"; of {looked:,} videos that were looked at, of {self.count:,}"

    @cached_property
    def hit_chance(self) -> float | None:
        """How often a random moment lies in a true interval of an action; None if no interval is known.

        The share of a video that an action covers: the mean over (video, action) pairs with known intervals.
        """
        columns = ["duration_seconds", "labels", "intervals"]
        shares = [share for each in self.looked_at if each.unlabelled < each.rows
                  for share in _covered(self.read(each, columns))]  # fmt: skip
        return float(np.mean(shares)) if shares else None


class RunSeen(NamedTuple):
    """A run on an index, and its newest snapshot."""

    run: Run
    name: str
    config: TrainConfig
    classes: tuple[str, ...]  # of its labels
    manifest: Manifest
    epochs: int  # whose scores are merged


class _Pair(NamedTuple):
    """An action of a video, as one run sees it."""

    row: int
    label: str
    run: str
    spike: float
    hit: bool | None


@dataclass
class _Ranked:
    """The first pairs of a run by two orders, from all partitions so far."""

    misses: list[_Pair] = field(default_factory=list)
    weak: list[_Pair] = field(default_factory=list)


def open_videos(config: TrainConfig, fingerprint: str) -> Videos:
    """The videos of a snapshot of a run's index, or of the newest one if there is none with this fingerprint.

    Raises InputError: there is no index.
    """
    indexed = config.model_copy(update={"task": "labels"})
    try:
        facts = training_facts(indexed, fingerprint)
    except NoSnapshotError:
        facts = training_facts(indexed)
    partitions = run_partitions(config, facts.fingerprint)
    return Videos(config, facts.fingerprint, tuple(facts.classes), partitions)


def seen_by(config: TrainConfig, fingerprint: str) -> Hashable:
    """What decides which videos a run sees, and under which labels."""
    names = tuple(tuple(sorted(each.labels.items())) for each in config.mixture.more)
    return config.index_urls, names, fingerprint


def rows_of_ids(videos: Videos, video_ids: Sequence[str]) -> list[Choice]:
    """The videos of an index with the given ids; ids that the index does not have are left out.

    An id that is in several indexes of a run is several videos. Only the partitions are read that an id can be in, by
    its hash.
    """
    hashes = {name: hash_of_id(name) for name in video_ids}
    rows: dict[str, list[int]] = {}
    for each in videos.partitions:
        wanted = {name for name, at in hashes.items() if each.first_hash <= at <= each.last_hash}
        if wanted:
            table = videos.read(each, ["video_id"])
            found = zip(table["video_id"].to_pylist(), table["video_row"].to_pylist(), strict=True)
            for name, row in found:
                if name in wanted:
                    rows.setdefault(name, []).append(row)
    return [Choice(row, "asked for by its id") for name in video_ids for row in rows.get(name, ())]


def refuse_unknown(indexes: Sequence[Videos], video_ids: Sequence[str]) -> None:
    """Raises InputError: an id is in none of the indexes; the message names the most similar id that is."""
    for name in video_ids:
        if any(rows_of_ids(videos, [name]) for videos in indexes):
            continue
        known = [each for videos in indexes for part in videos.looked_at
                 for each in videos.read(part, ["video_id"])["video_id"].to_pylist()]  # fmt: skip
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise InputError(f"--video {name}: no video of the runs' indexes has that id{hint}")


def worst_videos(videos: Videos, runs: Sequence[RunSeen], count: int) -> list[Choice]:
    """`count` labelled videos: half with the most confident misses, the others with the weakest spikes.

    Where no interval is known, no miss is known, and all videos are those with the weakest spikes. Where nothing has
    been scored yet, the videos are taken evenly from the index. Videos that a run leaves out are not shown: there is
    nothing to see in them.
    """
    ranked = [_Ranked() for _ in runs]
    labelled = [np.zeros(0, np.int64)]
    for partition in videos.looked_at if count else ():
        files = [each.manifest.get(partition.uid, PartitionFiles(partition.uid)) for each in runs]
        excluded = {
            row for each, own in zip(runs, files, strict=True) for row in read_left_out(each.run, {own.uid: own})
        }
        planner = Planner.of(videos.read(partition, _RANKED_BY), videos.classes)
        rows = planner.video_rows[planner.labels.lengths > 0]
        labelled.append(rows[~np.isin(rows, [*excluded])])
        for each, own, found in zip(runs, files, ranked, strict=True):
            if own.saliency:
                pairs = [
                    pair for pair in _pairs(planner, each, saliency_of(each, partition)) if pair.row not in excluded
                ]
                misses = sorted((p for p in pairs if p.hit is False), key=lambda p: -p.spike)
                found.misses += _first_of_videos(misses, count)
                found.weak += _first_of_videos(sorted(pairs, key=lambda p: p.spike), count)
    misses = sorted((pair for each in ranked for pair in each.misses), key=lambda p: -p.spike)
    weak = sorted((pair for each in ranked for pair in each.weak), key=lambda p: p.spike)
    return [Choice(row, why + videos.sampled) for row, why in _chosen(misses, weak, np.concatenate(labelled), count)]


def saliency_of(seen: RunSeen, partition: Partition) -> SaliencyTable:
    """The saliency of a partition in the newest snapshot of a run."""
    planner = Planner.of(read_videos(seen.config, [partition], ["labels"]), seen.classes)
    return read_saliency_of(seen.run, seen.manifest, planner, seen.config.saliency)


def _chosen(
    misses: Sequence[_Pair], weak: Sequence[_Pair], labelled: np.ndarray, count: int
) -> Iterator[tuple[int, str]]:
    chosen: dict[int, str] = {}
    for ranked, wanted, what in ((misses, (count + 1) // 2, "surest miss"), (weak, count, "weakest spike")):
        for pair in ranked:
            if len(chosen) >= wanted:
                break
            said = f"{what}: {pair.label}, spike {pair.spike:.2f}"
            where = ", outside every true interval" if pair.hit is False else ""
            chosen.setdefault(pair.row, f"{said}{where} ({pair.run})")
    left = labelled[~np.isin(labelled, [*chosen])].tolist()
    more = min(count - len(chosen), len(left))
    chosen |= {left[(2 * i + 1) * len(left) // (2 * more)]: "taken evenly from the index" for i in range(more)}
    yield from chosen.items()


def _first_of_videos(ranked: Sequence[_Pair], most: int) -> list[_Pair]:
    """The first pair of each of the first `most` videos."""
    first: dict[int, _Pair] = {}
    for pair in ranked:
        if len(first) == most:
            break
        first.setdefault(pair.row, pair)
    return [*first.values()]


def _pairs(planner: Planner, seen: RunSeen, saliency: SaliencyTable) -> list[_Pair]:
    """Every visited (video, action) pair."""
    a, salient = (t.numpy() for t in spikes(saliency.bins, max(0, seen.epochs - 1), seen.config.saliency.staleness))
    duration = planner.table.column("duration_seconds").to_numpy()
    intervals = planner.table.column("intervals").to_pylist()
    rows, labels = saliency.video_row, saliency.label_id
    places = planner.places(rows)
    found = []
    for n in np.flatnonzero(a >= 0):
        row, label = int(rows[n]), planner.classes[int(labels[n])]
        spans = intervals[places[n]]
        hit = None if spans is None else is_shown(spans, label, float(salient[n]) * duration[places[n]])
        found.append(_Pair(row, label, seen.name, float(a[n]), hit))
    return found


def _covered(table: pa.Table) -> Iterator[float]:
    """The share of its video that each action with known intervals covers."""
    columns = (table.column(name).to_pylist() for name in ("duration_seconds", "labels", "intervals"))
    for duration, labels, spans in zip(*columns, strict=True):
        if spans is None:
            continue
        for label in labels:
            own = sorted((s["start_seconds"], s["end_seconds"]) for s in spans if s["label"] == label)
            yield min(1.0, _covered_seconds(own) / duration)


def _covered_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """The time that sorted spans cover; time in two spans counts once."""
    total, reached = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
