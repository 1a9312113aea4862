"""The headers of an mp4 say what demuxing all of it says, for files of all makers, or the file is left to a demuxer."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.inspection.demux import demux_packet_table, main_video_stream
from adaptfocus.pipelines.inspection.mp4_table import read_mp4_table
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.video.bitstream import is_whole, starts_decoding
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError, Spans
from adaptfocus.pipelines.video.table import PacketTable, pad_packet
from tests.footage import cut_start, encode, footage_files, with_display_matrix
from tests.pipelines.inspection.mp4_files import (
    CLOSED,
    LONGER,
    MAKERS,
    assert_as_opened,
    assert_equal,
    by_demuxing,
    by_header,
    edited,
    made,
    parsed,
    remuxed,
    written,
)


@pytest.mark.parametrize("name", MAKERS)
def test_headers_say_what_demuxing_says(name: str):
    found = by_header(made(name))
    assert_equal(found, by_demuxing(made(name)))
    assert_as_opened(found, io.BytesIO(made(name)))


@pytest.mark.parametrize(
    "turn", [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0), (-1, 0, 0, 1), (0, 0, 0, 0)]
)
def test_turns_and_mirrors_are_read_from_the_track(turn: tuple[int, int, int, int]):
    video = with_display_matrix(made("one-frame"), *turn)
    assert_equal(by_header(video), by_demuxing(video))


def test_the_other_forms_of_the_tables_are_read():
    """64-bit chunk offsets, compact and constant sizes, a box up to the file's end, boxes that mean nothing."""
    video = encode(options={"g": "1", "qp": "51"}, b_frames=0)
    wide = edited(
        video, b"stco", lambda d: [[b"co64", d[:8] + b"".join(b"\0\0\0\0" + d[i : i + 4] for i in range(8, len(d), 4))]]
    )
    sizes = by_demuxing(video).size_bytes
    compact = edited(
        video, b"stsz", lambda d: [[b"stz2", b"\0" * 7 + b"\x10" + d[8:12] + sizes.astype(">u2").tobytes()]]
    )
    unsized = bytearray(video)
    at = video.rindex(b"moov") - 4
    unsized[at : at + 4] = b"\0" * 4
    noisy = edited(video, b"moov", lambda boxes: [])  # what follows the moov is not looked at
    noisy += written([[b"free", b"x" * 100], [b"uuid", b"y" * 50], *parsed(video)[-1:], [b"skip", b"z"]])
    assert b"stss" not in video, "every packet is a keyframe"
    aperture = struct.pack(">I4s8i", 40, b"clap", 48, 1, 32, 1, 0, 1, 0, 1)  # phones write it; decoders do not crop
    clapped = edited(video, b"stsd", lambda d: [[b"stsd", d[:8] + struct.pack(">I", len(d) + 32) + d[12:] + aperture]])
    for changed in (wide, compact, bytes(unsized), noisy, clapped):
        assert changed != video
        assert_equal(by_header(changed), by_demuxing(changed))


def test_a_file_of_more_than_four_gigabytes_is_indexed_in_a_moment(tmp_path: Path):
    """A 64-bit mdat with a hole in its middle: 1 s of video before it, 3 s behind."""
    whole = parsed(LONGER)
    hole_bytes, payload = 5 << 30, dict(map(tuple, whole))[b"mdat"]
    plain = by_demuxing(LONGER)
    cut = int(plain.offset_bytes[30])
    mdat_at = LONGER.index(b"mdat") + 4
    before, behind = payload[: cut - mdat_at], payload[cut - mdat_at :]
    chunks = [b"stco", b"stsc"]
    header = written(whole[:1]) + struct.pack(">I4sQ", 1, b"mdat", 16 + len(before) + hole_bytes + len(behind))
    starts = [len(header), len(header) + len(before) + hole_bytes]
    moov = edited(written([box for box in whole if box[0] == b"moov"]), chunks[0], lambda d: [
        [b"co64", struct.pack(">II2Q", 0, 2, *starts)]
    ])  # fmt: skip
    moov = edited(moov, chunks[1], lambda d: [[b"stsc", struct.pack(">8I", 0, 2, 1, 30, 1, 2, 60, 1)]])
    path = tmp_path / "large.mp4"
    with path.open("wb") as out:
        out.write(header + before)
        out.seek(hole_bytes, io.SEEK_CUR)
        out.write(behind + moov)
    size = path.stat().st_size
    assert size > 5 << 30
    with path.open("rb") as file:
        started = time.perf_counter()
        found = read_packet_table(file, size)
        seconds = time.perf_counter() - started
        assert_equal(found, demux_packet_table(file, size))
    assert seconds < 0.5
    assert found.offset_bytes[30] > 1 << 32
    np.testing.assert_array_equal(found.pts, plain.pts)


