"""From wanted times to the packets that hold them.

Input: one video's packet table and the times of a clip's frames.
Does: finds the frames on display at those times, the keyframe to start from, and the one range of bytes to fetch.
Output: the byte range and packets of a clip, as the plan stores them.
"""

from __future__ import annotations

import numpy as np

# A request for a time that is a frame's own is answered with that frame, not the one before it, although both
# went through floating point: a microsecond is far below any frame's duration and far above the rounding.
EPSILON_SECONDS = 1e-6
NO_PACKETS = {
    "offset_bytes": 0, "size_bytes": 0, "packet_offset_bytes": [], "packet_size_bytes": [], "packet_pts": [],
    "packet_dts": [],
}  # fmt: skip


def shown_pts(video: dict) -> np.ndarray:
    """Presentation times of the frames that can be shown, sorted, in the stream's time base.

    Time zero of a video is the first of them. Pictures before the first keyframe (a stream cut inside an open GOP)
    cannot be decoded from packets, so they are not among them; where a demuxer reads the video, the table already
    holds just what it shows.
    """
    pts = np.asarray(video["packet_pts"], np.int64)
    if video["access"] == "packets":
        pts = pts[pts >= pts[np.asarray(video["packet_is_key"], bool)].min()]
    return np.sort(pts)


def clip_packets(video: dict, shown: np.ndarray, times_seconds: np.ndarray) -> dict:
    """The frames on display at `times_seconds` (clamped to the video) and the packets that decode to them.

    The start is the last keyframe, in decoding order, whose own pts is not after the first frame wanted: pictures
    that lead an open GOP's keyframe are never wanted from it. The end is the last wanted frame's packet.
    """
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    at = np.searchsorted((shown - shown[0]) * tick, times_seconds + EPSILON_SECONDS, side="right") - 1
    wanted = shown[np.clip(at, 0, len(shown) - 1)]
    if video["access"] != "packets":
        return {"frame_pts": wanted.tolist()} | NO_PACKETS
    pts = np.asarray(video["packet_pts"], np.int64)
    offset = np.asarray(video["packet_offset_bytes"], np.int64)
    size = np.asarray(video["packet_size_bytes"], np.int64)
    last = int(np.flatnonzero(np.isin(pts, wanted)).max())
    keys = np.flatnonzero(np.asarray(video["packet_is_key"], bool) & (pts <= wanted.min()))
    first = int(keys[keys <= last].max(initial=0))
    part = slice(first, last + 1)
    start = int(offset[part].min())
    return {
        "frame_pts": wanted.tolist(),
        "offset_bytes": video["member_offset_bytes"] + start,
        "size_bytes": int((offset[part] + size[part]).max()) - start,
        "packet_offset_bytes": (offset[part] - start).tolist(),
        "packet_size_bytes": size[part].tolist(),
        "packet_pts": pts[part].tolist(),
        "packet_dts": list(video["packet_dts"][first : last + 1]),
    }
