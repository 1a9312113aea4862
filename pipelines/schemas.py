"""The Arrow schema of every table on disk and between stages. Columns are named here, once, with their units.

The unit of a plan is a *bag*: one video with its N clips of the epoch (the term of multiple-instance learning).
Strings stop at the decoder, because `iter_torch_batches` cannot carry them. A worker knows a video by its row in the
index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

SCHEMA_VERSION = 4

# The size and tag of a video's shard when it was indexed (`size_and_tag`): columns of an index and of plans.
SHARD_FIELDS = [("shard_size_bytes", pa.int64()), ("shard_tag", pa.string())]

# Where the packets of a video lie, as encoded by pipelines/video/packets.py. On the store, `packets_url` is the name of
# an object in the index's folder `packets`; in a loaded row and in a plan, it is a URL.
PACKETS_FIELDS = [
    ("packets_url", pa.string()),
    ("packets_offset_bytes", pa.int64()),
    ("packets_size_bytes", pa.int64()),
]

# One row a video. Its packets lie in another object, where `read_packets` reads them. Offsets of packets count from the
# member's first byte: add `member_offset_bytes` for the offset in the tar.
INDEX_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("shard_url", pa.string()),
        ("member_name", pa.string()),
        ("member_offset_bytes", pa.int64()),
        ("member_size_bytes", pa.int64()),
        *SHARD_FIELDS,
        ("codec", pa.string()),
        ("extradata", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation_degrees", pa.int32()),  # counter-clockwise, to be applied after decoding
        ("is_mirrored", pa.bool_()),  # left to right, after the rotation
        ("pixel_aspect_numerator", pa.int64()),  # width of a stored pixel divided by its height
        ("pixel_aspect_denominator", pa.int64()),
        ("time_base_numerator", pa.int64()),
        ("time_base_denominator", pa.int64()),
        ("duration_seconds", pa.float64()),
        ("frame_rate_hz", pa.float64()),  # mean over the video; frames are asked for by pts, never by number
        ("labels", pa.list_(pa.string())),
        (
            "intervals",
            pa.list_(
                pa.struct([("label", pa.string()), ("start_seconds", pa.float64()), ("end_seconds", pa.float64())])
            ),
        ),
        # "packets": one range GET and a bare codec context. "demux": PyAV over a ranged file.
        ("access", pa.string()),
        ("indexed_by", pa.string()),  # "header": from the container's tables. "demux": every packet was read.
        # Whether each sync sample has the same place in display order as in decoding order. If not (an open GOP),
        # readers that count frames from a sync sample show wrong frames; decord is one.
        ("keys_in_order", pa.bool_()),
        # How long after a sync sample's own time pictures may still be incomplete, if a stream is refreshed in parts.
        ("recovery_ticks", pa.int64()),
        ("packet_count", pa.int64()),
        *PACKETS_FIELDS,
    ]
)

# Videos that the index or a run leaves out, and why. Nothing is dropped without a row here.
REFUSED_SCHEMA = pa.schema(
    [
        ("shard_url", pa.string()),
        ("member_name", pa.string()),
        ("video_id", pa.string()),
        ("kind", pa.string()),
        ("message", pa.string()),
    ]
)

# Videos that a run has left out so far: the same columns, the video's row, and the epoch in which it failed.
EXCLUDED_SCHEMA = pa.schema([*REFUSED_SCHEMA, pa.field("video_row", pa.int64()), pa.field("epoch", pa.int64())])

# A clip as a plan has it. A plan does not say which frames a clip shows: the video's packets do.
DRAWN_CLIP_TYPE = pa.struct(
    [
        ("clip_id", pa.int64()),
        ("center_seconds", pa.float64()),  # from the first frame shown
        ("tau", pa.float64()),  # the centre as a fraction of the video
        ("focus_label_id", pa.int64()),  # the action it was drawn around; -1 if it explores, -2 if by a score
    ]
)
CLIP_TYPE = pa.struct(
    [*DRAWN_CLIP_TYPE, ("frame_pts", pa.list_(pa.int64()))]  # the F frames wanted, in the stream's time base
)

# Consecutive packets in decoding order that begin with a keyframe, are fetched as one range and are decoded at once. If
# spans continue each other, each of them is one range. A span serves one clip, or several that need the same packets.
SPAN_TYPE = pa.struct(
    [
        ("offset_bytes", pa.int64()),  # of the range to fetch, in the tar
        ("size_bytes", pa.int64()),
        ("packets", pa.binary()),  # as encoded by pipelines/video/packets.py; offsets inside that range
        # Its packets follow those of the previous span, and the two are decoded as one. This happens if consecutive
        # packets lie far apart, or are not stored in decoding order.
        ("continues", pa.bool_()),
    ]
)

# The columns of a plan that reading and decoding a bag need as well.
_OF_VIDEO = [
    pa.field("occurrence", pa.int64()),  # 1 for a video's second bag in one epoch, or for one of the second pass in it
    *(
        INDEX_SCHEMA.field(name)
        for name in (
            *("video_id", "shard_url", "member_name", "member_offset_bytes", "member_size_bytes", "shard_size_bytes"),
            *("shard_tag", "codec", "extradata", "rotation_degrees", "is_mirrored", "pixel_aspect_numerator"),
            *("pixel_aspect_denominator", "access", "keys_in_order"),
        )
    ),
]

# What the packets of a bag's clips are found from (`plan.resolve`).
FINDING_FIELDS = [
    ("time_base_numerator", pa.int64()),
    ("time_base_denominator", pa.int64()),
    ("recovery_ticks", pa.int64()),
    *PACKETS_FIELDS,
    ("frames", pa.int64()),  # F of each clip
    ("stride_seconds", pa.float64()),  # between two of its frames
]

# One row a bag. A row says what was drawn, and where the packets of its video lie (docs/decisions/0028).
PLAN_SCHEMA = pa.schema(
    [
        ("slot", pa.int64()),  # position in the epoch: global batch s is slots [s G, (s + 1) G)
        ("video_row", pa.int64()),  # of the video in the index: partition << 24 | row in the partition
        *_OF_VIDEO,
        *FINDING_FIELDS,
        ("duration_seconds", pa.float64()),
        ("label_ids", pa.list_(pa.int64())),
        ("clips", pa.list_(DRAWN_CLIP_TYPE)),
        # [clips x labels], row by row: whether this clip may count as a positive of this label. All true in the weak
        # regimes; taken from the intervals in Full.
        ("clip_positive", pa.list_(pa.bool_())),
        # [labels x bins], row by row: the video's saliency at the start of the epoch.
        ("saliency_score", pa.list_(pa.float32())),
        ("saliency_tau", pa.list_(pa.float32())),
        ("saliency_epoch", pa.list_(pa.int32())),
    ]
)

# What a step needs of a bag in addition to its frames and their cost. The rank that trains joins these columns by slot.
STEP_COLUMNS = (
    "slot", "video_row", "duration_seconds", "label_ids", "clips", "clip_positive", "saliency_score", "saliency_tau",
    "saliency_epoch",
)  # fmt: skip
STEP_SCHEMA = pa.schema([PLAN_SCHEMA.field(name) for name in STEP_COLUMNS])

# One row a bag, with everything that reading and decoding it need, so that a task looks nothing up.
DECODE_SCHEMA = pa.schema(
    [
        ("slot", pa.int64()),
        ("video_row", pa.int64()),
        *_OF_VIDEO,
        ("clips", pa.list_(CLIP_TYPE)),
        ("spans", pa.list_(SPAN_TYPE)),  # none if a demuxer reads the video
    ]
)

# One row for each bag that went through the model and into the gradient (ok), or could not be decoded (not ok).
LEDGER_SCHEMA = pa.schema(
    [
        ("slot", pa.int64()),
        ("video_row", pa.int64()),
        ("ok", pa.bool_()),
        ("kind", pa.string()),  # of the error; "" if ok
        ("error", pa.string()),  # why it could not be decoded; "" if ok
        ("clip_id", pa.list_(pa.int64())),
        ("tau", pa.list_(pa.float64())),
        ("label_ids", pa.list_(pa.int64())),
        ("probability", pa.list_(pa.float32())),  # [clips x labels], row by row: the training pass, detached
        # [labels]: the rank of the bag's spike of the label, over clips drawn anywhere, among the spikes of bags
        # without the label (trainers/method/null_ranks.py), and the variance of that rank if the label means nothing.
        ("null_rank", pa.list_(pa.float32())),
        ("null_variance", pa.list_(pa.float32())),
    ]
)

# Columns that ledgers of earlier versions lack. They are null there. Without `kind`, `error` is "kind: message".
LATER_IN_LEDGER = ("kind", "null_rank", "null_variance")

# One row for each video of a partition: what it counts for when bags are drawn by priority.
PRIORITY_SCHEMA = pa.schema(
    [
        ("video_row", pa.int64()),
        ("weight", pa.int64()),  # its score times 65,536; 0 if it is left out
        ("seen_epoch", pa.int32()),  # of its last bag; NEVER_VISITED before the first
    ]
)

# One row for each video and each of its actions, ordered by (video_row, label_id).
SALIENCY_SCHEMA = pa.schema(
    [
        ("video_row", pa.int64()),
        ("label_id", pa.int64()),
        ("score", pa.list_(pa.float32())),
        ("tau", pa.list_(pa.float32())),
        ("epoch", pa.list_(pa.int32())),  # of the last visit; -1 if never visited
    ]
)

NEVER_VISITED = -1
NO_LABEL = -1
BY_SCORE = -2  # instead of the action that a clip was drawn around: plan.resample_by chose the moment


@dataclass(frozen=True)
class EpochPlan:
    """An epoch's bags in their order, and the videos that did not fit into a whole number of global batches.

    Bags are drawn only when they are asked for, and some at once.
    """

    num_bags: int
    carried: tuple[int, ...]  # video rows that open the next epoch
    max_labels: int  # places for labels in a batch: the largest number of labels of any video in the index
    bags: Callable[[int, int], pa.Table]  # (first slot, end slot) -> rows of PLAN_SCHEMA

    @classmethod
    def of(cls, table: pa.Table, carried: tuple[int, ...] = (), max_labels: int = 1) -> EpochPlan:
        """A plan of bags that are in memory."""
        return cls(table.num_rows, carried, max_labels, lambda first, end: table.slice(first, end - first))

    def tables(self, bags_per_table: int) -> Iterator[pa.Table]:
        """All bags in order, so many at once."""
        for first in range(0, self.num_bags, bags_per_table):
            yield self.bags(first, min(first + bags_per_table, self.num_bags))

    @cached_property
    def table(self) -> pa.Table:
        """All bags in one table, which stays in memory."""
        return self.bags(0, self.num_bags)


def clip_ids(epoch: int, slots: np.ndarray, clips: int) -> np.ndarray:
    """One number for each (epoch, slot, draw), int64 [B, N]: 19 bits of epoch, 36 of slot, 8 of draw.

    They sort in that order.

    Raises:
        ValueError: a part does not fit (more than 524,287 epochs, 68 billion bags an epoch or 255 clips a bag).
    """
    last = int(slots.max(initial=0))
    if not (0 <= epoch < 1 << 19 and slots.min(initial=0) >= 0 and last < 1 << 36 and 0 <= clips <= 1 << 8):
        raise ValueError(f"epoch {epoch}, slot {last}, {clips} clips: limits are 2^19, 2^36 and 2^8")
    return (epoch << 44) | (slots[:, None] << 8) | np.arange(clips)


def clip_id(epoch: int, slot: int, draw: int) -> int:
    """The number of one clip, as in `clip_ids`."""
    return int(clip_ids(epoch, np.array([slot]), draw + 1)[0, draw])


class ClipPlace(NamedTuple):
    """Where a clip stands in a run; all count from 0."""

    epoch: int
    slot: int
    draw: int


def place_of_clip(clip_id: int) -> ClipPlace:
    """The parts of a clip's number, which `clip_ids` puts together."""
    return ClipPlace(clip_id >> 44, clip_id >> 8 & (1 << 36) - 1, clip_id & (1 << 8) - 1)
