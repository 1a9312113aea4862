"""Makes videos of a moving texture, in which all frames differ, and finds out what a player shows of them.

The reference does not use the code under test: it is a plain decode from the first packet, with planes cut out by numpy
and one reformat of each frame.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from adaptfocus.pipelines.index.rows import _stream_columns
from adaptfocus.pipelines.inspection.packet_table import main_video_stream, read_packet_table

# Small versions of the six files that docs/performance.md measures, and streams that mark their pictures differently.
X264 = "bframes=3:b-pyramid=normal:weightp=2:ref=4:scenecut=0"
KINDS: dict[str, dict[str, Any]] = {
    "gop-250-moov-last-aac": {"options": {"x264-params": f"keyint=250:{X264}"}, "num_frames": 280, "audio": True},
    "gop-60-faststart": {"options": {"x264-params": f"keyint=60:{X264}"}, "num_frames": 200, "flags": "faststart"},
    "720p": {"options": {"preset": "ultrafast", "x264-params": "keyint=250:bframes=2"}, "num_frames": 60,
             "size": (1280, 720)},
    "hevc-open-gop": {"codec": "libx265", "options": {"x265-params": "keyint=24:open-gop=1:log-level=none"}},
    "hevc-three-layers": {"codec": "libx265", "options": {
        "x265-params": "keyint=48:temporal-layers=3:b-adapt=0:bframes=7:log-level=none"}},
    "h264-open-gop": {"options": {"x264-params": f"keyint=24:open-gop=1:{X264}"}},
    "variable-rate": {"options": {"x264-params": f"keyint=40:{X264}"}, "variable": True},
    "headers-in-every-keyframe": {"options": {"x264-params": f"keyint=20:repeat-headers=1:{X264}"}},
    "interlaced": {"options": {"x264-params": f"keyint=40:tff=1:{X264}"}, "size": (144, 112)},
    "bt709": {"options": {"x264-params": f"keyint=40:colormatrix=bt709:{X264}"}},
    "full-range": {"pixel_format": "yuvj420p", "options": {"x264-params": f"keyint=40:{X264}"}},
    "10-bit": {"pixel_format": "yuv420p10le", "options": {"x264-params": f"keyint=40:{X264}"}},
    "4-4-4-odd": {"pixel_format": "yuv444p", "options": {"x264-params": f"keyint=40:{X264}"}, "size": (131, 97)},
    "mpeg4": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "mpeg2": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "mjpeg": {"codec": "mjpeg", "pixel_format": "yuvj420p", "num_frames": 60},
}  # fmt: skip


def texture(number: int, size: tuple[int, int]) -> np.ndarray:
    """RGB [H, W, 3]: colours that drift, with a patch of noise that no other frame has."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    waves = [
        np.sin((x * a + y * b) / 9 + number * c) for a, b, c in ((1, 0.3, 0.21), (0.2, 1, 0.13), (0.7, -0.6, 0.34))
    ]
    picture = (np.stack(waves, axis=2) * 90 + 128).astype(np.uint8)
    patch = np.random.default_rng(number).integers(0, 255, (size[1] // 3, size[0] // 3, 3), dtype=np.uint8)
    picture[size[1] // 3 :, size[0] // 3 :][: patch.shape[0], : patch.shape[1]] = patch
    return picture


def moving(
    path: Path,
    *,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    num_frames: int = 110,
    size: tuple[int, int] = (128, 96),
    pixel_format: str = "yuv420p",
    rate_hz: int = 25,
    variable: bool = False,
    audio: bool = False,
    flags: str = "",
    container: str | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Encode a moving texture.

    `variable` leaves out frames irregularly, `audio` interleaves a tone, `aspect` is a pixel's width by its height.
    """
    with av.open(str(path), "w", format=container, options={"movflags": flags} if flags else {}) as muxer:
        stream: Any = muxer.add_stream(codec, rate=rate_hz, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.thread_count = 1
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        sound: Any = muxer.add_stream("aac", rate=16000) if audio else None
        for number in range(num_frames):
            if variable and number % 7 in (2, 3):
                continue
            frame = av.VideoFrame.from_ndarray(texture(number, size), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate_hz)
            muxer.mux(stream.encode(frame))
            if sound:
                tone = av.AudioFrame.from_ndarray(np.full((1, 640), number % 5 / 9, np.float32), "fltp", "mono")
                tone.sample_rate, tone.pts = 16000, number * 640
                muxer.mux(sound.encode(tone))
        muxer.mux(stream.encode())
        if sound:
            muxer.mux(sound.encode())
    return path


def kind(name: str, folder: Path) -> Path:
    """A video of one of KINDS."""
    return moving(folder / f"{name}.{'mov' if name == 'mjpeg' else 'mp4'}", **KINDS[name])


def indexed(path: Path) -> dict[str, Any]:
    """A file as a row of the index, itself its own shard."""
    size = path.stat().st_size
    with path.open("rb") as file:
        columns = _stream_columns(read_packet_table(file, size))
    return columns | {
        "video_id": path.stem, "shard_url": str(path), "member_name": path.name, "member_offset_bytes": 0,
        "member_size_bytes": size,
    }  # fmt: skip


def sequential(path: Path) -> dict[int, av.VideoFrame]:
    """pts -> frame of a plain decode from the beginning, as any player does it; packets that fail are skipped."""
    frames: dict[int, av.VideoFrame] = {}
    with av.open(str(path)) as container:
        stream = main_video_stream(container)
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            with contextlib.suppress(av.FFmpegError):
                frames.update((frame.pts, frame) for frame in packet.decode())
    return frames


def cut_by_numpy(frame: av.VideoFrame, crop_fraction: float, place: float = 0) -> av.VideoFrame:
    """A square of a planar frame, as a new frame; `place` is its way from the middle to an end of the width."""
    step = 4 if frame.interlaced_frame else 2
    side = int(min(frame.width, frame.height) * crop_fraction + 0.5) // step * step
    if (side, side) == (frame.width, frame.height):
        return frame
    left, top = ((length - side) // 2 // step * step for length in (frame.width, frame.height))
    left = int((frame.width - side) * (1 + place) / 2) // step * step if place else left
    square = frame.reformat(width=side, height=side, threads=1)  # for its colours and places of chroma, not its pixels
    deep = 2 if frame.format.components[0].bits > 8 else 1
    for source, target in zip(frame.planes, square.planes, strict=True):
        shift = 0 if target.width == side else 1
        rows = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)
        cut = rows[top >> shift :, (left >> shift) * deep :][: target.height, : target.width * deep]
        padded = np.zeros((target.height, target.line_size), np.uint8)
        padded[:, : target.width * deep] = cut
        target.update(padded.tobytes().ljust(target.buffer_size, b"\0"))
    return square


def expected_rgb(
    frame: av.VideoFrame, size: int, rotation_degrees: int = 0, crop_fraction: float = 1.0, place: float = 0
) -> np.ndarray:
    """uint8 [3, size, size]."""
    square = cut_by_numpy(frame, crop_fraction, place)
    # Without scaling, swscale's fast path writes rubbish at the right where the width is not a multiple of 16.
    how = Interpolation.BILINEAR | Interpolation.ACCURATE_RND if square.width == size else None
    made = square.reformat(width=size, height=size, format="gbrp", interpolation=how, threads=1)
    rgb = made.to_ndarray(format="gbrp", channel_last=False)
    rgb = rgb if rgb.shape[0] == 3 else rgb.transpose(2, 0, 1)
    return np.rot90(rgb, rotation_degrees // 90, axes=(1, 2))


def bags_of(video: dict[str, Any], clips_each: Sequence[int], frames: int, seed: int = 0) -> list[dict[str, Any]]:
    """Bags of random clips (strides of 1 to 20 frames) with their spans."""
    from adaptfocus.pipelines.plan.resolve import bare_bag
    from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts

    random, packets = np.random.default_rng(seed), packets_of(video)
    shown, bags = shown_pts(video, packets), []
    for count in clips_each:
        strides = random.choice([1, 2, 3, 3, 7, 20], count) / video["frame_rate_hz"]
        starts = random.random(count) * np.maximum(video["duration_seconds"] - frames * strides, 0.01)
        times = [start + np.arange(frames) * stride for start, stride in zip(starts, strides, strict=True)]
        bags.append(bare_bag(video, *find_clips(video, packets, shown, times)))
    return bags


def data_of(bag: dict[str, Any]) -> list[bytes]:
    """The bytes of a bag's spans, from the file."""
    with Path(bag["shard_url"]).open("rb") as file:
        file_bytes = io.BytesIO(file.read()).getbuffer()
    return [bytes(file_bytes[s["offset_bytes"] : s["offset_bytes"] + s["size_bytes"]]) for s in bag["spans"]]
