"""The videos that the benchmarks run on: six kinds of files that people really have.

Some seconds are rendered and encoded. Then the encoded pictures are repeated to the wanted length, without another
decode or encode. The mp4 is kept in a cache.

Filler (NAL units that decoders skip) of 0 to 255 bytes a picture makes the repetitions differ in size. If packet sizes
repeated, an index would compress to a fraction of what real videos take.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.reading.scene import render

FPS = 30
MAKER_VERSION = 1  # part of the files' names; raise it with any change of their content
AUDIO_RATE_HZ = 48_000
AUDIO_BITS_PER_SECOND = 96_000
_AAC_SAMPLES = 1024
_TIME_BASE = Fraction(1, 30_000)


@dataclass(frozen=True)
class Kind:
    """A kind of file. `chunk_frames` frames are rendered and encoded, and then repeated."""

    about: str
    width: int
    height: int
    gop_frames: int
    bits_per_second: int
    chunk_frames: int
    codec: str = "libx264"
    open_gop: bool = False
    moov_first: bool = True
    audio: bool = False
    variable_rate: bool = False
    seconds: int = 120


KINDS = {
    "a": Kind("360p H.264, GOP 250, AAC, moov at the end", 640, 360, 250, 600_000, 1000, moov_first=False, audio=True,
              seconds=600),
    "b": Kind("360p H.264, GOP 60, moov first", 640, 360, 60, 600_000, 600, seconds=600),
    "c": Kind("720p H.264, GOP 250", 1280, 720, 250, 2_000_000, 500),
    "d": Kind("360p HEVC, open GOP 60", 640, 360, 60, 450_000, 480, codec="libx265", open_gop=True),
    "e": Kind("360p H.264, open GOP 60", 640, 360, 60, 600_000, 480, open_gop=True),
    "f": Kind("360p H.264, variable frame rate", 640, 360, 60, 600_000, 480, variable_rate=True),
}  # fmt: skip
# The word for each kind in the names of figures.
NAMES = {"a": "gop250", "b": "gop60", "c": "720p", "d": "hevc", "e": "h264_open_gop", "f": "vfr"}


def video(letter: str, folder: Path, seconds: int | None = None) -> Path:
    """The path of a video of a kind. It is made if it is missing, in 2 to 12 s on two cores."""
    kind = KINDS[letter]
    length = seconds or kind.seconds
    path = folder / f"{letter}-{length}s-v{MAKER_VERSION}.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        write_video(kind, part, length)
        part.rename(path)
    return path


def write_video(kind: Kind, file: Path | io.RawIOBase, seconds: float) -> None:
    """Encode one chunk and repeat it to about `seconds`, in whole chunks and at least one.

    `file` is a path, or a file that can be read, written and seeked.
    """
    chunk = io.BytesIO(encode_chunk(kind))
    movflags = {"movflags": "faststart"} if kind.moov_first else {}
    place = str(file) if isinstance(file, Path) else file
    with av.open(chunk) as source, av.open(place, "w", format="mp4", options=movflags) as out:
        stream = source.streams.video[0]
        packets = [p for p in source.demux(stream) if p.size]
        ticks = _chunk_ticks(kind)
        repeats = max(1, round(seconds * _TIME_BASE.denominator / ticks))
        target = out.add_stream_from_template(stream)
        tracks = [_repeated(packets, target, ticks, repeats, kind.codec)]
        if kind.audio:
            tracks.append(_audio(out, repeats * ticks * float(_TIME_BASE)))
        for _, packet in heapq.merge(*tracks, key=lambda each: each[0]):
            out.mux(packet)


@lru_cache(maxsize=2)
def encode_chunk(kind: Kind) -> bytes:
    """One chunk of a kind as an mp4. Its first picture is a closed start (IDR)."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"video_track_timescale": str(_TIME_BASE.denominator)}) as out:
        stream = out.add_stream(kind.codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, "yuv420p"
        stream.bit_rate = kind.bits_per_second
        stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.gop_size = kind.gop_frames
        stream.options = _encoder_options(kind)
        frames = render(kind.width, kind.height, kind.chunk_frames)
        for picture, pts in zip(frames, _pts(kind), strict=False):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = int(pts), _TIME_BASE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def _encoder_options(kind: Kind) -> dict[str, str]:
    """Default presets, with keyframes at fixed places, so that a GOP is as long as the kind says."""
    gop, is_open = kind.gop_frames, int(kind.open_gop)
    if kind.codec == "libx265":
        settings = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop={is_open}:log-level=none:pools=2"
        return {"preset": "fast", "x265-params": settings, "tag": "hvc1"}
    settings = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop={is_open}:bframes=3:threads=2"
    return {"preset": "medium", "x264-params": settings}


def _pts(kind: Kind) -> np.ndarray:
    """Presentation times of a chunk's pictures and its end, [chunk_frames + 1], in 1/30000 s.

    A variable rate jumps between 10 and 60 Hz, as in screen recordings and on phones. Both ends of a chunk are regular,
    so that decoding times keep rising from one repetition to the next.
    """
    steps = np.full(kind.chunk_frames, _TIME_BASE.denominator // FPS)
    if kind.variable_rate:
        inner = len(steps[8:-8])
        steps[8:-8] = np.random.default_rng(6).choice([500, 700, 1000, 1300, 3000], inner, p=[0.2, 0.2, 0.3, 0.2, 0.1])
    return np.concatenate([[0], np.cumsum(steps)])


def _chunk_ticks(kind: Kind) -> int:
    return int(_pts(kind)[-1])


def _repeated(
    packets: list[av.Packet], stream: Any, ticks: int, repeats: int, codec: str
) -> Iterator[tuple[float, av.Packet]]:
    """(decoding time in seconds, packet) of all repetitions; the first picture of each is an IDR picture."""
    random = np.random.default_rng(1)
    rows: list[Any] = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe, p.time_base) for p in packets]
    for repeat in range(repeats):
        for data, pts, dts, duration, is_key, base in rows:
            shift = int(repeat * ticks * _TIME_BASE / base)
            packet = av.Packet(data + _filler(codec, int(random.integers(256))))
            packet.stream, packet.time_base = stream, base
            packet.pts, packet.dts = pts + shift, dts + shift
            packet.duration, packet.is_keyframe = duration, is_key
            yield float((dts + shift) * base), packet


