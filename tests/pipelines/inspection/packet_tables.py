"""Packet tables of videos in memory, and what their packets show when they are decoded."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.inspection.packet_table import PacketTable, main_video_stream, read_packet_table
from adaptfocus.pipelines.video.table import pad_packet


def table_of(video: bytes) -> PacketTable:
    return read_packet_table(io.BytesIO(video), len(video))


def refusal_of(video: bytes) -> BadVideoError:
    with pytest.raises(BadVideoError) as caught:
        table_of(video)
    return caught.value


def decoded_pts(video: bytes) -> list[int]:
    with av.open(io.BytesIO(video)) as container:
        return [frame.pts for frame in container.decode(main_video_stream(container))]


def bare_frames(video: bytes, table: PacketTable, first: int) -> dict[int, np.ndarray]:
    """Frames by pts, decoded without the container from packet number `first`, and not shown before it."""
    context: Any = av.CodecContext.create(table.codec, "r")
    context.extradata = table.extradata or None
    context.thread_count = 1
    frames: list[Any] = []
    for i in range(first, len(table.pts)):
        data = video[table.offset_bytes[i] : table.offset_bytes[i] + table.size_bytes[i]]
        frames += context.decode(pad_packet(data, int(table.pts[i]), int(table.dts[i])))
    frames += context.decode(None)
    return {frame.pts: frame.to_ndarray() for frame in frames if frame.pts >= table.pts[first]}


def assert_packets_show_what_the_container_shows(video: bytes, table: PacketTable) -> None:
    """Check that every frame from the first, a middle and the last keyframe is that of a decode in order."""
    with av.open(io.BytesIO(video)) as container:
        wanted = {frame.pts: frame.to_ndarray() for frame in container.decode(main_video_stream(container))}
    assert sorted(table.pts.tolist()) == list(wanted)
    keys = np.flatnonzero(table.is_key)
    for first in {int(keys[0]), int(keys[len(keys) // 2]), int(keys[-1])}:
        found = bare_frames(video, table, first)
        assert list(found) == [pts for pts in wanted if pts >= table.pts[first]]
        assert all(np.array_equal(found[pts], wanted[pts]) for pts in found)
