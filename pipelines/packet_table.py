"""One video's packets: where each lies, when it is shown, and how to decode them without the container.

Input: a seekable file of one video (a member of a tar read through storage.RangeFile).
Does: demuxes it once, decodes until the first frame, checks that the packets' bytes are the file's bytes.
Output: PacketTable; BadVideoError with a stable kind for every video that cannot be used.

Every pts of the table is that of a frame that a viewer sees. Left out are packets that an edit list hides (flagged
*discard*: decoded, never shown), VP8's hidden references, and what is cut off from its references at the start.

What `access` promises. "packets": the file's bytes at (offset, size) are the packets, all of them decode with the one
`extradata`, nothing that a shown frame refers to is left out, and the first frame has been decoded that way.
"demux": the reader has to open the container, which knows its own keyframes. Hidden packets mean "demux", because
frames that are shown may refer to them; the table's first entry need not be a keyframe then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from pipelines.errors import BadVideoError

MAX_SIDE_PIXELS = 16384  # 8K is 7680; H.264 level 6.2 ends at 16384
MAX_PACKETS = 10_000_000  # 46 hours at 60 Hz; the arrays of such a table take 330 MB
MAX_EXTRADATA_BYTES = 1 << 20  # parameter sets are some hundred bytes
MAX_PACKETS_TO_FIRST_FRAME = 256  # an open GOP at a cut stream's start; decoders hold back at most 16 frames
PROVED_FRAMES = 32  # of containers other than mp4, see `_prove`

# Containers that keep samples unchanged in one place and never store decoder settings inside them.
_SAMPLE_TABLE_FORMAT = "mov,mp4,m4a,3gp,3g2,mj2"
# "av1" is FFmpeg's decoder for graphics cards only: a bare context of that name decodes nothing in software.
_SOFTWARE_DECODER = {"av1": "libdav1d"}


@dataclass(frozen=True)
class PacketTable:
    """The main video stream of one file; arrays are [packets], in decoding order."""

    codec: str  # for av.CodecContext.create(codec, "r")
    extradata: bytes
    width: int
    height: int
    rotation_degrees: int  # 0, 90, 180 or 270, counter-clockwise, to be applied after decoding
    time_base_numerator: int
    time_base_denominator: int
    duration_seconds: float  # from the first frame shown to the end of the last
    frame_rate_hz: float  # mean
    access: str  # "packets" or "demux"
    indexed_by: str  # "header": from the container's tables; "demux": every packet was read
    offset_bytes: np.ndarray  # int64, from the file's first byte; -1 where the container does not tell
    size_bytes: np.ndarray  # int32
    pts: np.ndarray  # int64, in the time base
    dts: np.ndarray  # int64
    is_key: np.ndarray  # bool

    @property
    def keys_in_order(self) -> bool:
        """Whether each keyframe is shown in the place in which it is decoded (no open GOPs)."""
        keys = np.flatnonzero(self.is_key)
        return bool((np.searchsorted(np.sort(self.pts), self.pts[keys]) == keys).all())


def main_video_stream(container: Any) -> Any:
    """The stream that is indexed and read: FFmpeg's best video stream, never a cover picture; None if there is none."""
    best = container.streams.best("video")
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return best if best in videos else next(iter(videos), None)


def read_packet_table(file: BinaryIO, size_bytes: int) -> PacketTable:
    """Demux one video of `size_bytes` once.

    Raises:
        BadVideoError: unreadable_video, no_video_stream, no_packets, encrypted, absurd_size, too_many_packets,
            unreliable_timestamps.
        StorageError: the bytes cannot be fetched; that says nothing about the video.
    """
    try:
        with av.open(file, metadata_errors="replace") as container:
            stream = main_video_stream(container)
            if stream is None:
                kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise BadVideoError("no_video_stream", f"there is no video stream in it, only {kinds}")
            _check_stream(stream)
            walk = _demux(container, stream, file)
            return _table(container, stream, walk, file, size_bytes)
    except FFmpegError as error:
        raise BadVideoError("unreadable_video", f"it cannot be read: {error.strerror}") from None
    except (ValueError, OverflowError, UnicodeError) as error:  # PyAV's own, on headers no encoder writes
        raise BadVideoError("unreadable_video", f"it cannot be read: {error}") from None


@dataclass
class _Walk:
    """What one pass over the packets found."""

    rows: list[tuple[int, int, int | None, int | None, int, bool, bool]]  # pos, size, pts, dts, duration, key, hidden
    shown_pts: list[int | None]  # of the first frames that came out of the decoder
    rotation_degrees: int
    same_bytes: bool
    new_extradata: bool


