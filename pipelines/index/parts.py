"""The parts of an index on disk: two Parquet files for each shard.

``OUT/videos/NAME.parquet`` has the shard's rows of INDEX_SCHEMA, ``OUT/refused/NAME.parquet`` those of REFUSED_SCHEMA.
The facts about both are in the footer of the first, so that a later run can reuse them without reading the shard again.
Ids that an earlier shard has are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.packets import PACKETS_FOLDER
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA
from adaptfocus.pipelines.shards.members import Refusal, printable
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.store.tables import open_parquet, read_here

READ_THREADS = 8
MAX_TEXT = 2000  # characters of a refused row's columns
FACTS = b"adaptfocus"  # the footer's key
DICTIONARY_COLUMNS = (
    *("shard_url", "shard_tag", "codec", "access", "indexed_by", "packets_url", "kind", "labels.list.element"),
)


@dataclass(frozen=True)
class ShardFacts:
    """What a part holds; stored in its footer as JSON."""

    rows: int
    unlabelled: int
    refused: dict[str, int]  # kind -> rows
    labels: list[str]
    seconds: float
    max_labels: int | None = None  # of a video; None in a footer that an earlier version wrote


@dataclass(frozen=True)
class Part:
    """One shard's entry in index.json."""

    shard_url: str
    size_bytes: int
    tag: str
    identity: str  # hash of the shard and of all that decides the content of its rows
    name: str  # name of the files in videos/ and refused/
    facts: ShardFacts


def part_urls(out_url: str, name: str) -> tuple[str, str]:
    """URLs of a part's videos and refused rows."""
    return store.join(out_url, "videos", f"{name}.parquet"), store.join(out_url, "refused", f"{name}.parquet")


def packets_url(out_url: str, identity: str) -> str:
    """URL of the packets of a shard's videos."""
    return store.join(out_url, PACKETS_FOLDER, f"{identity}.bin")


def refused_table(shard_url: str, refusals: Sequence[Refusal]) -> pa.Table:
    """Refusals as rows of REFUSED_SCHEMA."""
    rows = [
        {"shard_url": shard_url, **{k: printable(v)[:MAX_TEXT] for k, v in vars(refusal).items()}}
        for refusal in refusals
    ]
    return pa.Table.from_pylist(rows, schema=REFUSED_SCHEMA)


def write_parts(videos_url: str, refused_url: str, videos: pa.Table, refused: pa.Table, seconds: float) -> ShardFacts:
    """Write both files, the videos last: an existing part is therefore complete."""
    labels = videos["labels"].to_pylist()
    facts = ShardFacts(
        rows=videos.num_rows,
        unlabelled=sum(not names for names in labels),
        refused=dict(sorted(Counter(refused["kind"].to_pylist()).items())),
        labels=sorted({name for names in labels for name in names}),
        seconds=round(seconds, 3),
        max_labels=most_labels(labels),
    )
    store.write_bytes(refused_url, _parquet(refused))
    store.write_bytes(videos_url, _parquet(videos.replace_schema_metadata({FACTS: json.dumps(vars(facts))})))
    return facts


def most_labels(labels: Sequence[Sequence[str]]) -> int:
    """The largest number of labels of a video; 0 if there is none."""
    return max(map(len, labels), default=0)


def read_facts(videos_url: str) -> ShardFacts:
    """The facts in a part's footer, by two small range reads."""
    size_bytes, _ = store.size_and_tag(videos_url)
    with open_parquet(RangeFile(videos_url, 0, size_bytes, block_bytes=64 * 1024)) as part:
        return ShardFacts(**json.loads(part.schema_arrow.metadata[FACTS]))


def read_part(url: str, columns: list[str] | None = None) -> pa.Table:
    """One part, without the footer's facts."""
    if columns is None:
        return read_here(open_parquet(pa.BufferReader(store.read_bytes(url)))).replace_schema_metadata(None)
    size_bytes, _ = store.size_and_tag(url)
    with open_parquet(RangeFile(url, 0, size_bytes)) as part:
        return read_here(part, columns).replace_schema_metadata(None)


def _parquet(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    repeated: Any = [name for name in DICTIONARY_COLUMNS if name.split(".")[0] in table.column_names]
    pq.write_table(table, out, compression="zstd", row_group_size=1024, use_dictionary=repeated)
    return out.getvalue().to_pybytes()


def leave_out_duplicates(parts: Sequence[Part], out_url: str) -> list[Part]:
    """The parts with each id only once: the first in the order of shards and offsets stays.

    A part that loses rows is written again under another name, so that it is never taken for the complete part.
    Memory: 8 bytes a video, and the ids that occur twice.
    """
    with ThreadPoolExecutor(READ_THREADS) as threads:
        hashes = list(threads.map(lambda part: _hashed(read_ids(out_url, part)), parts))
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    suspects = values[counts > 1]  # 64-bit hashes: two ids may share one, so the ids themselves decide
    first: dict[str, str] = {}  # id -> where it was first seen
    kept: list[Part] = []
    for part, hashed in zip(parts, hashes, strict=True):
        rows = np.flatnonzero(np.isin(hashed, suspects))
        ids = read_ids(out_url, part) if len(rows) else []
        repeated: dict[int, str] = {}
        for row in rows.tolist():
            if ids[row] in first:
                repeated[row] = first[ids[row]]
            first.setdefault(ids[row], part.shard_url)
        kept.append(_without(part, repeated, out_url) if repeated else part)
    return kept


def read_ids(out_url: str, part: Part) -> list[str]:
    """The ids of a part's videos, in their order."""
    return read_part(part_urls(out_url, part.name)[0], ["video_id"])["video_id"].to_pylist()


def _hashed(ids: Sequence[str]) -> np.ndarray:
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(digests, dtype=np.uint64)


def _without(part: Part, repeated: dict[int, str], out_url: str) -> Part:
    """Move rows from a part's videos to its refused rows; `repeated` says where each id was first seen."""
    videos_url, refused_url = part_urls(out_url, part.name)
    videos, refused = read_part(videos_url), read_part(refused_url)
    keep = np.ones(videos.num_rows, dtype=bool)
    keep[list(repeated)] = False
    left_out = videos.filter(pa.array(~keep)).select(["member_name", "video_id"]).to_pylist()
    refusals = [
        Refusal(
            "duplicate_id",
            f"{first_url} already has this id; the first stays. If shards repeat each other's keys, index with "
            "--prefix-shard",
            row["member_name"],
            row["video_id"],
        )
        for first_url, row in zip(repeated.values(), left_out, strict=True)
    ]
    refused = pa.concat_tables([refused, refused_table(part.shard_url, refusals)])
    ids = json.dumps([row["video_id"] for row in left_out])
    name = f"{part.name}-{hashlib.sha256(ids.encode()).hexdigest()[:8]}"
    facts = write_parts(*part_urls(out_url, name), videos.filter(pa.array(keep)), refused, part.facts.seconds)
    return replace(part, name=name, facts=facts)
