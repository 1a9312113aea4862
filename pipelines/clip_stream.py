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


def _one_bag(bag: dict, frames: np.ndarray, reason: str, shape: ClipShape) -> ClipBatch:
    labels = len(bag["label_ids"])

    def padded(values: list, rows: int, columns: int, into: np.ndarray, axis: int) -> np.ndarray:
        """Values [rows x columns] in the front of `into`, whose label axis is padded."""
        part = np.asarray(values, into.dtype).reshape(rows, columns)
        into[(slice(None), slice(0, labels)) if axis == 1 else slice(0, labels)] = part
        return into[None]

    n, places, bins = shape.clips, shape.max_labels, shape.bins
    has_saliency = labels if bag["saliency_score"] else 0
    label_ids = np.full(places, NO_LABEL, np.int64)
    label_ids[:labels] = bag["label_ids"]
    never = np.full((places, bins), NEVER_VISITED, np.int32)
    blank = (np.zeros((places, bins), np.float32), np.zeros((places, bins), np.float32))
    return ClipBatch(
        slot=np.array([bag["slot"]], np.int64),
        video_row=np.array([bag["video_row"]], np.int64),
        ok=np.array([not reason]),
        error=encode_error(reason)[None],
        frames=frames,
        clip_id=np.array([[clip["clip_id"] for clip in bag["clips"]]], np.int64),
        tau=np.array([[clip["tau"] for clip in bag["clips"]]], np.float64),
        duration_seconds=np.array([bag["duration_seconds"]], np.float64),
        label_ids=label_ids[None],
        clip_positive=padded(bag["clip_positive"], n, labels, np.zeros((n, places), bool), axis=1),
        saliency_score=padded(bag["saliency_score"], labels, bins, blank[0], 0) if has_saliency else blank[0][None],
        saliency_tau=padded(bag["saliency_tau"], labels, bins, blank[1], 0) if has_saliency else blank[1][None],
        saliency_epoch=padded(bag["saliency_epoch"], labels, bins, never, 0) if has_saliency else never[None],
    )
