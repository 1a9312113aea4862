"""What is known of one video's packets, and the arithmetic that both ways of finding it out share.

Input: presentation times, keyframes and durations of packets, in decoding order.
Does: leaves out what is cut off from its references, measures what is shown, decodes the start without a container.
Output: PacketTable.

Every pts of the table is that of a frame that a viewer sees. Left out are packets that an edit list hides (flagged
*discard*: decoded, never shown), VP8's hidden references, and what is cut off from its references at the start.

What `access` promises. "packets": the file's bytes at (offset, size) are the packets, all of them decode with the one
`extradata`, nothing that a shown frame refers to is left out, and the first frame has been decoded that way.
"demux": the reader has to open the container, which knows its own keyframes. Hidden packets mean "demux", because
frames that are shown may refer to them; the table's first entry need not be a keyframe then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.video.display import fraction_of

MAX_SIDE_PIXELS = 16384  # 8K is 7680; H.264 level 6.2 ends at 16384
MAX_PACKETS = 10_000_000  # 46 hours at 60 Hz; the arrays of such a table take 330 MB
MAX_EXTRADATA_BYTES = 1 << 20  # parameter sets are some hundred bytes
MAX_PACKETS_TO_FIRST_FRAME = 256  # an open GOP at a cut stream's start; decoders hold back at most 16 frames

# Kinds of notes: the video is used.
ABSURD_PIXELS = "pixel_aspect_ignored"
ENDS_EARLY = "ends_early"
NOTES = frozenset({ABSURD_PIXELS, ENDS_EARLY})

# "av1" is FFmpeg's decoder for graphics cards only: a bare context of that name decodes nothing in software.
SOFTWARE_DECODER = {"av1": "libdav1d"}


@dataclass(frozen=True)
class PacketTable:
    """The main video stream of one file; arrays are [packets], in decoding order."""

    codec: str  # for av.CodecContext.create(codec, "r")
    extradata: bytes
    width: int
    height: int
    rotation_degrees: int  # 0, 90, 180 or 270, counter-clockwise, to be applied after decoding
    is_mirrored: bool  # left to right, once it is turned
    pixel_aspect: Fraction  # width of a stored pixel by its height; 1 where nobody says
    time_base_numerator: int
    time_base_denominator: int
    duration_seconds: float  # from the first frame shown to the end of the last
    frame_rate_hz: float  # mean
    access: str  # "packets" or "demux"
    indexed_by: str  # "header" (the container's tables and a proof) or "demux" (every packet was read)
    offset_bytes: np.ndarray  # int64, from the file's first byte; -1 where the container does not tell
    size_bytes: np.ndarray  # int32
    pts: np.ndarray  # int64, in the time base
    dts: np.ndarray  # int64
    is_key: np.ndarray  # bool
    recovery_ticks: int = 0  # behind a keyframe's own time: how long pictures may not be whole yet (intra refresh)
    notes: tuple[tuple[str, str], ...] = ()  # (kind, message) of what is not as it was written, though it can be used

    @property
    def keys_in_order(self) -> bool:
        """Whether each keyframe is shown as the n-th frame if it is decoded as the n-th: decord takes that for given.

        It is not so where pictures that follow an open GOP's keyframe are shown before it; decord then returned
        200 to 360 wrong frames of 480 to 640. Nor where a keyframe is not whole, or needs what lies before it.
        """
        rank = np.empty(len(self.pts), np.int64)
        rank[np.argsort(self.pts, kind="stable")] = np.arange(len(self.pts))
        are_whole = self.recovery_ticks == 0 and self.access != "sequential"
        return are_whole and bool((rank == np.arange(len(self.pts)))[self.is_key].all())


def decodable(pts: np.ndarray, is_key: np.ndarray) -> np.ndarray:
    """Which packets are not cut off from their references: the first keyframe, what follows and is shown after it.

    A stream cut inside an open GOP begins with pictures that lead its first keyframe and refer to what is gone.
    """
    if not is_key.any():
        return np.ones(len(pts), dtype=bool)  # intra refresh: a decoder starts anywhere
    first = int(np.argmax(is_key))
    return (np.arange(len(pts)) >= first) & (pts >= pts[first])


def fill_dts(dts: tuple[int | None, ...]) -> np.ndarray:
    """Matroska leaves out the decoding times of the first packets: count back from the first known, one each."""
    known = next((i for i, value in enumerate(dts) if value is not None), len(dts))
    start = dts[known] if known < len(dts) else 0
    filled = [int(start or 0) - known + i for i in range(known)]
    for value in dts[known:]:
        filled.append(filled[-1] + 1 if value is None else value)
    return np.array(filled, dtype=np.int64)


def shown_span(pts: np.ndarray, durations: np.ndarray) -> tuple[int, int]:
    """(first pts, end of the last frame shown) in the time base; a frame without duration lasts as the usual one."""
    at = len(pts) - 1 - int(np.argmax(pts[::-1]))
    last = int(durations[at])
    if last <= 0:
        last = max(int(np.median(np.diff(np.sort(pts)))), 1) if len(pts) > 1 else 1
    return int(pts.min()), int(pts[at]) + last


# Of frames of which only time, size or sameness matters: deblocking is a tenth to a fifth of the work.
UNFILTERED = {"skip_loop_filter": "all"}


def pad_packet(data: bytes | memoryview, pts: int, dts: int, is_key: bool = False) -> Any:
    """A packet of these bytes, with the zeros behind them that decoders read into.

    Decoders of PNG and of recorded screens add a picture to the last one unless its packet says that it is a key.

    `av.Packet(data)` wraps the bytes as they lie: MPEG-4 read past their end, and 40 of 180 frames were wrong, others
    each time.
    """
    packet: Any = av.Packet(len(data))
    packet.update(data)
    packet.pts, packet.dts, packet.is_keyframe = pts, dts, is_key
    return packet


def first_bare_frame(codec: str, extradata: bytes, packets: Iterable[tuple[bytes, int, int]]) -> Any:
    """The first frame that a context which knows only `codec` and `extradata` makes of (bytes, pts, dts); else None.

    Args:
        packets: the first of them a keyframe.
    """
    return bare_start(codec, extradata, packets)[0]


def bare_start(
    codec: str, extradata: bytes, packets: Iterable[tuple[bytes, int, int]], context: Any = None
) -> tuple[Any, Fraction | None]:
    """(the same frame, the shape that its codec gives to its pixels; None if it says nothing).

    Args:
        context: of `proof_context`, to be used for other packets too; else one of its own.
    """
    try:
        context = context or proof_context(codec, extradata)
        context.flush_buffers() if context.is_open else None
        for number, (data, pts, dts) in enumerate(packets):
            frames = context.decode(pad_packet(data, pts, dts, is_key=number == 0))
            if frames:
                return frames[0], fraction_of(context.sample_aspect_ratio)
        return next(iter(context.decode(None)), None), fraction_of(context.sample_aspect_ratio)
    except (FFmpegError, ValueError):
        return None, None


def proof_context(codec: str, extradata: bytes) -> Any:
    """A decoder that knows only these, for frames of which only time and size matter.

    Raises:
        FFmpegError, ValueError: there is none.
    """
    context: Any = av.CodecContext.create(codec, "r")
    context.extradata = extradata or None
    context.thread_count = 1
    context.options = UNFILTERED
    return context
