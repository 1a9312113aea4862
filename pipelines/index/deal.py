"""Deal the videos of staged tars to new partitions, by the hashes of their ids, and leave out repeated ids.

    staged parts --write_group--> one object a group of tars, with one blob for each range of partitions
    those objects --write_range--> the partitions of a range; each reads its blob of every object

A partition is a range of hashes, so the videos of a tar are spread over all of them, and each is a random sample. Of
each id the first one stays: in the order of generations, then of shards and offsets. Both steps are functions from
store to store that may run anywhere, in any order, and more than once. They return a few numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.packets import identity_of
from adaptfocus.pipelines.index.partitions import Partition, read_partition, write_partition
from adaptfocus.pipelines.index.shard_lists import STORED_REFUSED_SCHEMA, write_refused
from adaptfocus.pipelines.index.staged import (
    READ_THREADS,
    ShardFacts,
    read_staged,
    read_staged_refused,
    refused_row,
    staged_url,
)
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.schemas import INDEX_SCHEMA
from adaptfocus.pipelines.shards.members import Refusal

Progress = Callable[[int, int, str], None]  # steps done, steps in all, the shard or what was just done
_REPEATED_FIX = "the first stays. If shards repeat each other's keys, index with --prefix-shard"
_OFFSET_BYTES = 8


@dataclass(frozen=True)
class Sizes:
    """How much one partition, task or object holds."""

    partition_rows: int = 8192  # on average; a `video_row` has room for 16,777,216
    range_partitions: int = 8  # that one task writes
    group_rows: int = 65_536  # that one task reads from staged parts
    group_shards: int = 4096
    manifest_partitions: int = 4096
    list_shards: int = 65_536


@dataclass(frozen=True)
class Generation:
    """Videos that become partitions together."""

    index_url: str
    name: str  # of its objects in staged/; a hash of its shards, so that two processes write the same or apart
    partitions: int
    range_partitions: int
    first_uid: int
    groups: int

    @property
    def ranges(self) -> int:
        return -(-self.partitions // self.range_partitions)

    def object_name(self, group: int) -> str:
        return f"{self.name}-{group:06d}.bin"

    def hashes(self, partition: int) -> tuple[int, int]:
        """The first and the last hash of a partition."""
        first, end = (-(-number * 2**64 // self.partitions) for number in (partition, partition + 1))
        return first, end - 1


@dataclass(frozen=True)
class Dealt:
    """A generation as it lies on the store."""

    generation: Generation
    partitions: list[Partition]
    label_counts: Counter[str]  # label -> its number of videos
    refused_lists: list[str]
    repeated: Counter[str]  # identity of a shard -> its videos that were left out because their ids are repeated


@dataclass(frozen=True)
class _Group:
    generation: Generation
    number: int
    identities: tuple[str, ...]  # of consecutive shards
    refused: tuple[str, ...]  # of those that have refused rows


@dataclass(frozen=True)
class _Range:
    generation: Generation
    number: int
    earlier: tuple[Partition, ...]  # of earlier generations, with hashes of this range


@dataclass(frozen=True)
class _RangeFacts:
    partitions: list[Partition] = field(default_factory=list)
    label_counts: Counter[str] = field(default_factory=Counter)
    refused: str | None = None
    repeated: Counter[str] = field(default_factory=Counter)


def deal(
    index_url: str,
    staged: Sequence[tuple[str, ShardFacts]],
    earlier: Sequence[Partition],
    first_uid: int,
    over: Over,
    sizes: Sizes,
    progress: Progress | None = None,
) -> Dealt:
    """Write the partitions of a new generation.

    Args:
        staged: identity and facts of each shard, in their order.
        earlier: the partitions of earlier generations.
        first_uid: of the first new partition.

    Raises:
        InputError, StorageError: a staged part, or an earlier partition, is damaged or cannot be read.
    """
    rows = sum(facts.rows for _, facts in staged)
    members = list(_grouped(staged, sizes))
    name = hashlib.sha256(json.dumps([first_uid, [identity for identity, _ in staged]]).encode()).hexdigest()[:16]
    partitions = -(-rows // sizes.partition_rows)
    generation = Generation(index_url, name, partitions, sizes.range_partitions, first_uid, len(members))
    groups = [
        _Group(generation, number, tuple(i for i, _ in part), tuple(i for i, facts in part if facts.refused))
        for number, part in enumerate(members)
    ]
    ranges = [
        _Range(generation, number, _overlapping(generation, number, earlier)) for number in range(generation.ranges)
    ]
    steps = len(groups) + len(ranges)
    told = progress if steps > 2 else None  # the steps of a small set take no time
    refused = [each for each in _followed(over(groups, write_group), told, 0, steps) if each]
    found = list(_followed(over(ranges, write_range), told, len(groups), steps))
    return Dealt(
        generation,
        [partition for each in found for partition in each.partitions],
        sum((each.label_counts for each in found), Counter()),
        [*refused, *(each.refused for each in found if each.refused)],
        sum((each.repeated for each in found), Counter()),
    )


def write_group(group: _Group) -> str | None:
    """Write the rows of some staged parts as one object, and their refused rows as another -> the latter's name.

    The first object begins with the offsets of its blobs, one for each range and one for its end, as 8 bytes each.
    """
    generation = group.generation
    with ThreadPoolExecutor(READ_THREADS) as threads:
        parts = list(threads.map(lambda each: read_staged(generation.index_url, each), group.identities))
        refused = list(threads.map(lambda each: _refused_of(generation.index_url, each), group.refused))
    rows = pa.concat_tables([INDEX_SCHEMA.empty_table(), *parts]).combine_chunks()
    ranges = partitions_of(rows.column("video_id").to_pylist(), generation.partitions) // generation.range_partitions
    order = np.argsort(ranges, kind="stable")
    ends = np.searchsorted(ranges[order], np.arange(generation.ranges), side="right")
    blobs = [_blob(rows.take(pa.array(order[begin:end]))) for begin, end in zip([0, *ends], ends, strict=False)]
    table_bytes = _OFFSET_BYTES * (len(blobs) + 1)
    offsets = np.array([*accumulate(map(len, blobs), initial=table_bytes)], "<u8")
    url = staged_url(generation.index_url, generation.object_name(group.number))
    store.write_bytes(url, offsets.tobytes() + b"".join(blobs))
    return write_refused(generation.index_url, pa.concat_tables(refused), generation.first_uid) if refused else None


def write_range(task: _Range) -> _RangeFacts:
    """Write the partitions of one range, and the refused rows of ids that are repeated."""
    generation = task.generation
    rows = _rows_of_range(generation, task.number)
    repeated = _repeated(rows, generation.index_url, task.earlier)
    refused = _left_out(rows, repeated)
    if repeated:  # a filter is a copy of all rows
        rows = rows.take(pa.array(np.delete(np.arange(rows.num_rows), [*repeated])))
    places = partitions_of(rows.column("video_id").to_pylist(), generation.partitions)
    facts = _RangeFacts(
        refused=write_refused(generation.index_url, refused, generation.first_uid) if repeated else None,
        repeated=Counter(refused.column("shard_identity").to_pylist()),
    )
    for number in np.unique(places).tolist():
        part, uid = rows.filter(pa.array(places == number)), generation.first_uid + number
        partition, counts = write_partition(generation.index_url, uid, part, generation.hashes(number))
        facts.partitions.append(partition)
        facts.label_counts.update(counts)
    return facts


def partitions_of(ids: Sequence[str], partitions: int) -> np.ndarray:
    """The partition that each id belongs to, int64: its hash, as a fraction of 2^64, times the number of partitions."""
    digests = b"".join(hashlib.blake2b(each.encode(), digest_size=8).digest() for each in ids)
    hashed, count, half = np.frombuffer(digests, ">u8").astype(np.uint64), np.uint64(partitions), np.uint64(32)
    high, low = hashed >> half, hashed & np.uint64(2**32 - 1)
    return ((high * count + (low * count >> half)) >> half).astype(np.int64)


def hash_of_id(video_id: str) -> int:
    """Where an id belongs: to the partition of its generation with first_hash <= hash <= last_hash."""
    return int.from_bytes(hashlib.blake2b(video_id.encode(), digest_size=8).digest(), "big")


def _grouped(staged: Sequence[tuple[str, ShardFacts]], sizes: Sizes) -> Iterator[list[tuple[str, ShardFacts]]]:
    """Consecutive shards, as many as one task takes."""
    part: list[tuple[str, ShardFacts]] = []
    rows = 0
    for each in staged:
        if part and (rows + each[1].rows > sizes.group_rows or len(part) == sizes.group_shards):
            yield part
            part, rows = [], 0
        part.append(each)
        rows += each[1].rows
    if part:
        yield part


def _overlapping(generation: Generation, number: int, earlier: Iterable[Partition]) -> tuple[Partition, ...]:
    begin = number * generation.range_partitions
    first, _ = generation.hashes(begin)
    _, last = generation.hashes(min(begin + generation.range_partitions, generation.partitions) - 1)
    return tuple(each for each in earlier if each.first_hash <= last and each.last_hash >= first)


def _followed(results: Iterable, progress: Progress | None, done: int, steps: int) -> Iterator:
    for number, each in enumerate(results, done + 1):
        if progress:
            progress(number, steps, "partitions")
        yield each


def _blob(rows: pa.Table) -> bytes:
    """Rows as Arrow's stream, which for some dozens of rows is smaller than Parquet; nothing if there are none."""
    if not rows.num_rows:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def _refused_of(index_url: str, identity: str) -> pa.Table:
    table = read_staged_refused(index_url, identity)
    return table.append_column(STORED_REFUSED_SCHEMA.field("shard_identity"), pa.array([identity] * table.num_rows))


