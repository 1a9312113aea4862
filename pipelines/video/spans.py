"""Find the packets that hold the frames at wanted times.

For the times of some clips, this module finds the frames on display, the keyframes to start from, and the byte ranges
to fetch. The result is the frames and spans of a bag, as the plan stores them. A bag is the clips of one video that are
planned together. A span is a run of packets that is fetched as one range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adaptfocus.pipelines.store.ranges import MAX_GAP_BYTES
from adaptfocus.pipelines.video.packets import Packets, decode_packets, encode_packets

# A request for a frame's own time gets that frame, not the one before it, although both times were rounded. A
# microsecond is far below any frame's duration and far above the rounding error.
EPSILON_SECONDS = 1e-6
# Gaps up to this size between ordered packets are read too: an interleaved second of uncompressed sound is 0.2 MB.
FAR_BYTES = 1 << 20


class Run(NamedTuple):
    """Packets first to last (included), in decoding order."""

    first: int
    last: int


def packets_of(row: Mapping[str, Any]) -> Packets:
    """The packets of a row of the index, offsets from the member's first byte; or of a span, from its own."""
    return decode_packets(row["packets"])


def shown_pts(video: Mapping[str, Any], packets: Packets) -> np.ndarray:
    """Presentation times of the frames that can be shown, sorted, in the stream's time base.

    Time zero of a video is the first of them. Pictures before the first keyframe (of a stream cut inside an open GOP)
    cannot be decoded from packets, so they are left out. If a demuxer reads the video, the table already has only
    the frames that it shows.
    """
    pts = packets.pts
    if video["access"] == "packets":
        pts = pts[pts >= pts[packets.is_key].min()]
    return np.sort(pts, kind="stable")  # the times are nearly in order, so this is ten times faster than the default


def find_clips(
    video: Mapping[str, Any], packets: Packets, shown: np.ndarray, times_seconds: Sequence[np.ndarray]
) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """The frames on display at each clip's times (clamped to the video), and the spans that decode to all of them.

    Args:
        shown: `shown_pts` of the video.
        times_seconds: one array [frames] for each clip, from the first frame shown.

    Returns:
        frame_pts of each clip, and spans (SPAN_TYPE) in the order of decoding; no spans if a demuxer reads the video.
    """
    wanted = [frames_at(video, shown, times) for times in times_seconds]
    frame_pts = [each.tolist() for each in wanted]
    if video["access"] != "packets":
        return frame_pts, []
    places = np.argsort(packets.pts, kind="stable")
    runs = join_runs([run_of(packets, places, each, video.get("recovery_ticks") or 0) for each in wanted])
    return frame_pts, [span for run in runs for span in spans_of(video, packets, run)]


def frames_at(video: Mapping[str, Any], shown: np.ndarray, times_seconds: np.ndarray) -> np.ndarray:
    """pts of the frames on display at the given times: [times] int64."""
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    at = np.searchsorted((shown - shown[0]) * tick, times_seconds + EPSILON_SECONDS, side="right") - 1
    return shown[np.clip(at, 0, len(shown) - 1)]


def run_of(packets: Packets, places: np.ndarray, wanted_pts: np.ndarray, recovery_ticks: int = 0) -> Run:
    """The packets needed to decode some frames; `places` are the positions of these frames' packets.

    The start is the last keyframe, in decoding order, whose pts is not after the first wanted frame. Frames that lead
    an open GOP's keyframe (are shown before it) are decoded from an earlier keyframe, and so are frames up to
    `recovery_ticks` after a keyframe that is refreshed in parts. The end is the last wanted frame's packet.
    """
    last = int(places[np.searchsorted(packets.pts, wanted_pts, sorter=places)].max())
    keys = np.flatnonzero(packets.is_key[: last + 1])
    return Run(int(keys[packets.pts[keys] + recovery_ticks <= wanted_pts.min()].max(initial=0)), last)


def join_runs(runs: Sequence[Run]) -> list[Run]:
    """Runs without common packets: clips in the same GOP are decoded together, each packet once."""
    apart: list[Run] = []
    for run in sorted(runs):
        if apart and run.first <= apart[-1].last:
            apart[-1] = Run(apart[-1].first, max(apart[-1].last, run.last))
        else:
            apart.append(run)
    return apart


def spans_of(video: Mapping[str, Any], packets: Packets, run: Run) -> list[dict[str, Any]]:
    """A run of packets as spans (SPAN_TYPE) that continue each other; a single span if the packets are adjacent."""
    parts = parts_in_place(packets, run)
    return [span_of(video, packets, part) | {"continues": part != parts[0]} for part in parts]


def parts_in_place(packets: Packets, run: Run) -> list[Run]:
    """A run cut where its packets are not consecutive in the file, so that only needed bytes are fetched.

    Ordered packets stay together up to a gap of FAR_BYTES. A file may legally store its chunks in another order than
    that of display: one range over some of them could be the whole file.
    """
    part = slice(run.first, run.last + 1)
    offset, end = packets.offset_bytes[part], packets.offset_bytes[part] + packets.size_bytes[part]
    gaps = offset[1:] - end[:-1]
    is_ordered = bool((gaps >= 0).all())
    if not is_ordered and end.max() - offset.min() <= (end - offset).sum() + MAX_GAP_BYTES:
        return [run]
    breaks = np.flatnonzero((gaps < 0) | (gaps > (FAR_BYTES if is_ordered else MAX_GAP_BYTES)))
    firsts = [run.first, *(run.first + breaks + 1).tolist()]
    lasts = [*(run.first + breaks).tolist(), run.last]
    return [Run(first, last) for first, last in zip(firsts, lasts, strict=True)]


def span_of(video: Mapping[str, Any], packets: Packets, run: Run) -> dict[str, Any]:
    """Packets as one span (SPAN_TYPE) that does not continue another."""
    part = slice(run.first, run.last + 1)
    offset, size = packets.offset_bytes[part], packets.size_bytes[part]
    start = int(offset.min())
    return {
        "offset_bytes": video["member_offset_bytes"] + start,
        "size_bytes": int((offset + size).max()) - start,
        "packets": encode_packets(
            Packets(offset - start, size, packets.pts[part], packets.dts[part], packets.is_key[part])
        ),
        "continues": False,
    }
