"""The stages from a plan to batches of clips, in their order. This is the file that shows the data flow.

    plan rows --read_ranges--> bytes --decode_bag--> one ClipBatch a bag --concat--> global batches

Input: an epoch's plan (Parquet at a URL) and where to start in it.
Does: fetches one range a clip, decodes, and turns a bag that cannot be decoded into an empty one with its reason.
Output: ClipBatches, in slot order. Nothing here knows Ray: `stream` below runs in this process, and
`pipelines.ray_data` runs the same `read_and_decode` on a cluster.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.errors import BadVideoError
from pipelines.frames import decode_clip, decode_clips_by_demuxing
from pipelines.plan_store import PlanFacts
from pipelines.records import NEVER_VISITED, NO_LABEL, PLAN_SCHEMA, ClipBatch, encode_error
from pipelines.tables import read_table


@dataclass(frozen=True)
class ClipShape:
    """The fixed shape of every bag of a run: what lets batches be tensors."""

    clips: int
    frames: int
    size_pixels: int
    max_labels: int
    bins: int


def stream(plan: PlanFacts, shape: ClipShape, bags_per_batch: int, first_slot: int = 0) -> Iterator[ClipBatch]:
    """Batches of `bags_per_batch` bags from slot `first_slot` to the end of the plan, in this process."""
    parts = (read_table(url, PLAN_SCHEMA, start, stop) for url, start, stop in plan.slices(first_slot))
    waiting = PLAN_SCHEMA.empty_table()
    for part in parts:
        waiting = pa.concat_tables([waiting, part])
        while waiting.num_rows >= bags_per_batch:
            yield read_and_decode(waiting.slice(0, bags_per_batch), shape)
            waiting = waiting.slice(bags_per_batch)
    if waiting.num_rows:
        yield read_and_decode(waiting, shape)


def read_and_decode(rows: pa.Table, shape: ClipShape) -> ClipBatch:
    """Some rows of a plan -> their clips. Ranges of all bags are fetched together, then decoded one by one."""
    bags = rows.to_pylist()
    ranged = [(bag, clip) for bag in bags if bag["access"] == "packets" for clip in bag["clips"]]
    parts = storage.read_ranges(
        [bag["shard_url"] for bag, _ in ranged],
        [clip["offset_bytes"] for _, clip in ranged],
        [clip["size_bytes"] for _, clip in ranged],
    )
    data_of = {clip["clip_id"]: part for (_, clip), part in zip(ranged, parts, strict=True)}
    return ClipBatch.concat([decode_bag(bag, data_of, shape) for bag in bags])


def decode_bag(bag: dict, data_of: dict[int, bytes], shape: ClipShape) -> ClipBatch:
    """One bag as a batch of one. Never raises for a bad video: the bag keeps its slot, black, with its reason."""
    frames = np.zeros((1, shape.clips, shape.frames, 3, shape.size_pixels, shape.size_pixels), np.uint8)
    reason = ""
    try:
        if bag["access"] == "packets":
            clips = (decode_clip(bag, clip, data_of[clip["clip_id"]], shape.size_pixels) for clip in bag["clips"])
        else:
            member = storage.RangeFile(bag["shard_url"], bag["member_offset_bytes"], bag["member_size_bytes"])
            clips = decode_clips_by_demuxing(bag, bag["clips"], io.BufferedReader(member), shape.size_pixels)
        for number, decoded in enumerate(clips):
            frames[0, number] = decoded
    except BadVideoError as error:
        frames[:] = 0
        reason = f"{error.kind}: {error}"
    return _one_bag(bag, frames, reason, shape)


def bare_bag(video: dict, clips: list[dict]) -> dict:
    """A bag outside any plan, of a row of the index and clips of `packets.clip_packets`: for pictures and tools."""
    names = ("label_ids", "clip_positive", "saliency_score", "saliency_tau", "saliency_epoch")
    nothing: dict = {name: [] for name in names}
    numbered = [{"clip_id": number, "tau": 0.0} | clip for number, clip in enumerate(clips)]
    return video | nothing | {"slot": 0, "video_row": 0, "clips": numbered}


def _one_bag(bag: dict, frames: np.ndarray, reason: str, shape: ClipShape) -> ClipBatch:
    """A batch of one bag; what there is of its labels stands in front of padded places."""
    places, bins = shape.max_labels, shape.bins
    positive = np.asarray(bag["clip_positive"], bool).reshape(shape.clips, -1)
    return ClipBatch(
        slot=np.array([bag["slot"]], np.int64),
        video_row=np.array([bag["video_row"]], np.int64),
        ok=np.array([not reason]),
        error=encode_error(reason)[None],
        frames=frames,
        clip_id=np.array([[clip["clip_id"] for clip in bag["clips"]]], np.int64),
        tau=np.array([[clip["tau"] for clip in bag["clips"]]], np.float64),
        duration_seconds=np.array([bag["duration_seconds"]], np.float64),
        label_ids=_padded(np.array(bag["label_ids"], np.int64), places, NO_LABEL)[None],
        clip_positive=_padded(positive.T, places, False).T[None],
        saliency_score=_padded(_bins(bag["saliency_score"], bins, np.float32), places, 0)[None],
        saliency_tau=_padded(_bins(bag["saliency_tau"], bins, np.float32), places, 0)[None],
        saliency_epoch=_padded(_bins(bag["saliency_epoch"], bins, np.int32), places, NEVER_VISITED)[None],
    )


def _bins(values: list, bins: int, kind: type) -> np.ndarray:
    """[labels, bins] of a plan's flat list."""
    return np.asarray(values, kind).reshape(-1, bins)


def _padded(values: np.ndarray, length: int, blank: int | bool) -> np.ndarray:
    """`values` [n, ...] followed by `blank` up to [length, ...]."""
    out = np.full((length, *values.shape[1:]), blank, values.dtype)
    out[: len(values)] = values
    return out
