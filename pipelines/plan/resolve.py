"""Find the packets of drawn clips: rows of a plan and the packet tables of their videos -> rows that can be decoded.

A pure function of both, so what was read for a clip stays provable: a plan and its index never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.index.packets import packets_urls
from adaptfocus.pipelines.index.partitions import ROW_BITS, SOURCE_BITS
from adaptfocus.pipelines.schemas import DECODE_SCHEMA, FINDING_FIELDS, PLAN_SCHEMA
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts

# What `resolve` needs of a plan.
_NAMES = {*DECODE_SCHEMA.names, *(name for name, _ in FINDING_FIELDS)}
RESOLVE_SCHEMA = pa.schema([field for field in PLAN_SCHEMA if field.name in _NAMES])


def resolve(rows: pa.Table, packets: Sequence[bytes]) -> pa.Table:
    """Rows of DECODE_SCHEMA: each clip's frames, and the byte ranges and packets that they are decoded from.

    Args:
        rows: RESOLVE_SCHEMA, or more columns.
        packets: the packet table of each row's video, as encoded by `video.packets`.
    """
    drawn = rows.select(RESOLVE_SCHEMA.names).to_pylist()
    found = [_found(row, blob) for row, blob in zip(drawn, packets, strict=True)]
    return pa.Table.from_pylist(found, schema=DECODE_SCHEMA)


def _found(row: dict[str, Any], blob: bytes) -> dict[str, Any]:
    packets = packets_of({"packets": blob})
    steps = (np.arange(row["frames"]) - (row["frames"] - 1) / 2) * row["stride_seconds"]
    times = [clip["center_seconds"] + steps for clip in row["clips"]]
    frame_pts, spans = find_clips(row, packets, shown_pts(row, packets), times)
    clips = [clip | {"frame_pts": pts} for clip, pts in zip(row["clips"], frame_pts, strict=True)]
    return row | {"clips": clips, "spans": spans}


def moved_packets(rows: pa.Table, index_urls: Sequence[str]) -> pa.Table:
    """Rows of a plan whose `packets_url` names the objects of its indexes at other places.

    Args:
        index_urls: of the index of the run, or of each of its indexes.
    """
    names = pa.array([url.rsplit("/", 1)[-1] for url in rows.column("packets_url").to_pylist()], pa.string())
    source = rows.column("video_row").to_numpy() >> ROW_BITS + SOURCE_BITS
    urls = names.to_numpy(zero_copy_only=False)
    for number, url in enumerate(index_urls):
        own = source == number
        urls[own] = packets_urls(pa.chunked_array([names.filter(pa.array(own))]), url).to_pylist()
    urls = pa.array(urls, pa.string())
    return rows.set_column(rows.schema.get_field_index("packets_url"), rows.schema.field("packets_url"), urls)


def bare_bag(video: Mapping[str, Any], frame_pts: list[list[int]], spans: list[dict]) -> dict[str, Any]:
    """A bag outside any plan, for pictures and tools: from a row of the index and the result of `find_clips`."""
    clips = [{"clip_id": number, "frame_pts": pts} for number, pts in enumerate(frame_pts)]
    return {**video, "slot": 0, "video_row": 0, "clips": clips, "spans": spans}
