"""How a video that was read whole is accessed later, and the keyframes at which a decoder may begin.

Input: what one pass found of each packet, the frames of the middle, the file.
Does: leaves out keyframes that are none to a decoder that knows only the header; tries the ways to reach the middle,
the cheapest first, until one shows the frames that a decode in order shows.
Output: "packets", "demux" or "sequential"; keyframes, and how long after one pictures may not be whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from adaptfocus.pipelines.inspection.middle_proof import Middle, packets_show, seeks_show
from adaptfocus.pipelines.video.packets import Packets


@dataclass(frozen=True)
class Starts:
    """Where a decoder may begin; arrays are [packets]."""

    is_start: np.ndarray  # bool: whole at once, or after `recovery_ticks`
    is_whole: np.ndarray  # bool: whole at once
    recovery_ticks: int
    begins_whole: bool  # the first keyframe, if there is one
    are_all_keys: bool  # all keyframes of the container


def starts_of(pts: np.ndarray, is_key: np.ndarray, waits: np.ndarray, is_referenced: np.ndarray) -> Starts:
    """The keyframes among packets in decoding order.

    Args:
        waits: what DecoderStarts says of each.
    """
    is_start, is_whole = is_key & (waits >= 0), is_key & (waits == 0)
    counted, recovery_ticks = np.cumsum(is_referenced), 0
    for first in np.flatnonzero(is_start & ~is_whole).tolist():
        last = int(np.searchsorted(counted, counted[first] + waits[first]))
        recovery_ticks = max(recovery_ticks, int(pts[first : last + 1].max() - pts[first]))
    begins_whole = bool(is_whole[np.argmax(is_key)]) or not is_key.any()
    return Starts(is_start, is_whole, recovery_ticks, begins_whole, bool((is_start == is_key).all()))


@dataclass(frozen=True)
class Access:
    """How clips of a video are read."""

    access: str
    is_key: np.ndarray
    recovery_ticks: int = 0


def prove_access(
    middle: Middle,
    context: Any,
    file: BinaryIO,
    bare: tuple[str, bytes, Packets] | None,
    is_seekable: bool,
    starts: Starts,
) -> Access:
    """The first access that shows the middle as a decode in order does.

    Args:
        context: the decoder that has shown the file's start.
        bare: codec, extradata and packets, where the file's bytes are the packets and the first has been decoded so.
        is_seekable: a decoder may begin at every keyframe of the container. Otherwise all backends begin at the
            file's start.
        starts: of the packets that are shown.
    """
    if middle.can_jump() and middle.jump(context):
        found = _showing(middle.frames(), file, bare, is_seekable, starts)
        if found.access != "sequential" or not is_seekable:
            return found
    middle.go_through(context)
    return _showing(middle.frames(), file, bare, is_seekable, starts)


def _showing(
    right: Mapping[int, Any], file: BinaryIO, bare: tuple[str, bytes, Packets] | None, is_seekable: bool, starts: Starts
) -> Access:
    """The first access that shows these frames."""
    if bare is not None and is_seekable:
        codec, extradata, packets = bare
        options = [(starts.is_start, starts.recovery_ticks)]
        options += [(starts.is_whole, 0)] if starts.recovery_ticks else []
        for is_key, recovery_ticks in options:
            each = Packets(packets.offset_bytes, packets.size_bytes, packets.pts, packets.dts, is_key)
            if is_key.any() and (not right or packets_show(codec, extradata, each, recovery_ticks, file, right)):
                return Access("packets", is_key, recovery_ticks)
    is_right = is_seekable and (not right or seeks_show(file, right))
    return Access("demux" if is_right else "sequential", starts.is_start if starts.is_start.any() else starts.is_whole)
