"""Footage for tests: where the real files lie, and small videos made on the spot.

The real footage is never part of the repository: it is found through ADAPTFOCUS_FOOTAGE or as ``shared/data`` in a
folder above this one, and tests that need it skip with a reason where it is absent.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest


def footage_folder() -> Path:
    """The folder with ``awkward/``, ``gmdcsa24/``, ``long/`` and ``signs/``; skips the test if there is none."""
    named = os.environ.get("ADAPTFOCUS_FOOTAGE")
    places = [Path(named)] if named else [p / "shared" / "data" for p in Path(__file__).resolve().parents]
    for place in places:
        if (place / "awkward").is_dir():
            return place
    pytest.skip(f"no real footage: set ADAPTFOCUS_FOOTAGE ({'not set' if not named else named + ' holds none'})")


MOST_OF_A_FOLDER = 24  # hundreds of clips of one encoder find no more than two dozen, in twenty times the time


def footage_files(suffixes: Collection[str] = (".mp4", ".mov", ".mkv")) -> list[Path]:
    """The real videos, sorted. A folder with more than MOST_OF_A_FOLDER gives that many of them, evenly spread."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(path for path in footage_folder().rglob("*") if path.suffix in suffixes):
        folders.setdefault(path.parent, []).append(path)
    chosen = []
    for files in folders.values():
        few = min(len(files), MOST_OF_A_FOLDER)
        chosen += [files[number * len(files) // few] for number in range(few)]
    return sorted(chosen)


def encode(
    num_frames: int = 40,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    rate_hz: int = 10,
    size: tuple[int, int] = (64, 48),
    options: Mapping[str, str] | None = None,
    b_frames: int = 0,
) -> bytes:
    """The bytes of a video whose frame i is a grey of 6 i."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream: Any = muxer.add_stream(codec, rate=rate_hz)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = dict(options or {})
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        for i in range(num_frames):
            grey = np.full((size[1], size[0], 3), i * 6 % 256, np.uint8)
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        muxer.mux(stream.encode())
    # As root, SVT-AV1 makes the whole process real-time, and every process that it starts from then on: the tests of
    # Ray beside it got what was left of the cores.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return out.getvalue()


def with_display_matrix(video: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """The mp4 with x' = a x + c y, y' = b x + d y (y downwards) written into its track header."""
    at = video.index(b"tkhd") + 4 + 40  # the fields of a version-0 header before the matrix
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return video[:at] + matrix + video[at + 36 :]


def cut_start(video: bytes, seconds: float) -> bytes:
    """The same packets with an edit list that hides the first `seconds`, as cameras and copying cutters write it."""
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(video)) as source,
        av.open(out, "w", format="mp4", options={"avoid_negative_ts": "disabled"}) as muxer,
    ):
        stream = muxer.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                muxer.mux(packet)
    return out.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """A tar with these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
