"""Corpora of any size: real packet tables under many ids, indexed by the product's own functions.

Some real encoded files are indexed as a user's are. Their rows are then staged again and again as those of tars that
nobody has written, with ids and labels of their own, and dealt to partitions. Many videos share the packets of one
file, so a million videos take 0.3 GB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index import load_index
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.grow import Known, Shard, compare, next_snapshot
from adaptfocus.pipelines.index.named import parquet_bytes
from adaptfocus.pipelines.index.packets import PACKETS_FOLDER
from adaptfocus.pipelines.index.shard_lists import read_shards
from adaptfocus.pipelines.index.snapshots import Snapshot, newest_snapshot, write_snapshot
from adaptfocus.pipelines.index.staged import FACTS, ShardFacts, staged_files, staged_url
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.schemas import INDEX_SCHEMA
from benchmarks.reading.corpus import LABEL, write_shards
from benchmarks.reading.videos import video

# Kind of file and seconds (benchmarks/reading/videos.py) of the templates.
SHORT = (("b", 30), ("d", 60), ("e", 100), ("f", 130))
TEN_MINUTES = (("a", 600), ("b", 600))
CLASSES = tuple(f"class_{number:03d}" for number in range(157))
MEAN_LABELS = 3.5  # of a video, as in Charades
VIDEOS_PER_SHARD = 1000


@dataclass(frozen=True)
class Templates:
    """Rows of real files, and their packets."""

    rows: pa.Table  # INDEX_SCHEMA
    packets_name: str
    packets: bytes
    is_read: bool = False  # clips of the corpus are to be read: its rows name the tars of these files


def templates(folder: Path, files: Sequence[tuple[str, int]]) -> Templates:
    """Encode, pack and index some files. The videos stay in `folder`."""
    paths = {f"{letter}{seconds}": video(letter, folder, seconds) for letter, seconds in files}
    work = folder / ("tables-" + hashlib.sha256(repr(files).encode()).hexdigest()[:8])
    if not (work / "index" / "snapshots").exists():
        write_shards(paths, str(work / "shards"), 1 << 34)
        build_index([str(work / "shards")], str(work / "index"), classes=[LABEL], workers=1)
    rows = load_index(str(work / "index")).table.drop_columns(["video_row"])
    (object_url,) = set(rows.column("packets_url").to_pylist())
    return Templates(rows, object_url.rsplit("/", 1)[-1], store.read_bytes(object_url))


def write_corpus(
    index_url: str,
    videos: int,
    made_of: Templates,
    over: Over,
    sizes: Sizes = Sizes(),
    each: int = VIDEOS_PER_SHARD,
) -> Snapshot:
    """Index `videos` videos in tars of `each`.

    Args:
        over: what deals them to partitions.
    """
    store.write_bytes(store.join(index_url, PACKETS_FOLDER, made_of.packets_name), made_of.packets)
    staged = [
        stage(index_url, number, min(each, videos - first), made_of)
        for number, first in enumerate(range(0, videos, each))
    ]
    known = compare(index_url, None, [shard for shard, _ in staged])
    snapshot = next_snapshot(index_url, known, staged, CLASSES, over, sizes, None)
    write_snapshot(index_url, snapshot)
    for name in staged_files(index_url):
        store.delete(staged_url(index_url, name))
    return snapshot


def add(index_url: str, staged: Sequence[tuple[Shard, ShardFacts]], over: Over, sizes: Sizes = Sizes()) -> Snapshot:
    """Add tars to an index whose rows are staged."""
    before = newest_snapshot(index_url)
    assert before is not None
    known = Known(before, {name: read_shards(index_url, name) for name in before.shard_lists}, frozenset())
    snapshot = next_snapshot(index_url, known, staged, CLASSES, over, sizes, None)
    write_snapshot(index_url, snapshot)
    return snapshot


def stage(index_url: str, number: int, videos: int, made_of: Templates) -> tuple[Shard, ShardFacts]:
    """Write the rows of one tar as indexing it would have left them."""
    url, random = f"s3://corpus/train-{number:06d}.tar", np.random.default_rng(number)
    identity = hashlib.sha256(url.encode()).hexdigest()[:16]
    rows = made_of.rows.take(pa.array(random.integers(0, made_of.rows.num_rows, videos)))
    own = {
        "video_id": [f"{number:06d}/{place:05d}-{identity[:8]}" for place in range(videos)],
        "shard_url": [url] * videos,
        "member_name": [f"{place:05d}.mp4" for place in range(videos)],
        "member_offset_bytes": np.cumsum(rows["member_size_bytes"].to_numpy() + 1024),
        "shard_size_bytes": [1 << 30] * videos,
        "shard_tag": [identity] * videos,
        "labels": _labels(random, videos),
        "intervals": pa.nulls(videos, INDEX_SCHEMA.field("intervals").type),
        "packets_url": [made_of.packets_name] * videos,
    }
    if made_of.is_read:
        for name in ("shard_url", "member_name", "member_offset_bytes", "shard_size_bytes", "shard_tag"):
            del own[name]
    for name, values in own.items():
        field = INDEX_SCHEMA.field(name)
        column = values if isinstance(values, pa.Array) else pa.array(values, field.type)
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    facts = ShardFacts(videos, {}, 0.0)
    data = parquet_bytes(rows.replace_schema_metadata({FACTS: json.dumps(asdict(facts))}))
    store.write_bytes(staged_url(index_url, f"{identity}.parquet"), data)
    return Shard(url, 1 << 30, identity, identity, ""), facts


def _labels(random: np.random.Generator, videos: int) -> pa.Array:
    """MEAN_LABELS labels a video, by a long tail: the k-th class is seen in proportion to 1 / (k + 10)."""
    chance = 1 / (np.arange(len(CLASSES)) + 10)
    counts = 1 + random.poisson(1.04 * (MEAN_LABELS - 1), videos)  # some are drawn twice
    drawn = random.choice(len(CLASSES), counts.sum(), p=chance / chance.sum())
    row, label = np.divmod(np.unique(np.repeat(np.arange(videos), counts) * len(CLASSES) + drawn), len(CLASSES))
    ends = np.cumsum(np.bincount(row, minlength=videos))
    names = pa.DictionaryArray.from_arrays(pa.array(label, pa.int32()), list(CLASSES)).dictionary_decode()
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), names)
