"""Runs one broken input as indexing and training would: it must be usable, or refused with a known kind of error.

The tar is read and its videos are indexed. Clips of them are decoded in a drawn order, in a decoder that has decoded
others before, and the frames are compared with a sequential decode (oracle.py). The outcome is "ok" or the kinds of
refusal; "unclassified: ..." for any other error; "silent: ..." where frames are wrong and there was no error; "lost:
..." where a video of a tar is neither a row nor refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from adaptfocus.pipelines.apart.memory import shared_array
from adaptfocus.pipelines.apart.pool import decode_clips_apart
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.index.rows import ShardTask, read_shard
from adaptfocus.pipelines.index.staged import refused_table
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.store.objects import read_ranges
from adaptfocus.pipelines.video.packets import decode_packets, encode_packets
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from benchmarks.fuzzing.annotations import read_all
from benchmarks.fuzzing.base import SUFFIXES, Base
from benchmarks.fuzzing.inputs import Input, broken, whole_tar
from benchmarks.fuzzing.oracle import SIZE_PIXELS, Given, compared
from benchmarks.fuzzing.tars import videos_in

# Every kind that docs/operations.md explains.
KNOWN = frozenset(
    re.findall(r"[a-z]+(?:_[a-z0-9]+)+|encrypted", (Path(__file__).parents[2] / "docs/operations.md").read_text())
)
CONTAINED = frozenset(["index_deadline", "decode_deadline", "decoder_died", "decoder_out_of_memory"])
ISOLATION = Isolation(deadline_seconds=10, memory_bytes=512 << 20)
FRAMES = 3
BAGS_A_VIDEO = 2
LOOKED_AT_SECONDS = 12.0  # of a video are compared, because a sequential decode has to reach them
NEIGHBOUR_BYTES = 100_000
# Frames are shown as they are stored. Rotation and stretching are tested elsewhere.
NEUTRAL = {"rotation_degrees": 0, "is_mirrored": False, "pixel_aspect_numerator": 1, "pixel_aspect_denominator": 1}


@dataclass
class Outcome:
    """The outcome of an input. `frames`: how many have each result of the comparison."""

    text: str
    frames: Counter[str] = field(default_factory=Counter)


def outcome(one: Input, isolation: Isolation = ISOLATION) -> Outcome:
    """Run an input. This never raises: an error that is not that of a video is a finding."""
    frames: Counter[str] = Counter()
    try:
        if one.kind == "annotations":
            return Outcome(read_all(one.what, dict(one.files)))
        kinds = _packets(one, isolation) if one.kind == "packets" else _shard(one, isolation, frames)
    except Exception as error:
        return Outcome(f"unclassified: {type(error).__name__}: {error}", frames)
    for found in kinds:
        if found.startswith(("silent", "lost")):
            return Outcome(found, frames)
    strange = [kind for kind in kinds if kind not in KNOWN]
    text = f"unclassified: {strange[0]}" if strange else " ".join(sorted(set(kinds))) or "ok"
    return Outcome(text, frames)


def _shard(one: Input, isolation: Isolation, frames: Counter[str]) -> list[str]:
    """Index a shard, and decode clips of its videos."""
    if one.kind == "demux":  # a file that has changed since it was indexed
        (row,) = _rows(_stored(whole_tar({one.base.name: one.base.data})), isolation)[0] or [None]
        if row is None:
            return []
        url = _stored(whole_tar({one.base.name: one.data}))
        return _decoded(row | {"shard_url": url, "member_size_bytes": len(one.data)}, one, isolation, "demux")
    tar = one.data if one.kind in ("tar", "tars") else whole_tar(_neighbours(one))
    rows, refusals = _rows(_stored(tar), isolation)
    kinds = [kind for kind, _ in refusals]
    if one.kind == "tars":
        kinds += _lost(tar, rows, refusals)
    return kinds + _clips(one, tar, rows, isolation, frames)


def _neighbours(one: Input) -> dict[str, bytes]:
    """The video, and the whole file that it was made from, which has the same codec and perhaps the same header."""
    members = {f"one{one.suffix}": one.data}
    return members | ({f"whole{one.base.suffix}": one.base.data} if len(one.base.data) < NEIGHBOUR_BYTES else {})


def _lost(tar: bytes, rows: Sequence[Mapping[str, Any]], refusals: Sequence[tuple[str, str]]) -> list[str]:
    """Videos that Python's tarfile finds, but that are neither rows nor refused.

    A refusal without a member covers the rest of the tar.
    """
    if any(not member for _, member in refusals):
        return []
    told = Counter([row["member_name"] for row in rows] + [member for _, member in refusals])
    there = Counter(name for name in videos_in(tar, SUFFIXES) or [] if not name.rpartition("/")[2].startswith("._"))
    gone = there - told
    # A name may be reported as stored or without "./", and a refused sample under its first member.
    unsaid = sum(gone.values()) - max(0, sum(told.values()) - sum((there & told).values()))
    return [f"lost: {unsaid} of {sum(there.values())} videos: {sorted(gone)[:3]!a}"] if unsaid > 0 else []


def _clips(
    one: Input, tar: bytes, rows: Sequence[dict[str, Any]], isolation: Isolation, frames: Counter[str]
) -> list[str]:
    """Decode bags of all videos in a drawn order in one process, then compare the frames of each video."""
    random = np.random.default_rng([one.number, 1])
    kinds: list[str] = []
    given: list[list[Given]] = [[] for _ in rows]
    firsts: list[int] = [0] * len(rows)
    for place in random.permutation(np.repeat(np.arange(len(rows)), BAGS_A_VIDEO)).tolist():
        row = rows[place]
        packets = decode_packets(row["packets"])
        shown = shown_pts(row, packets)
        firsts[place] = int(shown[0])
        start = float(random.random()) * min(row["duration_seconds"], LOOKED_AT_SECONDS)
        seconds = start + 0.2 * np.arange(FRAMES)
        pts, spans = find_clips(row, packets, shown, [seconds])
        bag = bare_bag(row | NEUTRAL, pts, spans)
        out = _out()
        found = _tried(bag, _fetched(bag), isolation, out=out)
        kinds += found
        if not found:
            given[place].append(Given(pts[0], seconds, out[0].copy()))
    for row, first, each in zip(rows, firsts, given, strict=True):
        if each:
            start = row["member_offset_bytes"]
            data = tar[start : start + row["member_size_bytes"]]
            counts, wrong = compared(data, row, first, each, data == one.base.data)
            frames.update(counts)
            kinds += [f"silent: {row['member_name']} ({row['codec']}, {row['access']}): {wrong}"] if wrong else []
    return kinds


def _stored(data: bytes) -> str:
    """Store the one tar -> its URL."""
    fsspec.filesystem("memory").pipe_file("/fuzz.tar", data)
    return "memory://fuzz.tar"


def _rows(url: str, isolation: Isolation) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The rows, and (kind, member) of each refusal, as they are written."""
    size_bytes = fsspec.filesystem("memory").size("/fuzz.tar")
    rows, refusals = read_shard(ShardTask("", url, size_bytes, "", "", ("w", "x"), None, isolation))
    refused_table(url, refusals)
    return rows.to_pylist(), [(refusal.kind, refusal.member_name) for refusal in refusals]