OUTSIDE = {
    "fragmented": lambda: remuxed(LONGER, movflags="frag_keyframe+empty_moov"),
    "hides frames": lambda: cut_start(encode(b_frames=2, options={"g": "20"}), seconds=0.5),
    "several sample descriptions": lambda: edited(
        LONGER, b"stsd", lambda d: [[b"stsd", d[:4] + b"\0\0\0\2" + d[8:] + d[8:]]]
    ),
    "names other packets too": lambda: edited(LONGER, b"stss", lambda d: []),
    "cut packets in the wrong places": lambda: edited(
        LONGER, b"stco", lambda d: [[b"stco", d[:8] + struct.pack(">I", struct.unpack(">I", d[8:12])[0] + 1) + d[12:]]]
    ),
    "an unusual esds": lambda: encode(codec="mpeg2video"),
    "sample entries of kind": lambda: encode(codec="mpeg2video", container="mov"),
    "does not fit into its parent": lambda: LONGER[:32] + struct.pack(">I4s", 1 << 30, b"free") + LONGER[32:],
    "or are empty": lambda: edited(LONGER, b"stsz", lambda d: [[b"stsz", d[:12] + bytes(4) + d[16:]]]),
    "does not begin like an mp4": lambda: encode(container="matroska"),
    "no video track": lambda: edited(LONGER, b"hdlr", lambda d: [[b"hdlr", d.replace(b"vide", b"soun")]]),
}


def outcome(read: Callable[[bytes], PacketTable], video: bytes) -> Any:
    """The outcome, in a form that can be compared."""
    try:
        table = read(video)
    except BadVideoError as error:
        return error.kind, str(error)
    return table.access, table.indexed_by, table.pts.tolist(), table.is_key.tolist()


@pytest.mark.parametrize("reason", OUTSIDE)
def test_what_only_a_demuxer_can_tell_is_left_to_it(reason: str):
    video = OUTSIDE[reason]()
    with pytest.raises(NotPlainError, match=reason):
        by_header(video)
    found = outcome(lambda data: read_packet_table(io.BytesIO(data), len(data)), video)
    assert found == outcome(by_demuxing, video)


@pytest.mark.parametrize("name", ["h264-open-gop", "h264-tail-audio", "hevc-open-gop", "mpeg4", "vp9", "av1"])
def test_packets_say_themselves_whether_they_are_keyframes(name: str):
    video = made(name)
    table = by_demuxing(video)
    packets = [video[o : o + s] for o, s in zip(table.offset_bytes, table.size_bytes, strict=True)]
    kind = {"libdav1d": "av1"}.get(table.codec, table.codec)
    assert [starts_decoding(kind, table.extradata, packet) for packet in packets] == table.is_key.tolist()
    assert all(is_whole(kind, table.extradata, packet) for packet in packets)
    assert table.is_key.sum() < len(packets)


@pytest.mark.parametrize(
    ("name", "in_order"), [("h264-tail-audio", True), ("h264-open-gop", False), ("hevc-open-gop", False)]
)
def test_keyframes_behind_pictures_that_are_shown_first_are_out_of_order(name: str, in_order: bool):
    """decord thinks that the n-th decoded frame is the n-th shown, and returns other frames where it is not."""
    assert by_header(made(name)).keys_in_order is in_order


def test_packets_of_plain_bytes_decode_as_a_container_decodes_them():
    """Without zeros after them MPEG-4 reads whatever comes next, which gives different wrong frames each time."""
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    with av.open(out, "w", "mp4") as muxer:
        stream: Any = muxer.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 10**6
        for _ in range(60):
            picture = rng.integers(0, 255, (64, 96, 3), np.uint8)
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        muxer.mux(stream.encode())
    video = out.getvalue()
    table = by_header(video)
    context: Any = av.CodecContext.create(table.codec, "r")
    context.extradata, found = table.extradata, {}
    for offset, size, pts, dts in zip(table.offset_bytes, table.size_bytes, table.pts, table.dts, strict=True):
        for frame in context.decode(pad_packet(video[offset : offset + size], int(pts), int(dts))):
            found[frame.pts] = frame.to_ndarray()
    for frame in context.decode(None):
        found[frame.pts] = frame.to_ndarray()
    with av.open(io.BytesIO(video)) as container:
        wanted = {frame.pts: frame.to_ndarray() for frame in container.decode(main_video_stream(container))}
    assert list(found) == list(wanted)
    assert all(np.array_equal(found[pts], wanted[pts]) for pts in wanted)


@settings(max_examples=200, deadline=1000)
@given(st.sampled_from([b"stts", b"ctts", b"elst", b"stsc", b"tkhd", b"mdhd", b"mvhd"]), st.data())
def test_changed_times_that_are_still_plain_are_told_as_a_demuxer_tells_them(kind: bytes, data: st.DataObject):
    """The rules for times are FFmpeg's, so that no frame changes its time with the way of indexing."""

    def change(payload: bytes) -> list[list[Any]]:
        word = 4 * data.draw(st.integers(1, len(payload) // 4 - 1))
        old = struct.unpack_from(">i", payload, word)[0]
        new = data.draw(st.one_of(st.integers(old - 600, old + 600), st.sampled_from([0, 1, 1 << 16]))) & 0xFFFFFFFF
        return [[kind, payload[:word] + struct.pack(">I", new) + payload[word + 4 :]]]

    video = edited(CLOSED, kind, change)
    try:
        found = by_header(video)
    except NotPlainError:
        return
    assert_equal(found, by_demuxing(video))


@pytest.mark.footage
def test_headers_of_real_files_say_what_demuxing_says():
    plain = 0
    for path in footage_files((".mp4", ".mov")):
        with path.open("rb") as file:
            size = path.stat().st_size
            try:
                found = read_mp4_table(Spans(cast(Any, file), size))
            except NotPlainError:
                assert "awkward" in path.parts, f"{path.name} is not indexed from its headers"
                continue
            assert_equal(found, demux_packet_table(cast(Any, file), size))
            assert_as_opened(found, file)
            plain += 1
    assert plain >= 28
