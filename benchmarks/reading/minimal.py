"""The fewest packets and bytes that a clip needs, computed only from the index and not from the plan under test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptfocus.pipelines.video.packets import Packets


def needed_run(packets: Packets, frame_pts: Sequence[int]) -> tuple[int, int]:
    """(first, last) packet that the frames need, in decoding order.

    The first is the last keyframe that is shown no later than the first wanted frame. The last is the packet of a
    wanted frame that is decoded last.
    """
    wanted = np.asarray(frame_pts)
    last = int(np.flatnonzero(np.isin(packets.pts, wanted)).max())
    keys = np.flatnonzero(packets.is_key & (packets.pts <= wanted.min()))
    return int(keys.max()), last


def minimal_bytes(packets: Packets, clips: Sequence[Sequence[int]]) -> int:
    """Contiguous bytes of all clips of a video, including interleaved data; bytes that clips share count once."""
    spans = []
    for frame_pts in clips:
        first, last = needed_run(packets, frame_pts)
        part = slice(first, last + 1)
        start = int(packets.offset_bytes[part].min())
        spans.append((start, int((packets.offset_bytes[part] + packets.size_bytes[part]).max())))
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
