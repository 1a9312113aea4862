"""A packet table of any container, from demuxing the whole file once.

Input: a seekable file of one video (a member of a tar read through a RangeFile).
Does: demuxes it, decodes until the first frame, looks where the packets' bytes lie in the file.
Output: PacketTable; BadVideoError with a stable kind for every video that cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.inspection.access_proof import prove_access, starts_of
from adaptfocus.pipelines.inspection.cut_files import seen_cut
from adaptfocus.pipelines.inspection.middle_proof import Middle
from adaptfocus.pipelines.inspection.stream_notes import StreamNotes
from adaptfocus.pipelines.inspection.table_checks import MAX_REORDERED, is_misnumbered, wrong_times
from adaptfocus.pipelines.store.wrong_files import HEAD_BYTES, describe_wrong_file
from adaptfocus.pipelines.video import table
from adaptfocus.pipelines.video.containers import TOLERANT
from adaptfocus.pipelines.video.decoder_starts import NO_START, DecoderStarts
from adaptfocus.pipelines.video.display import fraction_of, shown_aspect, turn_of
from adaptfocus.pipelines.video.main_stream import main_video_stream
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.pipelines.video.shown_packets import ShownPackets
from adaptfocus.pipelines.video.side_data import SideDataType
from adaptfocus.pipelines.video.table import (
    ABSURD_PIXELS,
    ENDS_EARLY,
    MAX_EXTRADATA_BYTES,
    MAX_PACKETS_TO_FIRST_FRAME,
    SOFTWARE_DECODER,
    PacketTable,
    decodable,
    fill_dts,
    first_bare_frame,
    shown_span,
)

PROVED_FRAMES = 32  # of containers other than mp4, see `_check_order`
# Matroska tells where a block begins; its packet follows behind the track's number (1 to 8 bytes), a time and flags
# (3), and the numbers of a lace. Frames behind the first of a lace are not found, nor those with stripped headers.
BLOCK_HEADER_BYTES = 20

# Containers that may keep packets unchanged, each in one place.
_SAMPLE_TABLE_FORMAT = "mov,mp4,m4a,3gp,3g2,mj2"
_BLOCK_FORMAT = "matroska,webm"
# Streams without sizes: a last picture that is not whole shows in decoding alone. Recorders of broadcasts leave one.
_STREAM_FORMATS = ("mpegts", "mpeg")
# What is said of the little that is left of a file where it was cut off near its start.
_OF_CUT_FILES = frozenset({"no_video_stream", "no_packets", "absurd_size", "unreadable_video"})


def demux_packet_table(file: BinaryIO, size_bytes: int) -> PacketTable:
    """Demux one video of `size_bytes` once.

    Raises:
        BadVideoError: unreadable_video, no_video_stream, no_packets, encrypted, absurd_size, too_many_packets,
            unreliable_timestamps, cut_off, changing_pixel_aspect.
        StorageError: the bytes cannot be fetched; that says nothing about the video.
    """
    file.seek(0)
    try:
        with av.open(file, **TOLERANT) as container:
            try:
                return _read(container, file, size_bytes)
            except BadVideoError as error:
                cut = seen_cut(container.format.name, file, size_bytes, None) if error.kind in _OF_CUT_FILES else None
                if cut is None:
                    raise
                raise BadVideoError("cut_off", f"it was cut off: {cut}; {error}; get the whole file") from None
    except FFmpegError as error:
        file.seek(0)
        instead = describe_wrong_file(file.read(HEAD_BYTES))
        why = f"it {instead}" if instead else f"it cannot be read: {error.strerror}"
        raise BadVideoError("unreadable_video", why) from None
    except (ValueError, OverflowError, UnicodeError) as error:  # PyAV's own, on headers no encoder writes
        raise BadVideoError("unreadable_video", f"it cannot be read: {error}") from None


def _read(container: Any, file: BinaryIO, size_bytes: int) -> PacketTable:
    stream = main_video_stream(container)
    if stream is None:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise BadVideoError("no_video_stream", f"there is no video stream in it, only {kinds}")
    _check_stream(stream)
    walk = _demux(container, stream, file, size_bytes)
    return _table(container, stream, walk, file, size_bytes)


@dataclass
class _Walk:
    """What one pass over the packets found."""

    # pos, size, pts, dts, duration, key, hidden, what DecoderStarts says, referred to
    rows: list[tuple[int, int, int | None, int | None, int, bool, bool, int, bool]]
    shown_pts: list[int | None]  # of the first frames that came out of the decoder
    turn: tuple[int, bool]  # degrees counter-clockwise, mirrored then
    search_bytes: int  # how far behind the place that the demuxer tells a packet may begin
    same_bytes: bool  # all packets so far are bytes of the file, as they are
    new_extradata: bool
    starts: DecoderStarts
    middle: Middle
    is_beginning: bool = True  # the first frames have not all come out
    ends_broken: bool = False  # the last packet is not whole
    is_late: bool = False  # a decoder that begins at a keyframe shows other times
    stream: StreamNotes = field(default_factory=StreamNotes)  # of formats without sizes


def _check_stream(stream: Any) -> None:
    context = stream.codec_context
    if context is None:
        raise BadVideoError("unreadable_video", "its codec is unknown to FFmpeg; convert the video to H.264")
    limit = table.MAX_SIDE_PIXELS
    if not (0 < context.width <= limit and 0 < context.height <= limit):
        size = f"{context.width} x {context.height}"
        raise BadVideoError("absurd_size", f"its frames are {size}; a side may be 1 to {limit}")
    if len(context.extradata or b"") > MAX_EXTRADATA_BYTES:
        raise BadVideoError(
            "absurd_size",
            f"its decoder settings take {len(context.extradata)} bytes; the limit is {MAX_EXTRADATA_BYTES}",
        )
    context.options = {**context.options, **table.UNFILTERED}
    context.thread_count = 1  # frames come out as early as they can, and shards are the unit of parallel work


def _demux(container: Any, stream: Any, file: BinaryIO, size_bytes: int) -> _Walk:
    name = container.format.name
    search_bytes = BLOCK_HEADER_BYTES if name == _BLOCK_FORMAT else 0
    is_bytes, context = name in (_SAMPLE_TABLE_FORMAT, _BLOCK_FORMAT), stream.codec_context
    codec: str = context.codec.canonical_name
    starts = DecoderStarts(codec, bytes(context.extradata or b""))
    walk = _Walk([], [], (0, False), search_bytes, is_bytes, False, starts, Middle(codec, size_bytes))
    frames_wanted = 1 if name == _SAMPLE_TABLE_FORMAT else PROVED_FRAMES
    failure = "no frame came out of the decoder"
    packets = ShownPackets(container, stream)
    for packet in packets:
        if packet.size:
            if len(walk.rows) >= table.MAX_PACKETS:
                limit = table.MAX_PACKETS
                raise BadVideoError("too_many_packets", f"it has more than {limit:,} packets; cut it into parts")
            _note(walk, packet, stream, file, packets.holds_picture)
            walk.ends_broken = packet.is_corrupt
            if name in _STREAM_FORMATS:
                walk.stream.add(packet)
            elif next(packet.iter_sidedata(), None) is not None:
                _note_side_data(walk, packet)
        walk.is_beginning &= len(walk.shown_pts) < frames_wanted
        walk.is_beginning &= len(walk.rows) <= MAX_PACKETS_TO_FIRST_FRAME + frames_wanted
        if packet.size:
            offset_bytes, _, _, _, _, is_key, _, wait, _ = walk.rows[-1]
            walk.middle.add(packet, offset_bytes, wait if is_key else NO_START, walk.is_beginning)
        if walk.is_beginning:
            failure = _decode(walk, packet) or failure
    if not walk.rows:
        raise BadVideoError("no_packets", "its video stream holds no packets (a bare initialisation segment?)")
    if not walk.shown_pts:
        raise BadVideoError("unreadable_video", f"its start cannot be decoded: {failure}")
    walk.ends_broken |= walk.stream.ends_broken(stream.codec_context)
    walk.is_late = packets.is_late
    return walk


def _note(walk: _Walk, packet: Any, stream: Any, file: BinaryIO, holds_picture: bool) -> None:
    """Add a packet, and find its bytes in the file: cheap, because the block was fetched just now."""
    offset_bytes = -1 if packet.pos is None else packet.pos
    if walk.same_bytes:
        resume_at = file.tell()  # the demuxer reads on from here
        file.seek(max(offset_bytes, 0))
        behind = file.read(walk.search_bytes + packet.size).find(bytes(packet)) if offset_bytes >= 0 else -1
        file.seek(resume_at)
        walk.same_bytes = behind >= 0
        offset_bytes += max(behind, 0)
    hidden = packet.is_discard or not holds_picture or _is_vp8_altref(stream, packet)
    wait = walk.starts.add(memoryview(packet))
    place = (offset_bytes, packet.size, packet.pts, packet.dts, packet.duration or 0)
    walk.rows.append((*place, packet.is_keyframe, hidden, wait, walk.starts.is_referenced))


def _note_side_data(walk: _Walk, packet: Any) -> None:
    """What comes beside a packet. Transport and program streams have nothing of this."""
    if packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info"):
        raise BadVideoError("encrypted", "its packets are encrypted (cenc or cbcs); decrypt the video first")
    walk.new_extradata |= packet.has_sidedata("new_extradata")


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
            walk.turn = _turn(frame)
        walk.shown_pts.append(frame.pts)
    return None


def _turn(frame: Any) -> tuple[int, bool]:
    """The display matrix as whole quarter turns, counter-clockwise, and whether it mirrors."""
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # PyAV 19 iterates over types, those before over data
    if data is not None and data.buffer_size >= 36:
        return turn_of(*np.frombuffer(bytes(data), np.int32, 9)[[0, 1, 3, 4]].astype(np.float64))
    return 0, False


def _table(container: Any, stream: Any, walk: _Walk, file: BinaryIO, size_bytes: int) -> PacketTable:
    notes = _cut_off(container, walk, file, size_bytes)
    rows = _begun(walk.rows[:-1] if walk.ends_broken else walk.rows, walk.shown_pts)
    if not rows:
        raise BadVideoError("cut_off", f"{notes[0][1]}; there is no whole frame in it; get the whole file")
    offsets, sizes, pts, dts, durations, keys, hidden, waits, referenced = zip(*rows, strict=True)
    shown = ~np.array(hidden)
    if any(value is None for value in pts) or not shown.any():
        what = f"{sum(value is None for value in pts)} of {len(pts)} packets have no presentation time"
        raise BadVideoError("unreliable_timestamps", f"{what}; remux it: ffmpeg -fflags +genpts -i IN -c copy OUT.mp4")
    arrays = {
        "offset_bytes": np.array(offsets, dtype=np.int64),
        "size_bytes": np.array(sizes, dtype=np.int32),
        "pts": np.array(pts, dtype=np.int64),
        "dts": fill_dts(dts),
        "is_key": np.array(keys, dtype=bool),
    }
    shown &= decodable(arrays["pts"], arrays["is_key"])
    if not shown.any():
        raise BadVideoError(
            "unreliable_timestamps", "no frame that can be decoded is ever shown; write the video again"
        )
    context, base = stream.codec_context, stream.time_base
    if why := wrong_times(arrays["pts"][shown], arrays["is_key"][shown], context.codec.canonical_name, float(base)):
        raise BadVideoError("unreliable_timestamps", why)
    # PyAV's stream says what the container says, else what FFmpeg has found in the codec when it opened the file.
    pixel_aspect, slip = shown_aspect(fraction_of(stream.sample_aspect_ratio), fraction_of(context.sample_aspect_ratio))
    canonical: str = context.codec.canonical_name
    walk.stream.check_shape(canonical, context.extradata or b"")
    codec = SOFTWARE_DECODER.get(canonical, canonical)
    extradata = bytes(context.extradata or b"")
    starts = starts_of(arrays["pts"], arrays["is_key"], np.array(waits), np.array(referenced))
    if not starts.begins_whole:  # a decode in order shows nothing before the first recovery
        shown &= arrays["pts"] >= (walk.shown_pts[0] or 0)
    is_plain = walk.same_bytes and not walk.new_extradata and starts.begins_whole
    is_whole = (arrays["offset_bytes"] + arrays["size_bytes"] <= size_bytes).all() and arrays["is_key"].any()
    arrays = {name: array[shown] for name, array in arrays.items()}
    is_packets = is_plain and is_whole and not any(hidden) and _decodes_bare(codec, extradata, arrays, file)
    starts = replace(starts, is_start=starts.is_start[shown], is_whole=starts.is_whole[shown])
    bare = (codec, extradata, Packets(**arrays)) if is_packets else None
    is_seekable = starts.are_all_keys and not walk.new_extradata and not walk.is_late
    is_seekable &= not is_misnumbered(container.format.name, stream.index_entries, [row[:4] for row in walk.rows])
    proved = prove_access(walk.middle, context, file, bare, is_seekable, starts)
    _check_order(walk, {row[2] for row in walk.rows if row[2] is not None}, pts[0])
    if proved.access == "packets":
        arrays["is_key"] = proved.is_key
    first, end = shown_span(arrays["pts"], np.array(durations, dtype=np.int64)[shown])
    duration_seconds = float((end - first) * base)
    return PacketTable(
        codec=codec,
        extradata=extradata,
        width=context.width,
        height=context.height,
        rotation_degrees=walk.turn[0],
        is_mirrored=walk.turn[1],
        pixel_aspect=pixel_aspect,
        time_base_numerator=base.numerator,
        time_base_denominator=base.denominator,
        duration_seconds=duration_seconds,
        frame_rate_hz=float(shown.sum()) / duration_seconds,
        access=proved.access,
        indexed_by="demux",
        recovery_ticks=proved.recovery_ticks,
        notes=tuple(notes) + (((ABSURD_PIXELS, slip),) if slip else ()),
        **arrays,
    )


def _begun(rows: list[tuple], shown_pts: list[int | None]) -> list[tuple]:
    """Without what comes before the first keyframe, and what leads it and is never shown.

    A stream that was cut by copying begins with pictures whose references are gone. Muxers leave out their times, which
    would be before zero, or write the keyframe's, or one tick more; decoders do not show them.
    """
    first = next((number for number, row in enumerate(rows) if row[5]), 0)
    known = {pts for pts in shown_pts if pts is not None}
    key_pts, latest = rows[first][2] if rows else None, max(known, default=0)
    leading = 0
    for _, _, pts, _, _, _, is_hidden, *_ in rows[first + 1 :]:
        is_lost = pts is None or (key_pts is not None and (pts <= key_pts or (pts < latest and pts not in known)))
        if is_hidden or not is_lost:
            break
        leading += 1
    leading = leading if leading <= MAX_REORDERED else 0
    return rows[first : first + 1] + rows[first + 1 + leading :]


def _cut_off(container: Any, walk: _Walk, file: BinaryIO, size_bytes: int) -> list[tuple[str, str]]:
    """The note (kind, message) of a file that ends before it should."""
    offset_bytes, packet_bytes = walk.rows[-1][:2]
    end = offset_bytes + packet_bytes if walk.same_bytes and not walk.ends_broken else None
    why = seen_cut(container.format.name, file, size_bytes, end)
    if why is None and not walk.ends_broken:
        return []
    left = ", its last picture is not whole and left out" if walk.ends_broken else ""
    return [(ENDS_EARLY, f"it was cut off: {why or 'it ends inside a picture'}{left}; all whole frames are used")]


def _check_order(walk: _Walk, packet_pts: set[int], first_pts: int) -> None:
    """Frames must come out in the order of their times, and at times of the table.

    AVI has no presentation times: what FFmpeg reports for H.264 with B-frames in it are decoding times, and frames
    then come out as 1, 4, 3, 5, 2. A clip asked for in seconds would be made of the wrong frames.
    """
    first = list(dropwhile(lambda pts: pts is None or pts < first_pts, walk.shown_pts))
    for where, frames in ("first frames", first), ("frames in the middle", walk.middle.shown_pts()):
        known = [pts for pts in frames if pts is not None]
        if known != sorted(set(known)) or len(known) < len(frames) or not set(known) <= packet_pts:
            raise BadVideoError(
                "unreliable_timestamps",
                f"its {where} come out at {frames[:5]}, which are not the times of its packets in order; "
                "write it again: ffmpeg -i IN OUT.mp4",
            )


def _decodes_bare(codec: str, extradata: bytes, arrays: dict[str, np.ndarray], file: BinaryIO) -> bool:
    """Whether the file's own bytes decode, without the container, to the first frame at its time."""

    def packets() -> Iterator[tuple[bytes, int, int]]:
        for i in range(min(len(arrays["pts"]), MAX_PACKETS_TO_FIRST_FRAME)):
            file.seek(int(arrays["offset_bytes"][i]))
            yield file.read(int(arrays["size_bytes"][i])), int(arrays["pts"][i]), int(arrays["dts"][i])

    return first_bare_frame(codec, extradata, packets()) is not None


# A demuxer reads the whole member in order: 4 MiB a request is 200 MB/s at 20 ms each. Eight blocks are kept, so that
# a packet is still there when its bytes are compared, and a table at the end does not push out the start.
DEMUX_BLOCK_BYTES = 4 << 20
DEMUX_MAX_BLOCKS = 8
