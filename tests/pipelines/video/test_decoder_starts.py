"""The packets at which a decoder may begin if it only knows the header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.inspection import mp4_table
from adaptfocus.pipelines.inspection.access_proof import starts_of
from adaptfocus.pipelines.inspection.mp4_table import read_mp4_table
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.video.decoder_starts import NO_START, DecoderStarts, brings_sets, starts_whole
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError, Spans
from adaptfocus.pipelines.video.spans import packets_of
from tests.moving import indexed, moving

# H.264 units: SPS 0 and 1, PPS 0 in two forms, slices, an SEI that is a recovery point after 0 or 2 frames.
SPS_0, SPS_1 = b"\x67\x42\0\x1e\x80", b"\x67\x42\0\x1e\x40"
PPS, OTHER_PPS = b"\x68\x80\x01", b"\x68\x80\x02"
IDR, P, B = b"\x65\x88", b"\x41\x88", b"\x01\x88"
AT_ONCE, LATER = b"\x06\x06\x01\xc4\x80", b"\x06\x06\x01\x64\x80"
AVCC = b"\x01\x42\0\x1e\xff\xe1\0\x05" + SPS_0 + b"\x01\0\x03" + PPS


def lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def start_codes(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def waits(codec: str, extradata: bytes, packets: list[bytes]) -> list[int]:
    starts = DecoderStarts(codec, extradata)
    return [starts.add(packet) for packet in packets]


@pytest.mark.parametrize("packed", [lengths, start_codes])
def test_sets_of_earlier_packets_are_not_known(packed) -> None:
    header = AVCC if packed is lengths else start_codes(SPS_0, PPS)
    packets = [packed(IDR), packed(SPS_0, PPS, IDR), packed(OTHER_PPS, IDR), packed(IDR), packed(OTHER_PPS, IDR),
               packed(PPS, IDR), packed(IDR)]  # fmt: skip
    assert waits("h264", header, packets) == [0, 0, 0, NO_START, 0, 0, 0]
    assert waits("h264", header, [packed(SPS_1, P), packed(IDR), packed(SPS_1, IDR)]) == [0, NO_START, 0]


@pytest.mark.parametrize("packed", [lengths, start_codes])
def test_recovery_points(packed) -> None:
    header = AVCC if packed is lengths else start_codes(SPS_0, PPS)
    assert waits("h264", header, [packed(AT_ONCE, P), packed(LATER, P), packed(LATER, IDR)]) == [0, 2, 0]


def test_headers_behind_start_codes() -> None:
    layer, other, picture = b"\0\0\1\x20\x08\x11", b"\0\0\1\x20\x08\x22", b"\0\0\1\xb6\x10"
    packets = [picture, layer + picture, other + picture, picture, other + picture]
    assert waits("mpeg4", layer, packets) == [0, 0, 0, NO_START, 0]
    sequence, matrices = b"\0\0\1\xb3\x11", b"\0\0\1\xb5\x3f"
    picture = b"\0\0\1\x00\x08\0\0\1\x01\x22"
    assert waits("mpeg2video", sequence, [sequence + picture, sequence + matrices + picture, picture]) == [
        0, 0, NO_START]  # fmt: skip
    assert waits("vp9", b"", [b"", b"\0"]) == [0, 0]


def test_sets_that_each_keyframe_repeats_are_no_surprise() -> None:
    assert brings_sets("h264", AVCC, lengths(SPS_0, PPS, IDR))
    assert not brings_sets("h264", AVCC, lengths(PPS, IDR))
    assert starts_whole("h264", AVCC, lengths(SPS_0, OTHER_PPS, IDR), are_repeated=True)
    assert not starts_whole("h264", AVCC, lengths(SPS_0, OTHER_PPS, IDR), are_repeated=False)
    assert not starts_whole("h264", AVCC, lengths(LATER, P), are_repeated=True)


def test_how_long_a_picture_is_not_whole() -> None:
    """Two pictures after the recovery point are referred to by others; pictures between them do not count."""
    pts, is_key = np.array([0, 10, 30, 20, 50, 40]), np.array([1, 1, 0, 0, 0, 0], bool)
    found = starts_of(pts, is_key, np.array([0, 2, 0, 0, 0, 0]), np.array([1, 1, 1, 0, 1, 0], bool))
    assert found.recovery_ticks == 40
    assert (found.is_start.tolist(), found.is_whole.tolist()) == (is_key.tolist(), [True] + [False] * 5)
    assert found.begins_whole
    assert not starts_of(pts, is_key, np.array([2, 0, 0, 0, 0, 0]), np.ones(6, bool)).begins_whole


def test_the_middle_is_proved_with_one_request_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keyframe is fetched at the same time as the first one."""
    monkeypatch.setattr(mp4_table, "PROOF_BYTES", 1000)
    path = moving(tmp_path / "v.mp4", num_frames=60, options={"g": "12"}, flags="faststart")
    data = path.read_bytes()
    file = RangeFile(str(path), 0, len(data))
    table = read_packet_table(file, len(data), data[: data.index(b"mdat") + 4])  # type: ignore[arg-type]
    assert table.indexed_by == "header"
    assert file.requests == 2


def test_damage_in_the_middle_is_seen_from_headers(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", num_frames=100, options={"g": "100", "x264-params": "keyint=50:scenecut=0"})
    packets, data = packets_of(indexed(path)), bytearray(path.read_bytes())
    key = int(np.flatnonzero(packets.is_key)[1])
    at, end = int(packets.offset_bytes[key]) + 200, int(packets.offset_bytes[key] + packets.size_bytes[key])
    data[at:end] = np.random.default_rng(0).integers(0, 255, end - at, np.uint8).tobytes()
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(NotPlainError, match="without the container"):
        read_mp4_table(Spans(file, len(data)))
