"""The headers of an mp4 say what demuxing all of it says, for files of all makers, and no header does harm."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.index.rows import ShardTask, index_shard
from adaptfocus.pipelines.inspection.demux import demux_packet_table, main_video_stream
from adaptfocus.pipelines.inspection.mp4_table import read_mp4_table
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.shards import members as tar_members
from adaptfocus.pipelines.shards.read import read_samples
from adaptfocus.pipelines.store import objects
from adaptfocus.pipelines.video.bitstream import is_whole, starts_decoding
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError, Spans
from adaptfocus.pipelines.video.table import PacketTable, pad_packet
from tests.footage import cut_start, encode, footage_files, with_display_matrix, write_tar

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


def noise(seconds: int, audio: bool) -> bytes:
    """A video of some hundred kilobytes."""
    out, rng = io.BytesIO(), np.random.default_rng(1)
    with av.open(out, "w", "mp4") as muxer:
        stream: Any = muxer.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = 160, 120, "yuv420p", {"qp": "18", "g": "10"}
        for _ in range(10 * seconds):
            picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        muxer.mux(stream.encode())
    return remuxed(out.getvalue(), audio=audio)


def test_a_video_in_a_tar_costs_three_requests_at_most(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Counted at the store's client: the tar's walk, the moov at either end, the proof."""
    tail, front = noise(3, audio=True), moov_first(noise(3, audio=False))
    assert min(len(tail), len(front)) > 300_000
    members = {}
    for number in range(3):
        members |= {f"a{number}.mp4": tail, f"a{number}.json": b'{"labels": ["sit"]}', f"b{number}.mp4": front}
    data = write_tar(tmp_path / "s.tar", members).read_bytes()
    store.write_bytes(store.join(s3_url, "s.tar"), data)
    fetched: list[tuple[int, int]] = []
    fetch = objects._fetched

    def counting(ranges: Any, *how: Any) -> list[bytes]:
        fetched.extend((each.offset_bytes, each.size_bytes) for each in ranges)
        return fetch(ranges, *how)

    monkeypatch.setattr(objects, "_fetched", counting)
    urls = [store.join(s3_url, name) for name in ("s.tar", "videos.parquet", "refused.parquet")]
    facts = index_shard(ShardTask(urls[0], len(data), urls[1], urls[2], None, None))
    assert (facts.rows, facts.refused) == (6, {})
    assert len(fetched) <= 3 * 6 + 1, "the last request finds the tar's end"
    assert sum(size for _, size in fetched) < len(data) / 2


def test_first_bytes_are_those_of_the_video_and_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    large, small = noise(2, audio=False), made("one-frame")
    members = {f"{number}.mp4": small if number % 2 else large for number in range(6)}
    path = write_tar(tmp_path / "s.tar", members)
    samples, _ = read_samples(str(path), path.stat().st_size)
    heads = [sample.video.head for sample in samples if sample.video]
    assert [head == video[: len(head)] for head, video in zip(heads, members.values(), strict=True)] == [True] * 6
    assert [len(head) for head in heads[1::2]] == [len(small)] * 3
    assert min(len(head) for head in heads[::2]) > 60_000, "a header's request brings what follows it"
    monkeypatch.setattr(tar_members, "MAX_HEADS_BYTES", 100_000)
    samples, _ = read_samples(str(path), path.stat().st_size)
    assert sum(len(sample.video.head) for sample in samples if sample.video) == 100_000


def test_a_moov_full_of_tracks_and_tiny_boxes_costs_a_moment():
    trak = [b"trak", struct.pack(">I4s", 8, b"free") * 4000]
    video = written([[b"ftyp", b"isom\0\0\2\0isom"], [b"moov", written([[b"mvhd", b"\0" * 100]] + [trak] * 500)]])
    started = time.perf_counter()
    with pytest.raises(NotPlainError, match="500 tracks"):
        by_header(video)
    assert time.perf_counter() - started < 0.2


