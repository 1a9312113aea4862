"""A packet table must tell the truth about every container, or say why it cannot."""

from __future__ import annotations

import io
import json
import time

import av
import numpy as np
import pytest

from adaptfocus.pipelines.errors import BadVideoError, StorageError
from adaptfocus.pipelines.inspection.demux import demux_packet_table
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.video import table as packet_arrays
from tests.footage import cut_start, encode, footage_folder, with_display_matrix
from tests.pipelines.inspection.packet_tables import (
    assert_packets_show_what_the_container_shows,
    bare_frames,
    decoded_pts,
    refusal_of,
    table_of,
)


def test_packets_of_an_mp4_decode_without_the_container():
    video = encode(b_frames=2, options={"g": "12"})
    table = table_of(video)
    frames = bare_frames(video, table, first=0)
    assert (table.access, table.indexed_by) == ("packets", "header")
    assert list(frames) == sorted(table.pts.tolist()) == decoded_pts(video)
    assert table.is_key.sum() == 4
    assert table.duration_seconds == pytest.approx(4.0)
    assert table.frame_rate_hz == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "mpegts"), ("mpeg4", "avi"), ("mpeg2video", "mpeg"), ("libx264", "flv")]
)
def test_other_containers_are_read_by_demuxing_and_hold_the_frames_shown(codec: str, container: str):
    video = encode(codec=codec, container=container, rate_hz=25)
    table = table_of(video)
    assert (table.access, table.indexed_by) == ("demux", "demux")
    assert sorted(table.pts.tolist()) == decoded_pts(video)
    assert table.duration_seconds == pytest.approx(1.6, abs=0.05)


def test_a_fragmented_mp4_keeps_its_packets():
    whole = encode()
    out = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(io.BytesIO(whole)) as source, av.open(out, "w", format="mp4", options=options) as muxer:
        stream = muxer.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                muxer.mux(packet)
    table = table_of(out.getvalue())
    assert (table.access, table.indexed_by) == ("packets", "demux")
    assert_packets_show_what_the_container_shows(out.getvalue(), table)


def test_frames_that_an_edit_list_hides_are_not_offered():
    video = cut_start(encode(b_frames=2, options={"g": "20"}), seconds=0.5)
    table = table_of(video)
    assert len(table.pts) == 35
    assert sorted(table.pts.tolist()) == decoded_pts(video)
    assert table.access == "demux", "frames shown refer to hidden ones, which the table does not hold"
    assert table.duration_seconds == pytest.approx(3.5)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_pictures_cut_off_from_their_references_are_not_offered(container: str):
    """A stream cut inside an open GOP: the second keyframe is led by pictures that refer to the first GOP."""
    options = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0"}
    out = io.BytesIO()
    with av.open(io.BytesIO(encode(options=options))) as source, av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(source.streams.video[0]) if p.size]
        second_key = [i for i, p in enumerate(packets) if p.is_keyframe][1]
        for packet in packets[second_key:]:
            packet.stream = stream
            muxer.mux(packet)
    kept = out.getvalue()
    with av.open(io.BytesIO(kept)) as cut:
        pts = [p.pts for p in cut.demux(video=0) if p.size]
    leading = [value for value in pts if value < pts[0]]
    assert leading, "the encoder made no open GOP: this test would show nothing"
    table = table_of(kept)
    assert sorted(table.pts.tolist()) == sorted(set(pts) - set(leading))
    assert table.is_key[0]


def test_bytes_that_are_not_the_packets_are_not_promised():
    """Some demuxers assemble packets themselves. Here the bytes of the file differ from those of the packets."""

    class Differing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            is_comparison = size is not None and size in sizes
            return data[:-1] + b"?" if is_comparison else data

    video = encode()
    sizes = set(table_of(video).size_bytes.tolist())
    table = demux_packet_table(Differing(video), len(video))
    assert table.access == "demux"
    assert len(table.pts) == 40


def test_hidden_reference_frames_of_vp8_are_not_offered():
    out = io.BytesIO()
    with av.open(io.BytesIO(encode(codec="libvpx", container="webm"))) as source, av.open(out, "w", "webm") as muxer:
        stream = muxer.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(source.streams.video[0]) if p.size):
            data = bytearray(bytes(packet))
            data[0] &= 0xEF if number in (7, 20) else 0xFF  # the show_frame bit
            changed = av.Packet(bytes(data))
            changed.pts, changed.dts, changed.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            changed.time_base, changed.stream = packet.time_base, stream
            muxer.mux(changed)
    video = out.getvalue()
    assert sorted(table_of(video).pts.tolist()) == decoded_pts(video)
    assert len(table_of(video).pts) == 38


def test_decoding_times_in_the_place_of_presentation_times_are_refused():
    error = refusal_of(encode(container="avi", b_frames=2))
    assert error.kind == "unreliable_timestamps"
    assert "ffmpeg" in str(error)


