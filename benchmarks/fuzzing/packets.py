"""Videos whose packets and tables were edited in a consistent way, as editors, recorders and joins leave them.

The packets of a whole file are taken out and edited: dropped, repeated, reordered, given other times, cut, or followed
by those of another encoder. Then they are written again, by FFmpeg's muxers where these accept them, or as an mp4 of
our own, whose chunks, tables and edit lists can be anything.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.video.containers import TOLERANT
from benchmarks.fuzzing.base import Base
from benchmarks.fuzzing.mp4 import mp4_of, sample_description
from benchmarks.fuzzing.stream import Sample, Stream, stream_of

Random = np.random.Generator
OTHERS = 16


def edited(base: Base, every: Sequence[Base], random: Random) -> tuple[bytes, str]:
    """(bytes, suffix) of a video that was edited once or twice and written again."""
    stream = stream_of(base)
    if stream is None:
        return base.data, base.suffix
    for _ in range(int(random.integers(1, 3))):
        stream = _EDITS[int(random.integers(len(_EDITS)))](stream, every, random)
    if random.random() < 0.35:
        written = _muxed(base, stream, random)
        if written is not None:
            return written
    description = sample_description(base)
    if description is None:
        return _muxed(base, stream, random) or (base.data, base.suffix)
    return mp4_of(stream, [description, *_other_descriptions(stream, every)], random), ".mp4"


def _some_of(every: Sequence[Base]) -> Sequence[Base]:
    """Some files, including all encoders that were made here, which come last."""
    return [*every[:OTHERS], *every[-OTHERS:]]


def _other_descriptions(stream: Stream, every: Sequence[Base]) -> list[bytes]:
    there = [(stream_of(each), sample_description(each)) for each in _some_of(every)]
    return [found for other, found in there if other and found and other.codec == stream.codec]


# Edits of packets.


def _some(count: int, random: Random, at_most: int = 4) -> list[int]:
    return random.choice(count, size=min(count, int(random.integers(1, at_most + 1))), replace=False).tolist()


def _dropped(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    gone = set(_some(len(stream.samples), random))
    keys = [i for i, s in enumerate(stream.samples) if s.is_key]
    if random.random() < 0.3:  # a keyframe, perhaps the first
        gone.add(keys[int(random.integers(len(keys)))] if keys else 0)
    kept = tuple(s for i, s in enumerate(stream.samples) if i not in gone)
    return replace(stream, samples=kept or stream.samples)


def _twice(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    again = set(_some(len(stream.samples), random))
    samples = [s for i, s in enumerate(stream.samples) for s in ([s, s] if i in again else [s])]
    return replace(stream, samples=tuple(samples))


def _exchanged(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    """Packets in another order; their times move with them or stay."""
    samples = list(stream.samples)
    first = int(random.integers(len(samples)))
    end = min(len(samples), first + int(random.integers(2, 9)))
    part = samples[first:end]
    moved = [part[i] for i in random.permutation(len(part))]
    if random.random() < 0.5:
        moved = [replace(m, pts=p.pts, dts=p.dts) for m, p in zip(moved, part, strict=True)]
    samples[first:end] = moved
    return replace(stream, samples=tuple(samples))


def _other_times(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    """From some packet on: a gap, a step back, times that stand still, another rate, or a far start."""
    tick = stream.samples[0].duration
    at = int(random.integers(len(stream.samples)))
    what, by = random.integers(5), int(random.choice([1, 3, 10, 500, 100_000])) * tick
    samples = list(stream.samples)
    for i in range(at if what < 4 else 0, len(samples)):
        s = samples[i]
        if what == 0 or what == 4:
            samples[i] = replace(s, pts=s.pts + by, dts=s.dts + by)
        elif what == 1:
            samples[i] = replace(s, pts=s.pts - by, dts=s.dts - by)
        elif what == 2 and i < at + 3:
            samples[i] = replace(s, pts=samples[at].pts, dts=s.dts)
        elif what == 3:
            samples[i] = replace(s, pts=s.pts + (i - at) * tick // 2, dts=s.dts + (i - at) * tick // 2)
    return replace(stream, samples=tuple(samples))


def _cut(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    """A part of the stream, which need not begin with a keyframe."""
    first = int(random.integers(len(stream.samples))) if random.random() < 0.5 else 0
    end = int(random.integers(first + 1, len(stream.samples) + 1))
    return replace(stream, samples=stream.samples[first:end])


def _false_keys(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    """Packets that are wrongly marked as keyframes, or wrongly not marked."""
    what, chosen = random.integers(3), set(_some(len(stream.samples), random))
    flags = [(s.is_key ^ (i in chosen), i == 0, True)[what] for i, s in enumerate(stream.samples)]
    return replace(stream, samples=tuple(replace(s, is_key=k) for s, k in zip(stream.samples, flags, strict=True)))


def _cut_packets(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    """Packets that end early, are empty, or hold two packets."""
    samples, what = list(stream.samples), random.integers(3)
    for i in _some(len(samples), random):
        s = samples[i]
        data = (s.data[: int(random.integers(len(s.data) + 1))], s.data[:4], s.data + samples[i - 1].data)[what]
        samples[i] = replace(s, data=data)
    return replace(stream, samples=tuple(samples))


def _followed_by_another(stream: Stream, every: Sequence[Base], random: Random) -> Stream:
    """Packets of another encoder from some place on: other parameter sets under the same header."""
    found = [other for other in map(stream_of, _some_of(every)) if other and other.codec == stream.codec]
    others = [other for other in found if other.extradata != stream.extradata]
    if not others:
        return stream
    other = others[int(random.integers(len(others)))]
    at = int(random.integers(1, len(stream.samples) + 1))
    before = stream.samples[:at]
    pts = max(s.pts + s.duration for s in before)
    first, tick = other.samples[0], before[0].duration
    scale = tick / first.duration
    lead = parameter_sets(other) if random.random() < 0.7 else b""
    after = [
        Sample(
            (lead if s.is_key else b"") + s.data, pts + round((s.pts - first.pts) * scale),
            pts + round((s.dts - first.pts) * scale), tick, s.is_key,
        )
        for s in other.samples[: int(random.integers(1, 40))]
    ]  # fmt: skip
    rest = stream.samples[at:] if random.random() < 0.3 else ()
    end = max(s.pts for s in after) + tick
    back = tuple(replace(s, pts=s.pts + end - pts, dts=s.dts + end - pts) for s in rest)
    return replace(stream, samples=(*before, *after, *back))


def _with_its_sets(stream: Stream, _: Sequence[Base], random: Random) -> Stream:
    """The stream's own parameter sets in its keyframes as well as in the header, or only there."""
    lead = parameter_sets(stream)
    samples = tuple(replace(s, data=(lead if s.is_key else b"") + s.data) for s in stream.samples)
    return replace(stream, samples=samples)