def _bag(row: dict[str, Any], number: int) -> dict[str, Any]:
    packets = decode_packets(row["packets"])
    start_seconds = (number * 0.37) % max(row["duration_seconds"], 0.1)
    times = [start_seconds + 0.2 * np.arange(FRAMES)]
    pts, spans = find_clips(row, packets, shown_pts(row, packets), times)
    return bare_bag(row, pts, spans)


def _decoded(row: dict[str, Any], one: Input, isolation: Isolation, backend: Any = "packets") -> list[str]:
    bag = _bag(row, one.number)
    bag |= {} if backend == "packets" else {"spans": []}
    return _tried(bag, _fetched(bag), isolation, backend)


def _fetched(bag: dict[str, Any]) -> list[bytes]:
    spans = bag["spans"]
    sizes = [span["size_bytes"] for span in spans]
    return read_ranges([bag["shard_url"]] * len(spans), [span["offset_bytes"] for span in spans], sizes)


@lru_cache(maxsize=1)
def _out() -> np.ndarray:
    """The memory that clips are decoded to; cached, because the processes map it."""
    return shared_array((1, FRAMES, 3, SIZE_PIXELS, SIZE_PIXELS))


def _tried(
    bag: dict[str, Any], data: Sequence[bytes], isolation: Isolation, backend: Any = "packets",
    out: np.ndarray | None = None,
) -> list[str]:  # fmt: skip
    out = _out() if out is None else out
    try:
        decode_clips_apart(bag, data, SIZE_PIXELS, DecodeConfig(backend=backend), out, isolation)
    except BadVideoError as error:
        return [error.kind]
    return []


@lru_cache(maxsize=256)
def _whole(base: Base) -> tuple[dict[str, Any], bytes] | None:
    """The row of an intact file, and the tar; None if it cannot be indexed."""
    tar = whole_tar({base.name: base.data})
    rows, _ = _rows(_stored(tar), ISOLATION)
    return (rows[0], tar) if rows else None


def _packets(one: Input, isolation: Isolation) -> list[str]:
    """Run an input where the media of an indexed file or the row of the index have changed."""
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
        starts = [(at, at + 24) for at in packets_of(span).offset_bytes.tolist()]
        damaged = broken(part.ljust(16, b"\0"), starts, random)
        data.append(damaged[: span["size_bytes"]].ljust(span["size_bytes"], b"\0"))
    return _tried(bag, data, isolation)


def _moved(packets: bytes, random: np.random.Generator) -> bytes:
    """The same number of packets, with some in other places."""
    arrays = decode_packets(packets)
    by = random.integers(-40, 40, len(arrays.offset_bytes)) * (random.random(len(arrays.offset_bytes)) < 0.2)
    return encode_packets(replace(arrays, offset_bytes=np.maximum(arrays.offset_bytes + by, 0)))