# Cosine and sine of a counter-clockwise turn, and mirrors, where the answer is the turn that makes the picture upright.
TURNS = {(1, 0, 0, 1): 0, (0, -1, 1, 0): 90, (-1, 0, 0, -1): 180, (0, 1, -1, 0): 270}
MIRRORS = {(-1, 0, 0, 1): 0, (1, 0, 0, -1): 180}


@pytest.mark.parametrize(("matrix", "degrees"), [*TURNS.items(), *MIRRORS.items(), ((0, 0, 0, 0), 0)])
def test_a_display_matrix_is_read_as_counter_clockwise_degrees(matrix: tuple[int, ...], degrees: int):
    assert table_of(with_display_matrix(encode(2), *matrix)).rotation_degrees == degrees


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 5000, b"no video at all", encode(3)[:200]], ids=["empty", "zeros", "text", "cut"]
)
def test_what_is_no_video_is_unreadable(data: bytes):
    assert refusal_of(data).kind in ("unreadable_video", "no_video_stream", "cut_off")


def test_a_file_with_only_audio_has_no_video_stream():
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as muxer:
        stream = muxer.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode())
    error = refusal_of(out.getvalue())
    assert (error.kind, str(error)) == ("no_video_stream", "it has no video stream, only audio")


def test_too_large_frames_and_too_many_packets_are_refused(monkeypatch: pytest.MonkeyPatch):
    video = encode(12)
    monkeypatch.setattr(packet_arrays, "MAX_PACKETS", 11)
    assert refusal_of(video).kind == "too_many_packets"
    assert refusal_of(encode(12, container="matroska")).kind == "too_many_packets"
    monkeypatch.setattr(packet_arrays, "MAX_PACKETS", 12)
    monkeypatch.setattr(packet_arrays, "MAX_SIDE_PIXELS", 63)
    error = refusal_of(video)
    assert error.kind == "absurd_size"
    assert "64 x 48" in str(error)


def test_a_store_that_fails_is_not_the_videos_fault():
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 2000:
                raise StorageError("the network is down")
            return super().read(min(size or 0, 1024))

    video = encode(40, options={"qp": "0"}, size=(320, 240), codec="mpeg4")
    with pytest.raises(StorageError, match="network is down"):
        read_packet_table(Failing(video), len(video))


AWKWARD = {
    "afconvert-aac-0.5s.mp4": "no_video_stream",
    "av1_video.mkv": "packets",
    "bipbop_cbcs_video_init.mp4": "no_packets",
    "chunk_out_of_range.mp4": "unreadable_video",
    "corrupted.mp4": "packets",  # its start decodes; the rest shows when it is decoded
    "flipping_a_pancake.mkv": "packets",
    "h265_10bits.mp4": "packets",
    "nasa_13013.mp4": "packets",
    "no_timescale.mp4": "packets",
    "short-cenc.mp4": "encrypted",
    "zero_empty_stsc.mp4": "unreadable_video",
}


@pytest.mark.footage
def test_every_awkward_file_is_indexed_or_classified_within_a_second():
    for path in sorted((footage_folder() / "awkward").iterdir()):
        data = path.read_bytes()
        started = time.perf_counter()
        try:
            result = table_of(data).access
        except BadVideoError as error:
            result = error.kind
        seconds = time.perf_counter() - started
        assert seconds < 1.0, f"{path.name} took {seconds:.1f} s"
        assert result == AWKWARD.get(path.name, result), path.name
        assert result in ("packets", "demux") or path.name in AWKWARD or path.suffix == ".json", path.name


@pytest.mark.footage
def test_the_times_are_those_that_others_measured():
    """nasa_13013 has two video streams; the .json next to it has the times of every frame of the main one."""
    folder = footage_folder() / "awkward"
    table = table_of((folder / "nasa_13013.mp4").read_bytes())
    truth = json.loads((folder / "nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    seconds = np.sort(table.pts) * table.time_base_numerator / table.time_base_denominator
    assert np.allclose(seconds, [float(frame["pts_time"]) for frame in truth], atol=1e-6)


@pytest.mark.footage
@pytest.mark.parametrize("name", ["video_0.mov", "video_90.mov", "video_180.mov", "video_270.mov"])
def test_rotations_agree_with_decord(name: str):
    decord = pytest.importorskip("decord")
    path = footage_folder() / "awkward" / name
    with av.open(str(path)) as container:
        coded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    quarter_turns = table_of(path.read_bytes()).rotation_degrees // 90
    upright = np.rot90(coded, quarter_turns).astype(np.int16)
    shown = decord.VideoReader(str(path))[0].asnumpy().astype(np.int16)
    assert upright.shape == shown.shape
    assert np.abs(upright - shown).mean() < 2.0