_EDITS: tuple[Callable[[Stream, Sequence[Base], Random], Stream], ...] = (
    _dropped, _twice, _exchanged, _other_times, _other_times, _cut, _false_keys, _cut_packets, _followed_by_another,
    _followed_by_another, _with_its_sets, lambda stream, every, random: stream,
)  # fmt: skip


def parameter_sets(stream: Stream) -> bytes:
    """SPS and PPS of an avcC as length-prefixed units; empty for other codecs."""
    data = stream.extradata
    if stream.codec != "h264" or data[:1] != b"\x01" or len(data) < 8:
        return b""
    sets, at = b"", 6
    for count in (data[5] & 31, None):
        if count is None:
            count, at = data[at], at + 1
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            sets += size.to_bytes(4, "big") + data[at + 2 : at + 2 + size]
            at += 2 + size
    return sets


# Writing.

_FORMATS = (("matroska", ".mkv", {}), ("mpegts", ".ts", {}), ("avi", ".avi", {}), ("mov", ".mov", {}),
            ("mp4", ".mp4", {"movflags": "frag_keyframe+empty_moov"}), ("mp4", ".mp4", {"movflags": "faststart"}),
            ("flv", ".flv", {}), ("mp4", ".mp4", {"use_editlist": "0"}))  # fmt: skip


def _muxed(base: Base, stream: Stream, random: Random) -> tuple[bytes, str] | None:
    """The stream as FFmpeg writes it; None where its muxer refuses."""
    name, suffix, options = _FORMATS[int(random.integers(len(_FORMATS)))]
    out = io.BytesIO()
    try:
        with (
            av.open(io.BytesIO(base.data), **TOLERANT) as source,
            av.open(out, "w", format=name, options=dict(options)) as muxer,
        ):
            track = muxer.add_stream_from_template(source.streams.video[0])
            for s in stream.samples:
                packet = av.Packet(s.data)
                packet.stream, packet.pts, packet.dts, packet.duration = track, s.pts, s.dts, s.duration
                packet.time_base = Fraction(1, stream.ticks_a_second)
                packet.is_keyframe = s.is_key
                muxer.mux_one(packet)
    except (FFmpegError, ValueError, OverflowError):
        return None
    return out.getvalue(), suffix
