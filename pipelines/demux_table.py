"""A packet table of any container, from demuxing the whole file once.

Input: a seekable file of one video (a member of a tar read through a RangeFile).
Does: demuxes it, decodes until the first frame, looks where the packets' bytes lie in the file.
Output: PacketTable; BadVideoError with a stable kind for every video that cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from pipelines import packet_arrays
from pipelines.containers import TOLERANT
from pipelines.errors import BadVideoError
from pipelines.packet_arrays import (
    MAX_EXTRADATA_BYTES,
    MAX_PACKETS_TO_FIRST_FRAME,
    SOFTWARE_DECODER,
    PacketTable,
    decodable,
    first_bare_frame,
    quarter_turns_degrees,
    shown_span,
)

PROVED_FRAMES = 32  # of containers other than mp4, see `_prove`
# Matroska tells where a block begins; its packet follows behind the track's number (1 to 8 bytes), a time and flags
# (3), and the numbers of a lace. Frames behind the first of a lace are not found, nor those with stripped headers.
BLOCK_HEADER_BYTES = 20

# Containers that may keep packets unchanged, each in one place.
_SAMPLE_TABLE_FORMAT = "mov,mp4,m4a,3gp,3g2,mj2"
_BLOCK_FORMAT = "matroska,webm"


def main_video_stream(container: Any) -> Any:
    """The stream that is indexed and read: FFmpeg's best video stream, never a cover picture; None if there is none."""
    best = container.streams.best("video")
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return best if best in videos else next(iter(videos), None)


def demux_packet_table(file: BinaryIO, size_bytes: int) -> PacketTable:
    """Demux one video of `size_bytes` once.

    Raises:
        BadVideoError: unreadable_video, no_video_stream, no_packets, encrypted, absurd_size, too_many_packets,
            unreliable_timestamps.
        StorageError: the bytes cannot be fetched; that says nothing about the video.
    """
    file.seek(0)
    try:
        with av.open(file, **TOLERANT) as container:
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
    search_bytes: int  # how far behind the place that the demuxer tells a packet may begin
    same_bytes: bool  # all packets so far are bytes of the file, as they are
    new_extradata: bool


def _check_stream(stream: Any) -> None:
    context = stream.codec_context
    if context is None:
        raise BadVideoError("unreadable_video", "its codec is unknown to FFmpeg; convert the video to H.264")
    limit = packet_arrays.MAX_SIDE_PIXELS
    if not (0 < context.width <= limit and 0 < context.height <= limit):
        size = f"{context.width} x {context.height}"
        raise BadVideoError("absurd_size", f"its frames are {size}; a side may be 1 to {limit}")
    if len(context.extradata or b"") > MAX_EXTRADATA_BYTES:
        raise BadVideoError(
            "absurd_size",
            f"its decoder settings take {len(context.extradata)} bytes; the limit is {MAX_EXTRADATA_BYTES}",
        )
    context.thread_count = 1  # frames come out as early as they can, and shards are the unit of parallel work


def _demux(container: Any, stream: Any, file: BinaryIO) -> _Walk:
    name = container.format.name
    search_bytes = BLOCK_HEADER_BYTES if name == _BLOCK_FORMAT else 0
    walk = _Walk([], [], 0, search_bytes, name in (_SAMPLE_TABLE_FORMAT, _BLOCK_FORMAT), False)
    frames_wanted = 1 if name == _SAMPLE_TABLE_FORMAT else PROVED_FRAMES
    failure = "no frame came out of the decoder"
    for packet in container.demux(stream):
        if packet.size:
            if packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info"):
                raise BadVideoError("encrypted", "its packets are encrypted (cenc or cbcs); decrypt the video first")
            if len(walk.rows) >= packet_arrays.MAX_PACKETS:
                limit = packet_arrays.MAX_PACKETS
                raise BadVideoError("too_many_packets", f"it has more than {limit:,} packets; cut it into parts")
            _note(walk, packet, stream, file)
        if len(walk.shown_pts) < frames_wanted and len(walk.rows) <= MAX_PACKETS_TO_FIRST_FRAME + frames_wanted:
            failure = _decode(walk, packet) or failure
    if not walk.rows:
        raise BadVideoError("no_packets", "its video stream holds no packets (a bare initialisation segment?)")
    if not walk.shown_pts:
        raise BadVideoError("unreadable_video", f"its start cannot be decoded: {failure}")
    return walk


def _note(walk: _Walk, packet: Any, stream: Any, file: BinaryIO) -> None:
    """Add a packet, and find its bytes in the file: cheap, because the block was fetched just now."""
    offset_bytes = -1 if packet.pos is None else packet.pos
    if walk.same_bytes:
        resume_at = file.tell()  # the demuxer reads on from here
        file.seek(max(offset_bytes, 0))
        behind = file.read(walk.search_bytes + packet.size).find(bytes(packet)) if offset_bytes >= 0 else -1
        file.seek(resume_at)
        walk.same_bytes = behind >= 0
        offset_bytes += max(behind, 0)
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
    """The display matrix as whole quarter turns, counter-clockwise."""
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # PyAV 19 iterates over types, those before over data
    if data is not None and data.buffer_size >= 36:
        return quarter_turns_degrees(*np.frombuffer(bytes(data), np.int32, 9)[[0, 1, 3, 4]].astype(np.float64))
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
    shown &= decodable(arrays["pts"], arrays["is_key"])
    if not shown.any():
        raise BadVideoError(
            "unreliable_timestamps", "no frame that can be decoded is ever shown; write the video again"
        )
    context, base = stream.codec_context, stream.time_base
    canonical: str = context.codec.canonical_name
    codec = SOFTWARE_DECODER.get(canonical, canonical)
    extradata = bytes(context.extradata or b"")
    is_plain = walk.same_bytes and not walk.new_extradata
    is_whole = (arrays["offset_bytes"] + arrays["size_bytes"] <= size_bytes).all() and arrays["is_key"].any()
    arrays = {name: array[shown] for name, array in arrays.items()}
    is_packets = is_plain and is_whole and not any(hidden) and _decodes_bare(codec, extradata, arrays, file)
    first, end = shown_span(arrays["pts"], np.array(durations, dtype=np.int64)[shown])
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


def _decodes_bare(codec: str, extradata: bytes, arrays: dict[str, np.ndarray], file: BinaryIO) -> bool:
    """Whether the file's own bytes decode, without the container, to the first frame at its time."""

    def packets() -> Iterator[tuple[bytes, int, int]]:
        for i in range(min(len(arrays["pts"]), MAX_PACKETS_TO_FIRST_FRAME)):
            file.seek(int(arrays["offset_bytes"][i]))
            yield file.read(int(arrays["size_bytes"][i])), int(arrays["pts"][i]), int(arrays["dts"][i])

    return first_bare_frame(codec, extradata, packets()) is not None
