"""Whether the times of a complete packet table are plausible.

Times that occur twice, run back or leap are found, as in two recordings written one after the other. Clips requested in
seconds would show the wrong frames there. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

MAX_REORDERED = 16  # most frames that a decoder holds back, by H.264 and HEVC
MAX_LEAP_SECONDS = 12 * 3600  # FFmpeg adds 26.5 hours to the times of a transport stream that restart
# Codecs whose packets are shown in the order in which they are decoded.
_IN_ORDER = frozenset({"vp8", "vp9", "av1", "libdav1d", "mjpeg", "png", "prores", "dnxhd", "ffv1", "rawvideo"})
AVI_CHUNK_HEADER_BYTES = 8

FIX = "write it again: ffmpeg -i IN OUT.mp4; or cut it there"


def wrong_times(pts: np.ndarray, is_key: np.ndarray, codec: str, tick_seconds: float) -> str | None:
    """What is wrong with the times of frames, all of which are shown, and the fix; None if nothing is.

    In any stream, a keyframe is shown after all frames decoded before it. A frame is shown before at most MAX_REORDERED
    frames that are decoded before it. Encoders put one frame ahead of those that are shown before it: the following
    frames fill the time between that frame and the latest one before it.

    Args:
        pts: int64 [packets], in decoding order.
        is_key: bool [packets].
    """
    order = np.argsort(pts, kind="stable")
    steps = np.diff(pts[order])
    twice = int((steps == 0).sum())
    rank = np.empty(len(pts), np.int64)
    rank[order] = np.arange(len(pts))
    highest = np.maximum.accumulate(pts)
    keys_tell = not is_key.all()  # if all are keyframes, the table of keyframes may be missing
    begins = (is_key[1:] & keys_tell) | (codec in _IN_ORDER)
    back = begins & (pts[1:] <= highest[:-1]) | (np.arange(1, len(pts)) - rank[1:] > MAX_REORDERED)
    back |= pts[1:] <= _anchor_before(pts, highest)[1:]
    if back.any():
        at = 1 + int(np.argmax(back))
        seconds = (highest[at - 1] - pts[0]) * tick_seconds
        return (
            f"its times run back after {seconds:.2f} s, at packet {at + 1:,} of {len(pts):,}, as if recordings were "
            f"joined; {twice:,} frames have the time of another; {FIX}"
        )
    if twice:
        seconds = (pts[order[int(np.argmax(steps == 0))]] - pts[order[0]]) * tick_seconds
        return f"{twice:,} frames have the time of another, the first at {seconds:.2f} s; {FIX}"
    if len(steps) and steps.max() * tick_seconds > MAX_LEAP_SECONDS:
        hours = steps.max() * tick_seconds / 3600
        return f"its times leap by {hours:.1f} hours, as if recordings were joined; {FIX}"
    return None


def is_misnumbered(container: str, index: Iterable[Any], packets: Iterable[tuple]) -> bool:
    """Whether a file's index gives other times for packets than a pass over all packets.

    AVI has no times: a packet's time is its number. If packets are lost, a pass counts only those that are left, but a
    seek takes the number from the index. All that follows would be shown at another time. The same happens if the
    index leads to another place.

    Args:
        index: the index of PyAV's stream: entries with `pos` and `timestamp`.
        packets: (offset_bytes, size_bytes, pts, dts) of each packet.
    """
    if container != "avi":
        return False
    numbers = {entry.pos + AVI_CHUNK_HEADER_BYTES: entry.timestamp for entry in index}
    places = {number: at for at, number in numbers.items()}
    return any(numbers.get(at, dts) != dts or places.get(dts, at) != at for at, _, _, dts in packets)


def _anchor_before(pts: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """For each packet, the latest time decoded before the packet with the latest time so far: int64 [packets]."""
    is_latest = np.concatenate([[True], pts[1:] > highest[:-1]])
    latest = np.maximum.accumulate(np.where(is_latest, np.arange(len(pts)), 0))
    return np.where(latest > 0, highest[np.maximum(latest - 1, 0)], np.iinfo(np.int64).min)
