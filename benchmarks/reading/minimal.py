"""What a clip needs at the least, worked out from the index alone and not from the plan under test.

Input: a row of the index, the frames wanted. Does: finds the keyframe and the last picture needed, by time.
Output: packets, bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptfocus.pipelines.video.packets import Packets


def needed_run(packets: Packets, frame_pts: Sequence[int]) -> tuple[int, int]:
    """(first, last) packet in decoding order: from the last keyframe shown no later than the first frame wanted,
    to the packet, among those of the frames wanted, that is decoded last."""
    wanted = np.asarray(frame_pts)
    last = int(np.flatnonzero(np.isin(packets.pts, wanted)).max())
    keys = np.flatnonzero(packets.is_key & (packets.pts <= wanted.min()))
    return int(keys.max()), last


def minimal_bytes(packets: Packets, clips: Sequence[Sequence[int]]) -> int:
    """Contiguous bytes of all clips of a video, what is interleaved included; bytes that clips share count once."""
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
