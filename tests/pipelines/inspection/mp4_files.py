"""Files like those of all makers of mp4, their boxes edited by hand, and both ways to read their tables."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import IO, Any, cast

import av
import numpy as np

from adaptfocus.pipelines.inspection.demux import demux_packet_table, main_video_stream
from adaptfocus.pipelines.inspection.mp4_table import read_mp4_table
from adaptfocus.pipelines.video.mp4_boxes import Spans
from adaptfocus.pipelines.video.table import PacketTable
from tests.footage import encode

X264_OPEN_GOP = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0"}
X265_OPEN_GOP = {"x265-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0:log-level=error"}


def by_header(video: bytes) -> PacketTable:
    return read_mp4_table(Spans(io.BytesIO(video), len(video)))


def by_demuxing(video: bytes) -> PacketTable:
    return demux_packet_table(io.BytesIO(video), len(video))


def assert_equal(found: PacketTable, wanted: PacketTable) -> None:
    assert (found.indexed_by, wanted.indexed_by) == ("header", "demux")
    for name in [field.name for field in fields(PacketTable) if field.name != "indexed_by"]:
        a, b = getattr(found, name), getattr(wanted, name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == b, name


def assert_as_opened(found: PacketTable, file: IO[bytes]) -> None:
    """FFmpeg's own table of a file that has been opened and no more: no packet of it is read, by us or by FFmpeg."""
    file.seek(0)
    with av.open(file) as container:
        entries = cast(Any, main_video_stream(container)).index_entries
        for name, ours in (
            ("pos", "offset_bytes"),
            ("size", "size_bytes"),
            ("timestamp", "dts"),
            ("is_keyframe", "is_key"),
        ):
            theirs = [getattr(entry, name) for entry in entries]
            np.testing.assert_array_equal(getattr(found, ours), theirs, err_msg=name)


def remuxed(video: bytes, container: str = "mp4", audio: bool = False, retimed: Any = None, **options: str) -> bytes:
    """The same packets in another file; `retimed` maps a packet's number to the time base units to add to it."""
    out = io.BytesIO()
    with av.open(io.BytesIO(video)) as source, av.open(out, "w", container, options=options) as muxer:
        stream = muxer.add_stream_from_template(source.streams.video[0])
        sound: Any = muxer.add_stream("aac", rate=16000) if audio else None
        for number, packet in enumerate(p for p in source.demux(source.streams.video[0]) if p.size):
            if retimed:
                packet.pts, packet.dts = packet.pts + retimed(number), packet.dts + retimed(number)
            packet.stream = stream
            muxer.mux(packet)
            if sound:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, number * 1600
                muxer.mux(sound.encode(frame))
        if sound:
            muxer.mux(sound.encode())
    return out.getvalue()


# Boxes by hand: a tree of [kind, payload or list of boxes], so that sizes follow from what is inside.
FOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


def parsed(data: bytes) -> list[list[Any]]:
    boxes, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        payload = data[at + 8 : at + size]
        boxes.append([kind, parsed(payload) if kind in FOLDERS else payload])
        at += size
    return boxes


def written(boxes: list[list[Any]]) -> bytes:
    payloads = [(kind, written(inside) if isinstance(inside, list) else inside) for kind, inside in boxes]
    return b"".join(struct.pack(">I4s", 8 + len(payload), kind) + payload for kind, payload in payloads)


def edited(video: bytes, kind: bytes, change: Callable[[bytes], list[list[Any]]]) -> bytes:
    """The video with its (first) box of a kind replaced by others; chunks stay where they are if the moov is last."""

    def walk(boxes: list[list[Any]]) -> list[list[Any]]:
        out = []
        for name, inside in boxes:
            if name == kind:
                out += change(inside)
            else:
                out.append([name, walk(inside) if isinstance(inside, list) else inside])
        return out

    return written(walk(parsed(video)))


def moov_first(video: bytes) -> bytes:
    """The moov moved before the media, as cutters do it for the web."""
    boxes = parsed(video)
    moov_bytes = len(written([box for box in boxes if box[0] == b"moov"]))

    def moved(table: bytes) -> list[list[Any]]:
        chunks = np.frombuffer(table, ">u4", offset=8) + moov_bytes
        return [[b"stco", table[:8] + chunks.astype(">u4").tobytes()]]

    shifted = dict(map(tuple, parsed(edited(video, b"stco", moved))))
    kinds = [b"ftyp", b"moov", *(kind for kind, _ in boxes if kind not in (b"ftyp", b"moov"))]
    return written([[kind, shifted[kind]] for kind in kinds])


CLOSED = encode(b_frames=2, options={"g": "250"})
LONGER = encode(90, b_frames=2, options={"g": "30"}, rate_hz=30)


MAKERS: dict[str, Callable[[], bytes]] = {
    "h264-tail-audio": lambda: remuxed(CLOSED, audio=True),
    "h264-faststart": lambda: moov_first(remuxed(LONGER, audio=True)),
    "h264-open-gop": lambda: encode(options=X264_OPEN_GOP),
    "h264-mov": lambda: remuxed(CLOSED, container="mov"),
    "h264-intra": lambda: encode(options={"g": "1"}),
    "h264-negative-offsets": lambda: remuxed(LONGER, movflags="negative_cts_offsets"),
    "h264-no-edit-list": lambda: remuxed(LONGER, use_editlist="0"),
    "h264-late": lambda: remuxed(LONGER, retimed=lambda number: 7000),
    "h264-variable-rate": lambda: remuxed(encode(), retimed=lambda number: 100 * number * number),
    "h264-interlaced": lambda: encode(size=(64, 64), options={"flags": "+ildct+ilme", "x264-params": "tff=1"}),
    "hevc-open-gop": lambda: encode(codec="libx265", options=X265_OPEN_GOP, size=(128, 96)),
    "hevc-mov": lambda: encode(codec="libx265", container="mov", options=X265_OPEN_GOP, size=(128, 96)),
    "mpeg4": lambda: encode(codec="mpeg4", b_frames=2),
    "vp9": lambda: encode(codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "g": "20"}),
    "av1": lambda: encode(codec="libsvtav1", options={"preset": "12", "g": "20"}),
    "one-frame": lambda: encode(1),
}


@cache
def made(name: str) -> bytes:
    return MAKERS[name]()