def _check_stream(stream: Any) -> None:
    context = stream.codec_context
    if context is None:
        raise BadVideoError("unreadable_video", "its codec is unknown to FFmpeg; convert the video to H.264")
    if not (0 < context.width <= MAX_SIDE_PIXELS and 0 < context.height <= MAX_SIDE_PIXELS):
        raise BadVideoError(
            "absurd_size", f"its frames are {context.width} x {context.height}; a side may be 1 to {MAX_SIDE_PIXELS}"
        )
    if len(context.extradata or b"") > MAX_EXTRADATA_BYTES:
        raise BadVideoError(
            "absurd_size",
            f"its decoder settings take {len(context.extradata)} bytes; the limit is {MAX_EXTRADATA_BYTES}",
        )
    context.thread_count = 1  # frames come out as early as they can, and shards are the unit of parallel work


def _demux(container: Any, stream: Any, file: BinaryIO) -> _Walk:
    walk = _Walk([], [], 0, True, False)
    frames_wanted = 1 if container.format.name == _SAMPLE_TABLE_FORMAT else PROVED_FRAMES
    failure = "no frame came out of the decoder"
    for packet in container.demux(stream):
        if packet.size:
            if packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info"):
                raise BadVideoError("encrypted", "its packets are encrypted (cenc or cbcs); decrypt the video first")
            if len(walk.rows) >= MAX_PACKETS:
                raise BadVideoError("too_many_packets", f"it has more than {MAX_PACKETS:,} packets; cut it into parts")
            _note(walk, packet, stream, file)
        if len(walk.shown_pts) < frames_wanted and len(walk.rows) <= MAX_PACKETS_TO_FIRST_FRAME + frames_wanted:
            failure = _decode(walk, packet) or failure
    if not walk.rows:
        raise BadVideoError("no_packets", "its video stream holds no packets (a bare initialisation segment?)")
    if not walk.shown_pts:
        raise BadVideoError("unreadable_video", f"its start cannot be decoded: {failure}")
    return walk


def _note(walk: _Walk, packet: Any, stream: Any, file: BinaryIO) -> None:
    """Add a packet, and compare its bytes with the file's: cheap, because the block was fetched just now."""
    offset_bytes = -1 if packet.pos is None else packet.pos
    if walk.same_bytes:
        resume_at = file.tell()  # the demuxer reads on from here
        file.seek(max(offset_bytes, 0))
        walk.same_bytes = offset_bytes >= 0 and file.read(packet.size) == bytes(packet)
        file.seek(resume_at)
    walk.new_extradata |= packet.has_sidedata("new_extradata")
    hidden = packet.is_discard or _is_vp8_altref(stream, packet)
    walk.rows.append(
        (offset_bytes, packet.size, packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, hidden)
    )


def _is_vp8_altref(stream: Any, packet: Any) -> bool:
    """VP8 keeps hidden reference frames as packets of their own, with a pts that no viewer sees (RFC 6386, 9.1)."""
    return stream.codec_context.codec.canonical_name == "vp8" and not memoryview(packet)[0] & 0x10


def _decode(walk: _Walk, packet: Any) -> str | None:
    """Decode one packet; what went wrong, or None. A stream that was cut may start with packets that fail."""
    try:
        frames = packet.decode()
    except FFmpegError as error:
        return str(error.strerror)
    for frame in frames:
        if not walk.shown_pts:
            walk.rotation_degrees = _rotation(frame)
        walk.shown_pts.append(frame.pts)
    return None


def _rotation(frame: Any) -> int:
    """The display matrix as whole quarter turns, counter-clockwise.

    A matrix that also mirrors (front cameras) is taken as the turn that puts the picture upright: FFmpeg's own angle
    of a picture mirrored left to right is 180 degrees, which would stand it on its head.
    """
    for data in frame.side_data:
        if data.type == SideDataType.DISPLAYMATRIX and data.buffer_size >= 36:
            matrix = np.frombuffer(bytes(data), dtype=np.int32, count=9)[[0, 1, 3, 4]].astype(np.float64)
            a, b, c, d = matrix  # x' = a x + c y, y' = b x + d y, with y downwards
            if a * d - b * c < 0:
                a, c = -a, -c
            if a == b == 0:
                return 0  # all zero: no transformation was ever set
            return int(round(-np.degrees(np.arctan2(b, a)) / 90.0) * 90) % 360
    return 0


