"""A video without its container: the packets at the start of a file and their times, which can be edited."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import av
from av.error import FFmpegError

from adaptfocus.pipelines.video.containers import TOLERANT
from benchmarks.fuzzing.base import Base

MAX_PACKETS = 120


@dataclass(frozen=True)
class Sample:
    """A packet; times in ticks of its stream."""

    data: bytes
    pts: int
    dts: int
    duration: int
    is_key: bool


@dataclass(frozen=True)
class Stream:
    """A video without its container."""

    codec: str
    extradata: bytes
    width: int
    height: int
    ticks_a_second: int
    samples: tuple[Sample, ...]


@cache
def stream_of(base: Base) -> Stream | None:
    """The video of a whole file; None if it has no packets with times, or cannot be read."""
    try:
        return _read(base)
    except FFmpegError:
        return None


def _read(base: Base) -> Stream | None:
    with av.open(io.BytesIO(base.data), **TOLERANT) as container:
        (stream, *_) = container.streams.video or [None]
        if stream is None or stream.codec_context is None or not stream.time_base:
            return None
        packets = [p for p in container.demux(stream) if p.size and p.pts is not None][:MAX_PACKETS]
        # Matroska lacks the first decoding times.
        first = next((p.dts for p in packets if p.dts is not None), 0)
        missing = sum(p.dts is None for p in packets)
        samples = [
            Sample(
                bytes(p),
                p.pts,
                p.dts if p.dts is not None else first - (missing - number),
                p.duration or 1,
                p.is_keyframe,
            )
            for number, p in enumerate(packets)
        ]
        context = stream.codec_context
        extradata = bytes(context.extradata or b"")
        ticks = round(1 / stream.time_base)
        size = (context.width, context.height)
        return Stream(context.name, extradata, *size, ticks, tuple(samples)) if samples else None