def _rows_of_range(generation: Generation, number: int) -> pa.Table:
    """The rows of a range in the order of shards and offsets, by two small reads of each object."""
    urls = [staged_url(generation.index_url, generation.object_name(group)) for group in range(generation.groups)]
    at, two = [number * _OFFSET_BYTES] * len(urls), [2 * _OFFSET_BYTES] * len(urls)
    places = [np.frombuffer(data, "<u8").tolist() for data in store.read_ranges(urls, at, two)]
    blobs = store.read_ranges(urls, [begin for begin, _ in places], [end - begin for begin, end in places])
    tables = [INDEX_SCHEMA.empty_table()]
    for url, blob in zip(urls, blobs, strict=True):
        try:
            tables += [pa.ipc.open_stream(blob).read_all().cast(INDEX_SCHEMA)] if blob else []
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{url} is damaged ({error}); remove it and run `adaptfocus index` again") from None
    return pa.concat_tables(tables).combine_chunks()


def _repeated(rows: pa.Table, index_url: str, earlier: Sequence[Partition]) -> dict[int, str]:
    """Row -> the shard that has the same id before it. Memory: the ids of these rows, and of a few partitions."""
    ids, shards = (rows.column(name).to_pylist() for name in ("video_id", "shard_url"))
    wanted, taken, repeated = set(ids), {}, {}

    def known(partition: Partition) -> dict[str, str]:
        table = read_partition(index_url, partition, ["video_id", "shard_url"])
        return {each: url for _, each, url in _rows(table) if each in wanted}

    with ThreadPoolExecutor(READ_THREADS) as threads:
        for found in threads.map(known, earlier):
            taken |= found
    for row, (each, url) in enumerate(zip(ids, shards, strict=True)):
        if each in taken:
            repeated[row] = taken[each]
        else:
            taken[each] = url
    return repeated


def _left_out(rows: pa.Table, repeated: dict[int, str]) -> pa.Table:
    """The refused rows of repeated ids."""
    left = rows.select(["shard_url", "member_name", "video_id", "packets_url"]).take(pa.array([*repeated], pa.int64()))
    refused = [
        refused_row(url, Refusal("duplicate_id", f"{first} already has this id; {_REPEATED_FIX}", member, video_id))
        | {"shard_identity": identity_of(packets)}
        for (url, member, video_id, packets), first in zip(_rows(left), repeated.values(), strict=True)
    ]
    return pa.Table.from_pylist(refused, schema=STORED_REFUSED_SCHEMA)


def _rows(table: pa.Table) -> Iterator[tuple]:
    return zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True)
