"""Whether the times of a whole table can be believed.

Input: presentation times and keyframes of a video's packets, in decoding order.
Does: looks for times that occur twice, run back or leap, as in two recordings written behind each other.
Output: the reason why clips asked for in seconds would show the wrong frames; None if there is none. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

MAX_REORDERED = 16  # frames that a decoder holds back: the most that H.264 and HEVC allow
MAX_LEAP_SECONDS = 12 * 3600  # FFmpeg adds 26.5 hours to the times of a transport stream that begin anew
# Their packets are shown in the order in which they are decoded.
_IN_ORDER = frozenset({"vp8", "vp9", "av1", "libdav1d", "mjpeg", "png", "prores", "dnxhd", "ffv1", "rawvideo"})
AVI_CHUNK_HEADER_BYTES = 8

FIX = "write it again: ffmpeg -i IN OUT.mp4; or cut it there"


def wrong_times(pts: np.ndarray, is_key: np.ndarray, codec: str, tick_seconds: float) -> str | None:
    """What is wrong with times of frames that are all shown, and what to do about it.

    In any stream, a keyframe is shown after all that is decoded before it, and no frame is shown before more than
    MAX_REORDERED frames that are decoded before it. Encoders decode one frame ahead of those that are shown before it:
    what follows fills the time between that frame and the latest before it.

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
    keys_tell = not is_key.all()  # where all are said to be keyframes, the table of keyframes may be missing
    begins = (is_key[1:] & keys_tell) | (codec in _IN_ORDER)
    back = begins & (pts[1:] <= highest[:-1]) | (np.arange(1, len(pts)) - rank[1:] > MAX_REORDERED)
    back |= pts[1:] <= _anchor_before(pts, highest)[1:]
    if back.any():
        at = 1 + int(np.argmax(back))
        seconds = (highest[at - 1] - pts[0]) * tick_seconds
        return (
            f"its times run back after {seconds:.2f} s, at packet {at + 1:,} of {len(pts):,}, as where recordings are "
            f"joined; {twice:,} frames have the time of another; {FIX}"
        )
    if twice:
        seconds = (pts[order[int(np.argmax(steps == 0))]] - pts[order[0]]) * tick_seconds
        return f"{twice:,} frames have the time of another, the first at {seconds:.2f} s; {FIX}"
    if len(steps) and steps.max() * tick_seconds > MAX_LEAP_SECONDS:
        hours = steps.max() * tick_seconds / 3600
        return f"its times leap by {hours:.1f} hours, as where recordings are joined; {FIX}"
    return None


def is_misnumbered(container: str, index: Iterable[Any], packets: Iterable[tuple]) -> bool:
    """Whether a file's index says other times of its packets than a pass over them all.

    AVI has no times: a packet's is its number. Where packets are lost on the way, a pass counts those that are left
    and a seek takes the number from the index: all that follows would be shown at another time. So it is where the
    index leads to another place.

    Args:
        index: of PyAV's stream: entries with `pos` and `timestamp`.
        packets: (offset_bytes, size_bytes, pts, dts) of each.
    """
    if container != "avi":
        return False
    numbers = {entry.pos + AVI_CHUNK_HEADER_BYTES: entry.timestamp for entry in index}
    places = {number: at for at, number in numbers.items()}
    return any(numbers.get(at, dts) != dts or places.get(dts, at) != at for at, _, _, dts in packets)


def _anchor_before(pts: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Of each packet, the latest time decoded before the one that is latest up to it: int64 [packets]."""
    is_latest = np.concatenate([[True], pts[1:] > highest[:-1]])
    latest = np.maximum.accumulate(np.where(is_latest, np.arange(len(pts)), 0))
    return np.where(latest > 0, highest[np.maximum(latest - 1, 0)], np.iinfo(np.int64).min)
