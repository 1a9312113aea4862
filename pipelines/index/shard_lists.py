"""What an index knows of its shards: ``INDEX/shards/HASH.parquet``, one row a tar, and ``INDEX/refused/HASH.parquet``.

Objects with refused rows exist only where something was refused. Rows of shards that are indexed no more stay in them,
and are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from adaptfocus.pipelines.index.named import read_named, write_named
from adaptfocus.pipelines.index.snapshots import Snapshot
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA

SHARDS, REFUSED = "shards", "refused"
STORED_REFUSED_SCHEMA = pa.schema([*REFUSED_SCHEMA, pa.field("shard_identity", pa.string())])
_SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("size_bytes", pa.int64()),
        ("tag", pa.string()),
        ("identity", pa.string()),
        ("rows", pa.int64()),
        ("refused", pa.list_(pa.struct([("kind", pa.string()), ("count", pa.int64())]))),
        ("first_uid", pa.int64()),
        ("stop_uid", pa.int64()),
        ("seconds", pa.float64()),
    ]
)


@dataclass(frozen=True)
class IndexedShard:
    """One tar of an index."""

    url: str
    size_bytes: int
    tag: str
    identity: str  # a hash of its URL, size and tag, and of the settings that decide the content of its rows
    rows: int  # videos indexed
    refused: dict[str, int]  # kind -> rows
    first_uid: int  # its videos are in partitions [first_uid, stop_uid)
    stop_uid: int
    seconds: float  # that reading it took

    @property
    def lost_ids(self) -> bool:
        """Whether it has ids that an earlier shard has too."""
        return "duplicate_id" in self.refused


def write_shards(index_url: str, shards: Sequence[IndexedShard], most: int) -> list[str]:
    """Write lists of at most `most` shards each -> their names."""
    return [
        write_named(index_url, SHARDS, pa.Table.from_pylist([_row(each) for each in part], schema=_SCHEMA))[0]
        for part in (shards[first : first + most] for first in range(0, len(shards), most))
    ]


def read_shards(index_url: str, name: str) -> list[IndexedShard]:
    """One list of shards. Raises InputError, StorageError."""
    rows = read_named(index_url, SHARDS, name, _SCHEMA).to_pylist()
    return [IndexedShard(**row | {"refused": {k["kind"]: k["count"] for k in row["refused"]}}) for row in rows]


def write_refused(index_url: str, refused: pa.Table, first_uid: int) -> str:
    """Write rows of STORED_REFUSED_SCHEMA of a generation -> the name of their object, which begins with its uid."""
    return write_named(index_url, REFUSED, refused, f"{first_uid:06d}-")[0]


def refused_rows(index_url: str, snapshot: Snapshot, kinds: Collection[str] = ()) -> Iterator[dict[str, str]]:
    """Rows of REFUSED_SCHEMA about the shards of a snapshot; of the given kinds, or all."""
    if not snapshot.refused_lists:
        return
    shards = (each for name in snapshot.shard_lists for each in read_shards(index_url, name))
    generations = {each.identity: each.first_uid for each in shards}
    for name in snapshot.refused_lists:
        first_uid = int(name.split("-")[0])
        for row in read_named(index_url, REFUSED, name, STORED_REFUSED_SCHEMA).to_pylist():
            if generations.get(row.pop("shard_identity")) == first_uid and (not kinds or row["kind"] in kinds):
                yield row


def refused_counts(shards: Iterable[IndexedShard]) -> dict[str, int]:
    """Kind -> rows of all shards."""
    return dict(sorted(sum((Counter(each.refused) for each in shards), Counter[str]()).items()))


def _row(shard: IndexedShard) -> dict:
    return asdict(shard) | {"refused": [{"kind": kind, "count": n} for kind, n in sorted(shard.refused.items())]}