def test_first_bytes_that_are_at_hand_are_not_fetched_again():
    class Counted(io.BytesIO):
        reads: list[tuple[int, int]] = []  # noqa: RUF012

        def read(self, size: int | None = -1) -> bytes:
            self.reads.append((self.tell(), size or 0))
            return super().read(size)

    video = noise(2, audio=True)
    moov_at = video.rindex(b"moov") - 4
    truth = by_demuxing(video)
    end = int((truth.offset_bytes + truth.size_bytes)[1])
    for head_bytes, also_read in ((end, []), (end - 1, [end - 1])):
        file = Counted(video)
        file.reads.clear()
        found = read_mp4_table(Spans(file, len(video), video[:head_bytes]))
        assert [at for at, _ in file.reads[:-1]] == [moov_at, *also_read], "the proof reads only what is not here"
        middle = truth.offset_bytes.tolist().index(file.reads[-1][0])
        assert truth.is_key[middle]
        assert len(truth.pts) / 3 < middle < len(truth.pts) * 2 / 3
        assert_equal(found, truth)


def test_a_table_that_claims_four_billion_samples_is_refused_before_anything_is_allocated():
    claims = [
        edited(LONGER, b"stsz", lambda d, c=constant: [[b"stsz", d[:4] + struct.pack(">II", c, 0xFFFFFFFF) + d[12:]]])
        for constant in (0, 1)
    ]
    tracemalloc.start()
    for video in claims:
        with pytest.raises(BadVideoError, match="limit is 10,000,000") as caught:
            read_packet_table(io.BytesIO(video), len(video))
        assert caught.value.kind == "too_many_packets"
    for kind in (b"stts", b"ctts", b"stsc", b"stco", b"stss", b"elst"):
        broken = edited(LONGER, kind, lambda d, k=kind: [[k, d[:4] + b"\xff\xff\xff\xf0" + d[8:]]])
        with pytest.raises(NotPlainError, match=r"claims|edits"):
            by_header(broken)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 << 20


SMALL = remuxed(encode(12, b_frames=2), audio=True)
HEADERS_AT = SMALL.rindex(b"moov") - 4


@settings(max_examples=300, deadline=2000)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - HEADERS_AT + 40), st.integers(0, 255)), min_size=1, max_size=8))
@example([(498, 0)])  # a width of 0 in the sample entry, where the track header has one
def test_damaged_headers_raise_nothing_but_bad_video_errors(damage: list[tuple[int, int]]):
    video = bytearray(SMALL)
    for place, value in damage:  # in the first boxes, else in the moov
        video[place if place < 40 else min(HEADERS_AT + place - 40, len(video) - 1)] = value
    try:
        table = read_packet_table(io.BytesIO(bytes(video)), len(video))
    except BadVideoError:
        return
    assert len(table.pts) == len(table.is_key) == len(table.offset_bytes) > 0
    assert table.access == "demux" or (table.offset_bytes + table.size_bytes <= len(video)).all()


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


def test_a_movie_header_behind_the_tracks() -> None:
    """FFmpeg, and players that use it, cannot read the edit lists of such a file, and show nothing of it."""
    video = encode(b_frames=2)
    start, trak = video.index(b"mvhd") - 4, video.index(b"trak") - 4
    end = trak + int.from_bytes(video[trak : trak + 4], "big")
    moved = video[:start] + video[trak:end] + video[start:trak] + video[end:]
    assert by_header(video).access == "packets"
    with pytest.raises(NotPlainError, match="after its tracks"):
        by_header(moved)
    with pytest.raises(BadVideoError, match=r"no_packets|no packets"):
        read_packet_table(io.BytesIO(moved), len(moved))


def test_a_sample_of_an_absurd_size_leaves_the_file_to_the_demuxer() -> None:
    """FFmpeg reads no edit list after it, so the times of headers and of players would differ."""
    video = bytearray(encode(b_frames=2))
    at = video.index(b"stsz") + 4 + 12 + 4 * 20
    video[at : at + 4] = (0x40000000).to_bytes(4, "big")
    with pytest.raises(NotPlainError, match="a sample of 1073741824 bytes"):
        by_header(bytes(video))
