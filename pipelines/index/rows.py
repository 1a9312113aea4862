"""Make the index part of one shard. This code runs in each indexing process.

It reads the tar's samples, and the labels and packet table of each video. A bad video becomes a refused row.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from adaptfocus.pipelines.annotations.manifest import read_labels
from adaptfocus.pipelines.annotations.rows import (
    Interval,
    labels_and,
    parse_intervals,
    parse_labels,
    tidy_intervals,
    unknown_label,
)
from adaptfocus.pipelines.apart.pool import read_packet_table_apart
from adaptfocus.pipelines.decode.settings import Isolation
from adaptfocus.pipelines.errors import BadVideoError, as_bad_video
from adaptfocus.pipelines.index.convert import OldPart, convert_part
from adaptfocus.pipelines.index.packets import UNSPLIT_SCHEMA
from adaptfocus.pipelines.index.staged import ShardFacts, refused_table, write_staged
from adaptfocus.pipelines.inspection.demux import DEMUX_BLOCK_BYTES, DEMUX_MAX_BLOCKS
from adaptfocus.pipelines.inspection.packet_table import PacketTable, read_packet_table
from adaptfocus.pipelines.shards.members import Member, Refusal
from adaptfocus.pipelines.shards.read import BadTextError, Sample, read_samples
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.video.packets import Packets, encode_packets


@dataclass(frozen=True)
class ShardTask:
    """What one process needs to know; it is sent to the process."""

    index_url: str
    shard_url: str
    size_bytes: int
    tag: str
    identity: str
    classes: tuple[str, ...] | None
    labels_url: str | None
    isolation: Isolation | None = None  # None: videos are read in this process
    labels_tag: str = ""  # tag of the content of the labels file
    id_prefix: str = ""  # prefix of each key: "SHARD/" if shards repeat each other's keys
    is_video: bool = False  # the shard is a plain video file and no tar; its id is `id_prefix`
    refusal: Refusal | None = None  # why it is not even opened: of a plain video file
    old: OldPart | None = None  # the same rows in an index of an earlier version: they are taken from there


def index_shard(task: ShardTask) -> ShardFacts:
    """Write a shard's staged part.

    Raises:
        StorageError: the shard cannot be read or the parts cannot be written; the videos are not to blame.
    """
    if task.old:
        return convert_part(task.index_url, task.identity, (task.size_bytes, task.tag), task.old)
    started = time.perf_counter()
    rows, refusals = read_shard(task)
    refused = refused_table(task.shard_url, refusals)
    return write_staged(task.index_url, task.identity, rows, refused, time.perf_counter() - started)


def index_some(tasks: Sequence[ShardTask]) -> list[ShardFacts]:
    """`index_shard` for one task after the other."""
    return [index_shard(task) for task in tasks]


def read_shard(task: ShardTask) -> tuple[pa.Table, list[Refusal]]:
    """Rows for a shard's videos, with `packets` instead of their place, and what is left out.

    A bad sample or tar never ends the run.

    Raises:
        StorageError: the shard cannot be read.
    """
    if task.refusal:
        return UNSPLIT_SCHEMA.empty_table(), [task.refusal]
    try:
        samples, refusals = _sample_of_file(task) if task.is_video else read_samples(task.shard_url, task.size_bytes)
    except Exception as error:
        bad = as_bad_video(error)
        return UNSPLIT_SCHEMA.empty_table(), [Refusal(bad.kind, str(bad))]
    sidecar = _sidecar(task.labels_url, task.classes, task.labels_tag) if task.labels_url else {}
    if not task.is_video:
        refusals = [
            replace(each, video_id=task.id_prefix + each.video_id) if each.video_id else each for each in refusals
        ]
    rows: list[dict[str, Any]] = []
    for sample in samples:
        try:
            row, changed = _row(task, sample, sidecar)
        except Exception as error:
            bad = as_bad_video(error)
            member = sample.video.name if sample.video else ""
            refusals.append(Refusal(bad.kind, str(bad), member, task.id_prefix + sample.video_id))
            continue
        rows.append(row)
        refusals += changed
    table, strange = _as_table(rows)
    return table, refusals + strange


def _sample_of_file(task: ShardTask) -> tuple[list[Sample], list[Refusal]]:
    """A plain video file as a shard with one member, which begins at its first byte."""
    name = posixpath.basename(task.shard_url.split("?", 1)[0])
    if task.size_bytes == 0:
        return [], [Refusal("empty_file", "the file is empty (0 bytes); copy it again", name, task.id_prefix)]
    return [Sample("", {"mp4": Member(name, 0, task.size_bytes)})], []


def _as_table(rows: list[dict[str, Any]]) -> tuple[pa.Table, list[Refusal]]:
    """Rows as Arrow; a row with a value that cannot be stored loses only its own video."""
    try:
        return pa.Table.from_pylist(rows, schema=UNSPLIT_SCHEMA), []
    except Exception as error:
        if len(rows) == 1:
            bad = as_bad_video(error)
            return UNSPLIT_SCHEMA.empty_table(), [
                Refusal(bad.kind, str(bad), rows[0]["member_name"], rows[0]["video_id"])
            ]
    parts = [_as_table([row]) for row in rows]
    return pa.concat_tables(table for table, _ in parts), [each for _, refused in parts for each in refused]


@lru_cache(maxsize=1)
def _sidecar(
    labels_url: str, classes: tuple[str, ...] | None, tag: str
) -> dict[str, tuple[tuple[str, ...], tuple[Interval, ...] | None]]:
    return read_labels(labels_url, classes)


def _row(task: ShardTask, sample: Sample, sidecar: dict[str, Any]) -> tuple[dict[str, Any], list[Refusal]]:
    """A sample as a row of INDEX_SCHEMA, and the changes of its intervals. Raises BadVideoError."""
    member = sample.video
    assert member is not None
    video_id = task.id_prefix + sample.video_id
    if video_id in sidecar:
        labels, intervals = sidecar[video_id]
    else:
        labels, intervals = _labels(sample, task.classes)
    file = RangeFile(
        task.shard_url, member.offset_bytes, member.size_bytes, DEMUX_BLOCK_BYTES, max_blocks=DEMUX_MAX_BLOCKS
    )
    if task.isolation:
        table = read_packet_table_apart(file, member.size_bytes, member.head, task.isolation)
    else:
        table = read_packet_table(file, member.size_bytes, member.head)  # type: ignore[arg-type]
    intervals, problems = tidy_intervals(intervals, member.name, table.duration_seconds)
    row = {
        "video_id": video_id,
        "shard_url": task.shard_url,
        "member_name": member.name,
        "member_offset_bytes": member.offset_bytes,
        "member_size_bytes": member.size_bytes,
        "shard_size_bytes": task.size_bytes,
        "shard_tag": task.tag,
        "labels": list(labels),
        "intervals": None
        if intervals is None
        else [{"label": label, "start_seconds": start, "end_seconds": end} for label, start, end in intervals],
    }
    changed = [Refusal(p.kind, p.message, member.name, video_id) for p in problems]
    changed += [Refusal(kind, message, member.name, video_id) for kind, message in table.notes]
    return row | _stream_columns(table), changed


def _stream_columns(table: PacketTable) -> dict[str, Any]:
    names = ["codec", "extradata", "width", "height", "rotation_degrees", "is_mirrored", "time_base_numerator"]
    names += ["time_base_denominator", "duration_seconds", "frame_rate_hz", "access", "indexed_by", "keys_in_order"]
    names += ["recovery_ticks"]
    packets = Packets(table.offset_bytes, table.size_bytes, table.pts, table.dts, table.is_key)
    return {name: getattr(table, name) for name in names} | {
        "pixel_aspect_numerator": table.pixel_aspect.numerator,
        "pixel_aspect_denominator": table.pixel_aspect.denominator,
        "packet_count": len(packets),
        "packets": encode_packets(packets),
    }


def _labels(sample: Sample, classes: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[Interval, ...] | None]:
    """Labels and intervals from the .json, else from the .cls, else none: a video without labels can be evaluated."""
    try:
        annotation = sample.text("json") or {}
        value = annotation.get("labels")
        value = sample.text("cls") if value is None else value
    except BadTextError as error:
        raise BadVideoError("bad_sample_json", str(error)) from None
    if isinstance(value, list) and value and all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        value = [_named(number, classes) for number in value]
    try:
        intervals = parse_intervals(annotation.get("intervals"))
        labels = labels_and(intervals, parse_labels(value))
    except ValueError as error:
        raise BadVideoError("bad_sample_json", str(error)) from None
    for label in labels:
        if classes is not None and label not in classes:
            raise BadVideoError("label_not_in_classes", unknown_label(label, classes))
    return labels, intervals


def _named(number: int, classes: tuple[str, ...] | None) -> str:
    if classes is None:
        raise BadVideoError(
            "label_not_in_classes", f"its label is the number {number!s:.40}; give a class list to name it"
        )
    if not 0 <= number < len(classes):
        raise BadVideoError("label_not_in_classes", f"its label is {number!s:.40}; classes are 0 to {len(classes) - 1}")
    return classes[number]
