"""What was read of a tar before its videos are dealt to partitions.

``INDEX/staged/IDENTITY.parquet`` has the rows of INDEX_SCHEMA, ``IDENTITY-refused.parquet`` those of REFUSED_SCHEMA if
there are any. The facts about both are in the footer of the first, which is written last: a staged part that exists is
complete, and indexing that was interrupted resumes with it. Once a snapshot holds the videos, staged parts are removed.

IDENTITY is a hash of the shard's URL, size and tag, and of all settings that decide the content of its rows. A file
with that name is therefore the right part, whoever wrote it and whenever.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.named import parquet_bytes, table_of
from adaptfocus.pipelines.index.packets import PACKETS_FOLDER, apart
from adaptfocus.pipelines.schemas import INDEX_SCHEMA, REFUSED_SCHEMA
from adaptfocus.pipelines.shards.members import Refusal, printable
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.store.tables import open_parquet

STAGED = "staged"
READ_THREADS = 8
MAX_TEXT = 2000  # characters of a refused row's columns
FACTS = b"adaptfocus"  # the footer's key


@dataclass(frozen=True)
class ShardFacts:
    """What a staged part holds; stored in its footer as JSON."""

    rows: int
    refused: dict[str, int]  # kind -> rows
    seconds: float


def staged_url(index_url: str, name: str) -> str:
    return store.join(index_url, STAGED, name)


def staged_files(index_url: str) -> set[str]:
    """The names of all files in the folder."""
    return {posixpath.basename(url) for url in store.list_files(store.join(index_url, STAGED))}


def refused_table(shard_url: str, refusals: Sequence[Refusal]) -> pa.Table:
    """Refusals as rows of REFUSED_SCHEMA."""
    return pa.Table.from_pylist([refused_row(shard_url, refusal) for refusal in refusals], schema=REFUSED_SCHEMA)


def refused_row(shard_url: str, refusal: Refusal) -> dict[str, str]:
    """A refusal as a row of REFUSED_SCHEMA."""
    return {"shard_url": shard_url, **{k: printable(v)[:MAX_TEXT] for k, v in vars(refusal).items()}}


def write_staged(index_url: str, identity: str, rows: pa.Table, refused: pa.Table, seconds: float) -> ShardFacts:
    """Write the packets of a tar's videos, its refused rows, and its rows, in this order.

    Args:
        rows: INDEX_SCHEMA, with `packets` instead of their place.
    """
    light, name, packets = apart(rows, identity)
    facts = ShardFacts(rows.num_rows, dict(sorted(Counter(refused["kind"].to_pylist()).items())), round(seconds, 3))
    if packets:
        store.write_bytes(store.join(index_url, PACKETS_FOLDER, name), packets)
    if refused.num_rows:
        store.write_bytes(staged_url(index_url, f"{identity}-refused.parquet"), parquet_bytes(refused))
    _write_rows(index_url, identity, light, facts)
    return facts


def write_staged_rows(index_url: str, identity: str, rows: pa.Table) -> ShardFacts:
    """Write rows of INDEX_SCHEMA, whose packets are there already, as a staged part."""
    facts = ShardFacts(rows.num_rows, {}, 0.0)
    _write_rows(index_url, identity, rows, facts)
    return facts


def _write_rows(index_url: str, identity: str, rows: pa.Table, facts: ShardFacts) -> None:
    data = parquet_bytes(rows.replace_schema_metadata({FACTS: json.dumps(asdict(facts))}))
    store.write_bytes(staged_url(index_url, f"{identity}.parquet"), data)


def read_facts(url: str) -> ShardFacts:
    """The facts in a footer, by two small range reads. Those of earlier versions have more keys."""
    size_bytes, _ = store.size_and_tag(url)
    try:
        with open_parquet(RangeFile(url, 0, size_bytes, block_bytes=64 * 1024)) as part:
            said = json.loads(part.schema_arrow.metadata[FACTS])
        return ShardFacts(said["rows"], dict(said["refused"]), float(said["seconds"]))
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{url} is damaged ({error}); remove it and run `adaptfocus index` again") from None


def read_staged(index_url: str, identity: str) -> pa.Table:
    """The rows of a staged part."""
    return table_of(store.read_bytes(staged_url(index_url, f"{identity}.parquet")), INDEX_SCHEMA)


def read_staged_refused(index_url: str, identity: str) -> pa.Table:
    """The refused rows of a staged part that has some."""
    return table_of(store.read_bytes(staged_url(index_url, f"{identity}-refused.parquet")), REFUSED_SCHEMA)
