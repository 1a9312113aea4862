"""A clip whose packets are copied: nothing is decoded, and every picture is the source's own."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.decode.member import main_stream, opened, seek_before
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.video.display import fraction_of
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.pipelines.video.spans import Run

# What an mp4 holds and players decode.
COPIED_CODECS = frozenset(["h264", "hevc", "av1", "vp9", "mpeg4"])


def packets_to_copy(
    video: Mapping[str, Any], packets: Packets, wanted_pts: np.ndarray, slack_seconds: float
) -> Run | None:
    """The packets that show the wanted frames and may stand alone; None if there are none.

    They begin with the last keyframe shown at or before the first wanted frame, and at most `slack_seconds` before it.
    Nothing that is decoded after the keyframe is shown before it (as in an open GOP), and the frames shown have no
    gap.
    """
    if video.get("recovery_ticks") or video["access"] == "sequential":
        return None
    pts = packets.pts
    keys = np.flatnonzero(packets.is_key & (pts <= wanted_pts[0]))
    if not len(keys):
        return None
    first = int(keys[-1])
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    if (wanted_pts[0] - pts[first]) * tick > slack_seconds + 1e-9:
        return None
    if (pts[first + 1 :] <= pts[first]).any() or (pts[:first] >= pts[first]).any():
        return None
    last = first + int(np.flatnonzero(pts[first:] <= wanted_pts[-1])[-1])
    # A picture may be decoded before others that are shown before it: these come along.
    while len(behind := np.flatnonzero(pts[last + 1 :] < pts[first : last + 1].max())):
        last += 1 + int(behind[-1])
    return Run(first, last)


def copy_packets(video: Mapping[str, Any], packets: Packets, run: Run, member: RangeFile) -> bytes | None:
    """An mp4 of a run of packets; None if the container gives others, or an mp4 cannot hold them.

    Raises:
        BadVideoError: no_video_stream, unknown_codec. StorageError: the member cannot be read.
    """
    out = io.BytesIO()
    try:
        with opened(member) as container:
            stream = main_stream(container)
            if stream.codec_context.codec.canonical_name not in COPIED_CODECS or not _aspect_is_inside(video, stream):
                return None
            with av.open(out, "w", format="mp4", options=timescale_of(video)) as muxer:
                target = muxer.add_stream_from_template(stream)
                left = run.last + 1 - run.first
                for packet in _from(container, stream, packets, run):
                    packet.stream = target
                    muxer.mux(packet)
                    left -= 1
                if left:
                    return None
    except (FFmpegError, ValueError):
        return None
    return out.getvalue()


def timescale_of(video: Mapping[str, Any]) -> dict[str, str]:
    """Options of the muxer with which an mp4 keeps the source's times exactly."""
    return {"video_track_timescale": str(video["time_base_denominator"])} if video["time_base_numerator"] == 1 else {}


def _from(container: Any, stream: Any, packets: Packets, run: Run) -> Iterator[Any]:
    """The container's packets of the run, timed from its keyframe. They end early where the container has others."""
    start = int(packets.pts[run.first])
    seek_before(container, stream, start)
    at = run.first
    for packet in container.demux(stream):
        if at == run.first and not (packet.is_keyframe and packet.pts == start):
            if packet.dts is not None and packet.dts > packets.dts[run.first]:
                return
            continue
        if not packet.size or packet.is_discard or packet.is_corrupt or packet.pts != packets.pts[at]:
            return
        packet.pts, packet.dts = int(packets.pts[at]) - start, int(packets.dts[at]) - start
        yield packet
        if at == run.last:
            return
        at += 1


def _aspect_is_inside(video: Mapping[str, Any], stream: Any) -> bool:
    """Whether the stream itself, which is copied, states the shape of its pixels, and not only the container."""
    said = Fraction(video["pixel_aspect_numerator"], video["pixel_aspect_denominator"])
    return (fraction_of(stream.codec_context.sample_aspect_ratio) or Fraction(1)) == said