def _table(container: Any, stream: Any, walk: _Walk, file: BinaryIO, size_bytes: int) -> PacketTable:
    offsets, sizes, pts, dts, durations, keys, hidden = zip(*walk.rows, strict=True)
    shown = ~np.array(hidden)
    if any(value is None for value in pts) or not shown.any():
        what = f"{sum(value is None for value in pts)} of {len(pts)} packets have no presentation time"
        raise BadVideoError("unreliable_timestamps", f"{what}; remux it: ffmpeg -fflags +genpts -i IN -c copy OUT.mp4")
    _prove(walk, {value for value in pts if value is not None})
    arrays = {
        "offset_bytes": np.array(offsets, dtype=np.int64),
        "size_bytes": np.array(sizes, dtype=np.int32),
        "pts": np.array(pts, dtype=np.int64),
        "dts": _filled_dts(dts),
        "is_key": np.array(keys, dtype=bool),
    }
    shown &= _decodable(arrays["pts"], arrays["is_key"])
    context, base = stream.codec_context, stream.time_base
    canonical: str = context.codec.canonical_name
    codec = _SOFTWARE_DECODER.get(canonical, canonical)
    extradata = bytes(context.extradata or b"")
    is_plain = container.format.name == _SAMPLE_TABLE_FORMAT and walk.same_bytes and not walk.new_extradata
    is_whole = (arrays["offset_bytes"] + arrays["size_bytes"] <= size_bytes).all() and arrays["is_key"].any()
    arrays = {name: array[shown] for name, array in arrays.items()}
    is_packets = is_plain and is_whole and not any(hidden) and _decodes_bare(codec, extradata, arrays, file)
    first, end = _shown_span(arrays["pts"], np.array(durations, dtype=np.int64)[shown])
    duration_seconds = float((end - first) * base)
    return PacketTable(
        codec=codec,
        extradata=extradata,
        width=context.width,
        height=context.height,
        rotation_degrees=walk.rotation_degrees,
        time_base_numerator=base.numerator,
        time_base_denominator=base.denominator,
        duration_seconds=duration_seconds,
        frame_rate_hz=float(shown.sum()) / duration_seconds,
        access="packets" if is_packets else "demux",
        indexed_by="demux",
        **arrays,
    )


def _decodable(pts: np.ndarray, is_key: np.ndarray) -> np.ndarray:
    """Which packets are not cut off from their references: the first keyframe, what follows and is shown after it.

    A stream cut inside an open GOP begins with pictures that lead its first keyframe and refer to what is gone.
    """
    if not is_key.any():
        return np.ones(len(pts), dtype=bool)  # intra refresh: a decoder starts anywhere
    first = int(np.argmax(is_key))
    return (np.arange(len(pts)) >= first) & (pts >= pts[first])


def _prove(walk: _Walk, packet_pts: set[int]) -> None:
    """Frames must come out in the order of their times, and at times of the table.

    AVI has no presentation times: what FFmpeg reports for H.264 with B-frames in it are decoding times, and frames
    then come out as 1, 4, 3, 5, 2. A clip asked for in seconds would be made of the wrong frames.
    """
    frames = walk.shown_pts
    known = [pts for pts in frames if pts is not None]
    if known != sorted(set(known)) or len(known) < len(frames) or not set(known) <= packet_pts:
        raise BadVideoError(
            "unreliable_timestamps",
            f"its first frames come out at {frames[:5]}, which are not the times of its packets in order; "
            "write it again: ffmpeg -i IN OUT.mp4",
        )


def _filled_dts(dts: tuple[int | None, ...]) -> np.ndarray:
    """Matroska leaves out the decoding times of the first packets: count back from the first known, one each."""
    known = next((i for i, value in enumerate(dts) if value is not None), len(dts))
    start = dts[known] if known < len(dts) else 0
    filled = [int(start or 0) - known + i for i in range(known)]
    for value in dts[known:]:
        filled.append(filled[-1] + 1 if value is None else value)
    return np.array(filled, dtype=np.int64)


def _shown_span(pts: np.ndarray, durations: np.ndarray) -> tuple[int, int]:
    """(first pts, end of the last frame shown) in the time base."""
    order = np.argsort(pts, kind="stable")
    steps = np.diff(pts[order])
    usual = int(np.median(steps)) if len(steps) else 1
    last = int(durations[order[-1]])
    return int(pts[order[0]]), int(pts[order[-1]]) + (last if last > 0 else max(usual, 1))


def _decodes_bare(codec: str, extradata: bytes, arrays: dict[str, np.ndarray], file: BinaryIO) -> bool:
    """Whether a context that knows only `codec` and `extradata` makes a frame of the file's bytes."""
    try:
        context: Any = av.CodecContext.create(codec, "r")
        context.extradata = extradata or None
        context.thread_count = 1
        for i in range(min(len(arrays["pts"]), MAX_PACKETS_TO_FIRST_FRAME)):
            file.seek(int(arrays["offset_bytes"][i]))
            packet = av.Packet(file.read(int(arrays["size_bytes"][i])))
            packet.pts, packet.dts = int(arrays["pts"][i]), int(arrays["dts"][i])
            if context.decode(packet):
                return True
        return bool(context.decode(None))
    except (FFmpegError, ValueError):
        return False
