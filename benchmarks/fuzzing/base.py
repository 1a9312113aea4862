"""Whole files to break: real ones where there are any, and small ones of containers and codecs that FFmpeg writes here.

Small files of the folder of footage are read. The others are encoded from noise, so that no two frames are alike. The
order is fixed.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".ts", ".webm")
HEADER_BYTES = 4096  # at both ends of a file that is not an mp4
MADE_FRAMES, MADE_GOP = 36, 9
_H264 = {"bf": "2", "x264-params": "keyint=9:min-keyint=9:scenecut=0"}
_OPEN = {"bf": "2", "x264-params": "keyint=9:min-keyint=9:scenecut=0:open-gop=1"}
_HEVC = {"x265-params": "log-level=none:pools=none:frame-threads=1:keyint=9:min-keyint=9"}
# Name, container, encoder, options. A codec occurs several times, so that a file can continue with another's packets.
MADE = (
    ("made.mp4", "mp4", "libx264", _H264), ("made-plain.mp4", "mp4", "libx264", {"bf": "0", "g": "9"}),
    ("made-open.mp4", "mp4", "libx264", _OPEN), ("made-cabac-off.mp4", "mp4", "libx264", {**_H264, "coder": "0"}),
    ("made.mkv", "matroska", "libx264", _H264), ("made.ts", "mpegts", "libx264", _H264),
    ("made.avi", "avi", "mpeg4", {}),
    ("made-b.avi", "avi", "mpeg4", {"bf": "2"}), ("made.webm", "webm", "libvpx", {"g": "9"}),
    ("made-vp9.mp4", "mp4", "libvpx-vp9", {"g": "9", "cpu-used": "8"}), ("made-mpeg4.mp4", "mp4", "mpeg4", {"bf": "2"}),
    ("made-hevc.mov", "mov", "libx265", _HEVC), ("made-hevc.mkv", "matroska", "libx265", _HEVC),
    ("made-mpeg2.ts", "mpegts", "mpeg2video", {"bf": "2"}), ("made-mjpeg.mov", "mov", "mjpeg", {}),
    ("made-ffv1.mkv", "matroska", "ffv1", {}),
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A whole file to break."""

    name: str  # with its suffix
    data: bytes
    headers: tuple[tuple[int, int], ...]  # (start, end) of the parts that are not media

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix


def footage_folder() -> Path | None:
    """The folder of real files, found as the tests find it."""
    named = os.environ.get("ADAPTFOCUS_FOOTAGE")
    places = [Path(named)] if named else [p / "shared" / "data" for p in Path(__file__).resolve().parents]
    return next((place for place in places if (place / "awkward").is_dir()), None)


def bases(folder: Path | None, max_bytes: int) -> list[Base]:
    """All real files up to a size, in a fixed order, then small ones of the containers that these lack."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES) if folder else []
    files = {path.name: path.read_bytes() for path in found if path.stat().st_size <= max_bytes}
    for number, (name, container, codec, options) in enumerate(MADE):
        files[name] = _made(number, container, codec, options)
    return [Base(name, data, _headers(data)) for name, data in files.items()]


def _made(seed: int, container: str, codec: str, options: dict[str, str]) -> bytes:
    out, random = io.BytesIO(), np.random.default_rng(seed)
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate=10)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = MADE_GOP
        stream.codec_context.options = options
        for _ in range(MADE_FRAMES):
            picture = random.integers(0, 255, (4, 6, 3), np.uint8).repeat(16, 0).repeat(16, 1)
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        muxer.mux(stream.encode(None))
    return out.getvalue()


def _headers(data: bytes) -> tuple[tuple[int, int], ...]:
    ends = (min(HEADER_BYTES, len(data)), max(0, len(data) - HEADER_BYTES))
    moov = data.find(b"moov")
    if data[4:8] == b"ftyp" and moov > 4:
        size = int.from_bytes(data[moov - 4 : moov], "big")
        return ((moov - 4, min(len(data), moov - 4 + max(size, 8))), (0, min(64, len(data))))
    return ((0, ends[0]), (ends[1], len(data)))
