"""The next snapshot of an index: shards that have gone or changed leave it, new ones come in a new generation.

Nothing that an earlier snapshot names is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from adaptfocus.pipelines.index.deal import Dealt, Progress, Sizes, deal
from adaptfocus.pipelines.index.partitions import Partition, read_manifest, without_shards, write_manifests
from adaptfocus.pipelines.index.shard_lists import IndexedShard, read_shards, refused_counts, write_shards
from adaptfocus.pipelines.index.snapshots import Snapshot, fingerprint_of
from adaptfocus.pipelines.index.staged import ShardFacts
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.shards.members import Refusal


@dataclass(frozen=True)
class Shard:
    """A tar that is to be indexed."""

    url: str
    size_bytes: int
    tag: str
    identity: str
    id_prefix: str
    refusal: Refusal | None = None  # of a plain video file that cannot be opened


@dataclass(frozen=True)
class Known:
    """The newest snapshot, and which of its shards stay."""

    snapshot: Snapshot | None
    lists: dict[str, list[IndexedShard]]  # name of a list of shards -> those in it
    gone: frozenset[str]  # identities of shards that leave

    @property
    def kept(self) -> set[str]:
        """The identities of those that stay."""
        return {each.identity for shards in self.lists.values() for each in shards} - self.gone


def with_longer_list(
    index_url: str, snapshot: Snapshot | None, shards: Sequence[Shard], identify: Callable[[Shard, int], str]
) -> list[Shard]:
    """The same shards, with the identities that the snapshot knows them by, if it has a shorter list of classes.

    A class that is appended to a list changes no row of a shard whose labels were all in the list before.

    Args:
        identify: a shard's identity with the first classes of the list that it is to be indexed with now.
    """
    if snapshot is None:
        return [*shards]
    known = [each for name in snapshot.shard_lists for each in read_shards(index_url, name)]
    same = {(each.url, each.size_bytes, each.tag): each for each in known if "label_not_in_classes" not in each.refused}
    lengths = [*range(len(snapshot.classes), 0, -1)]  # of lists; that of the shard before is tried first
    found = []
    for shard in shards:
        old = same.get((shard.url, shard.size_bytes, shard.tag))
        if old and old.identity != shard.identity:
            length = next((n for n in lengths if identify(shard, n) == old.identity), None)
            if length is not None:
                shard = replace(shard, identity=old.identity)
                lengths.remove(length)
                lengths.insert(0, length)
        found.append(shard)
    return found


def compare(index_url: str, snapshot: Snapshot | None, shards: Sequence[Shard]) -> Known:
    """What stays of an index if it is to hold these shards.

    If a shard has gone or changed, shards that have lost repeated ids leave too, to be read again: the ids may be free.
    """
    lists = {name: read_shards(index_url, name) for name in snapshot.shard_lists} if snapshot else {}
    wanted = {each.identity for each in shards}
    known = [each for part in lists.values() for each in part]
    gone = {each.identity for each in known if each.identity not in wanted}
    if gone:
        gone |= {each.identity for each in known if each.lost_ids}
    return Known(snapshot, lists, frozenset(gone))


def next_snapshot(
    index_url: str,
    known: Known,
    fresh: Sequence[tuple[Shard, ShardFacts]],
    classes: Sequence[str] | None,
    over: Over,
    sizes: Sizes,
    progress: Progress | None,
) -> Snapshot:
    """Write everything that the next snapshot names, and return it. It does not count until it is written.

    Args:
        fresh: new and changed shards, which are staged.
        classes: None: all labels that are found.
    """
    before = known.snapshot
    manifests, counts = _survivors(index_url, known, over, sizes) if before else ([], Counter())
    earlier = [each for name in manifests for each in read_manifest(index_url, name)]
    uid = before.next_uid if before else 0
    dealt = deal(index_url, [(each.identity, facts) for each, facts in fresh], earlier, uid, over, sizes, progress)
    manifests += write_manifests(index_url, dealt.partitions, sizes.manifest_partitions)
    shards = {name: [e for e in part if e.identity not in known.gone] for name, part in known.lists.items()}
    new = [_indexed(each, facts, dealt) for each, facts in fresh]
    shard_lists = [
        written
        for name, part in shards.items()
        for written in ([name] if part == known.lists[name] else write_shards(index_url, part, sizes.list_shards))
    ] + write_shards(index_url, new, sizes.list_shards)
    partitions = [*earlier, *dealt.partitions]
    counts = counts + dealt.label_counts
    # What stays keeps the numbers of its classes, so a run can follow: new ones come behind.
    names = list(classes) if classes else _appended(before.classes if before and known.kept else (), counts)
    return Snapshot(
        number=before.number + 1 if before else 0,
        parent=before.number if before else None,
        fingerprint=fingerprint_of(before, names, manifests),
        videos=sum(each.rows for each in partitions),
        unlabelled=sum(each.unlabelled for each in partitions),
        max_labels=max((each.max_labels for each in partitions), default=0),
        classes=names,
        label_counts={name: counts[name] for name in names},
        refused=refused_counts([*(each for part in shards.values() for each in part), *new]),
        # It also tells the refused rows of generations apart, so one without videos takes a number too.
        next_uid=uid + (max(1, dealt.generation.partitions) if fresh else 0),
        manifests=manifests,
        shard_lists=shard_lists,
        refused_lists=[*(before.refused_lists if before else ()), *dealt.refused_lists],
    )


def _appended(classes: Sequence[str], counts: Counter[str]) -> list[str]:
    """The classes that any video has: earlier ones in their order, then the new ones sorted."""
    return [name for name in classes if name in counts] + sorted(counts.keys() - set(classes))


def _indexed(shard: Shard, facts: ShardFacts, dealt: Dealt) -> IndexedShard:
    lost, refused, first = dealt.repeated[shard.identity], Counter(facts.refused), dealt.generation.first_uid
    refused["duplicate_id"] += lost
    return IndexedShard(
        shard.url, shard.size_bytes, shard.tag, shard.identity, facts.rows - lost,
        {kind: n for kind, n in sorted(refused.items()) if n}, first, first + dealt.generation.partitions,
        facts.seconds,
    )  # fmt: skip


def _survivors(index_url: str, known: Known, over: Over, sizes: Sizes) -> tuple[list[str], Counter[str]]:
    """(manifests, label -> number of videos) of the newest snapshot without the shards that leave."""
    before = known.snapshot
    assert before is not None
    if not known.gone:
        return list(before.manifests), Counter(before.label_counts)
    leaving = [each for part in known.lists.values() for each in part if each.identity in known.gone and each.rows]
    spans = {(each.first_uid, each.stop_uid) for each in leaving}
    partitions = {name: read_manifest(index_url, name) for name in before.manifests}
    hit = [p for part in partitions.values() for p in part if any(first <= p.uid < stop for first, stop in spans)]
    tasks = [hit[n : n + sizes.range_partitions] for n in range(0, len(hit), sizes.range_partitions)]
    after: dict[int, Partition | None] = {}
    counts = Counter(before.label_counts)
    for task, (left, lost) in zip(tasks, over(tasks, partial(_without, index_url, known.gone)), strict=True):
        after |= {old.uid: new for old, new in zip(task, left, strict=True)}
        counts.subtract(lost)
    manifests = []
    for name, part in partitions.items():
        left = [new for each in part if (new := after.get(each.uid, each))]
        same = left == [*part]
        manifests += [name] if same else write_manifests(index_url, left, sizes.manifest_partitions)
    return manifests, +counts


def _without(
    index_url: str, gone: frozenset[str], partitions: Sequence[Partition]
) -> tuple[list[Partition | None], Counter[str]]:
    """`without_shards` for some partitions."""
    found = [without_shards(index_url, each, gone) for each in partitions]
    return [partition for partition, _ in found], sum((lost for _, lost in found), Counter())
