"""What becomes of one broken input: usable, or refused with a kind that is known.

Input: an Input. Does: the same as indexing and training: walks the tar, indexes its videos, decodes a clip of each.
Output: "ok" or the kinds it was refused with; "unclassified: ..." for whatever else happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import fsspec
import numpy as np

from benchmarks.fuzz_inputs import Base, Input, broken, whole_tar
from pipelines.clip_stream import bare_bag
from pipelines.errors import BadVideoError
from pipelines.frames import DecodeConfig
from pipelines.index_rows import ShardTask, read_shard
from pipelines.isolated import Isolation, decode_clips_apart
from pipelines.messages import shared_array
from pipelines.packet_codec import decode_packets, encode_packets
from pipelines.packets import find_clips, shown_pts
from pipelines.storage import read_ranges

# Every kind that docs/operations.md explains.
KNOWN = frozenset([
    "compressed_tar", "not_a_tar", "broken_tar", "empty_shard", "truncated_member", "sparse_member", "unsafe_name",
    "no_key", "several_videos", "duplicate_member", "no_video_in_sample", "bad_sample_json", "label_not_in_classes",
    "duplicate_id", "name_not_utf8", "unreadable_video", "no_video_stream", "no_packets", "encrypted", "absurd_size",
    "too_many_packets", "unreliable_timestamps", "interval_clamped", "interval_dropped", "index_deadline",
    "decode_deadline", "decoder_died", "decoder_out_of_memory", "decode_error", "missing_frame", "unknown_codec",
])  # fmt: skip
CONTAINED = frozenset(["index_deadline", "decode_deadline", "decoder_died", "decoder_out_of_memory"])
ISOLATION = Isolation(deadline_seconds=10, memory_bytes=512 << 20)
FRAMES, SIZE_PIXELS = 3, 32


def outcome(one: Input, isolation: Isolation = ISOLATION) -> str:
    """Never raises: an error that is none of a video's own is the finding."""
    try:
        kinds = _packets(one, isolation) if one.kind == "packets" else _shard(one, isolation)
    except Exception as error:
        return f"unclassified: {type(error).__name__}: {error}"
    strange = [kind for kind in kinds if kind not in KNOWN]
    return f"unclassified: {strange[0]}" if strange else " ".join(sorted(set(kinds))) or "ok"


def _shard(one: Input, isolation: Isolation) -> list[str]:
    """Indexed, and a clip of each of its videos decoded."""
    if one.kind == "demux":  # a file that has changed since it was indexed
        (row,) = _rows(_stored(whole_tar({one.base.name: one.base.data})), isolation)[0] or [None]
        if row is None:
            return []
        url = _stored(whole_tar({one.base.name: one.data}))
        return _decoded(row | {"shard_url": url, "member_size_bytes": len(one.data)}, one, isolation, "demux")
    rows, kinds = _rows(_stored(one.data if one.kind == "tar" else whole_tar({one.base.name: one.data})), isolation)
    return kinds + [kind for row in rows for kind in _decoded(row, one, isolation)]


def _stored(data: bytes) -> str:
    """The one tar that is there."""
    fsspec.filesystem("memory").pipe_file("/fuzz.tar", data)
    return "memory://fuzz.tar"


def _rows(url: str, isolation: Isolation) -> tuple[list[dict[str, Any]], list[str]]:
    size_bytes = fsspec.filesystem("memory").size("/fuzz.tar")
    rows, refusals = read_shard(ShardTask(url, size_bytes, "", "", ("w", "x"), None, isolation))
    return rows.to_pylist(), [refusal.kind for refusal in refusals]


def _bag(row: dict[str, Any], number: int) -> dict[str, Any]:
    packets = decode_packets(row["packets"])
    start_seconds = (number * 0.37) % max(row["duration_seconds"], 0.1)
    times = [start_seconds + 0.2 * np.arange(FRAMES)]
    pts, spans = find_clips(row, packets, shown_pts(row, packets), times)
    return bare_bag(row, pts, spans)


def _decoded(row: dict[str, Any], one: Input, isolation: Isolation, backend: Any = "packets") -> list[str]:
    bag = _bag(row, one.number)
    spans = bag["spans"] if backend == "packets" else []
    sizes = [span["size_bytes"] for span in spans]
    data = read_ranges([row["shard_url"]] * len(spans), [span["offset_bytes"] for span in spans], sizes)
    return _tried(bag | {"spans": spans}, data, isolation, backend)


def _tried(bag: dict[str, Any], data: Sequence[bytes], isolation: Isolation, backend: Any = "packets") -> list[str]:
    out = shared_array((1, FRAMES, 3, SIZE_PIXELS, SIZE_PIXELS))
    try:
        decode_clips_apart(bag, data, SIZE_PIXELS, DecodeConfig(backend=backend), out, isolation)
    except BadVideoError as error:
        return [error.kind]
    return []


@lru_cache(maxsize=256)
def _whole(base: Base) -> tuple[dict[str, Any], bytes] | None:
    """The row of a file that is whole, and the tar; None if it cannot be indexed."""
    tar = whole_tar({base.name: base.data})
    rows, _ = _rows(_stored(tar), ISOLATION)
    return (rows[0], tar) if rows else None


def _packets(one: Input, isolation: Isolation) -> list[str]:
    """The media of an indexed file has changed, or the row of the index itself has."""
    whole = _whole(one.base)
    if whole is None or whole[0]["access"] != "packets":
        return []
    row, tar = whole
    random = np.random.default_rng([one.number])
    if random.random() < 0.15:
        row = row | {"extradata": broken(row["extradata"] + bytes(16), [(0, 64)], random)}
    if random.random() < 0.15:
        row = row | {"packets": _moved(row["packets"], random)}
    bag = _bag(row, one.number)
    data = []
    for span in bag["spans"]:
        part = tar[span["offset_bytes"] : span["offset_bytes"] + span["size_bytes"]]
        starts = [(at, at + 24) for at in span["packet_offset_bytes"]]
        damaged = broken(part.ljust(16, b"\0"), starts, random)
        data.append(damaged[: span["size_bytes"]].ljust(span["size_bytes"], b"\0"))
    return _tried(bag, data, isolation)


def _moved(packets: bytes, random: np.random.Generator) -> bytes:
    """The same number of packets, some of them in other places."""
    arrays = decode_packets(packets)
    by = random.integers(-40, 40, len(arrays.offset_bytes)) * (random.random(len(arrays.offset_bytes)) < 0.2)
    return encode_packets(replace(arrays, offset_bytes=np.maximum(arrays.offset_bytes + by, 0)))