def _filler(codec: str, size_bytes: int) -> bytes:
    """A filler NAL unit (H.264 type 12, HEVC type 38) with its length in front, as mp4 holds them."""
    head = b"\x4c\x01" if codec == "libx265" else b"\x0c"
    body = head + b"\xff" * size_bytes + b"\x80"
    return len(body).to_bytes(4, "big") + body


def _audio(out: Any, seconds: float) -> Iterator[tuple[float, av.Packet]]:
    """(time in seconds, AAC packet): noise of varying loudness, so that packets differ in size as those of speech."""
    stream = out.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
    stream.bit_rate = AUDIO_BITS_PER_SECOND
    return _encoded_audio(stream, int(seconds * AUDIO_RATE_HZ / _AAC_SAMPLES))


def _encoded_audio(stream: Any, blocks: int) -> Iterator[tuple[float, av.Packet]]:
    random = np.random.default_rng(2)
    noise = random.standard_normal(1 << 20).astype(np.float32)
    loudness = 0.02 + 0.1 * np.abs(np.cumsum(random.standard_normal(blocks)) % 2 - 1)
    for block in range(blocks):
        start = int(random.integers(len(noise) - _AAC_SAMPLES))
        samples = noise[start : start + _AAC_SAMPLES] * np.float32(loudness[block])
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE_HZ, block * _AAC_SAMPLES, Fraction(1, AUDIO_RATE_HZ)
        yield from ((float(p.dts * p.time_base), p) for p in stream.encode(frame))
    yield from ((float(p.dts * p.time_base), p) for p in stream.encode(None))
