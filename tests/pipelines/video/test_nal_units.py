"""Packets that the decoder may skip, and packets that it must never skip."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines.decode.span import _decoded, new_context, packets_in
from adaptfocus.pipelines.video.nal_units import _h264_record, find_needed
from adaptfocus.pipelines.video.spans import packets_of
from tests.moving import bags_of, data_of, indexed, kind, moving

# Headers of NAL units with nothing behind them. Of HEVC: type, sub-layer.
P, B, IDR, SEI, SPS = b"\x41", b"\x01", b"\x65", b"\x06", b"\x67"


def hevc(kind: int, sublayer: int = 0) -> bytes:
    return bytes([kind << 1, sublayer + 1])


def hvcc(layers: int) -> bytes:
    return b"\1" + bytes(20) + bytes([layers << 3 | 3]) + b"\0"


def packet(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def kept(codec: str, extradata: bytes, packets: list[bytes], wanted: set[int], goes_on: bool = False) -> list[int]:
    keep = find_needed(codec, extradata, packets, [number in wanted for number in range(len(packets))], goes_on)
    return [number for number, is_kept in enumerate(keep) if is_kept]


@pytest.fixture
def avcc(tmp_path: Path) -> bytes:
    return indexed(moving(tmp_path / "v.mp4", num_frames=5))["extradata"]


def test_pictures_that_nothing_refers_to_are_left_out_unless_wanted(avcc: bytes) -> None:
    packets = [packet(SEI, IDR), packet(P), packet(B), packet(B), packet(P), packet(B)]
    assert kept("h264", avcc, packets, {3, 5}) == [0, 1, 3, 4, 5]


def test_every_slice_has_to_say_so(avcc: bytes) -> None:
    """A packet of two fields, or of several slices, is referred to if one of them is."""
    packets = [packet(IDR), packet(B, P), packet(P, B), packet(SEI, B, B), packet(P)]
    assert kept("h264", avcc, packets, {4}) == [0, 1, 2, 4]


def test_a_group_of_pictures_without_a_wanted_one_is_left_out(avcc: bytes) -> None:
    packets = [packet(IDR), packet(P), packet(P), packet(IDR), packet(P), packet(IDR), packet(P), packet(P)]
    assert kept("h264", avcc, packets, {1, 6}) == [0, 1, 5, 6]
    assert kept("h264", avcc, packets, {1}, goes_on=True) == [0, 1, 5, 6, 7]


def test_parameter_sets_are_never_left_out(avcc: bytes) -> None:
    packets = [packet(IDR), packet(SPS, B), packet(B), packet(SPS, IDR), packet(IDR)]
    assert kept("h264", avcc, packets, {4}) == [0, 1, 3, 4]


@pytest.mark.parametrize(
    "broken", [b"\0\0\0\1" + P + P, b"\0\0\0\1\x01", packet(b"\x0e", B), packet(b"\x0b", B), b"", packet(b"")]
)
def test_what_is_not_understood_is_decoded(avcc: bytes, broken: bytes) -> None:
    """Annex B, layers, ends of sequences, lengths that do not fit."""
    if broken == b"\0\0\0\1\x01":
        assert kept("h264", avcc, [packet(IDR), broken, packet(P)], {2}) == [0, 2]  # it is one, of a length of 1
    else:
        assert kept("h264", avcc, [packet(IDR), broken, packet(P)], {2}) == [0, 1, 2]
    assert kept("h264", b"\0\0\0\1\x67", [packet(IDR), packet(B), packet(P)], {2}) == [0, 1, 2]
    assert kept("vp9", b"", [packet(IDR), packet(B), packet(P)], {2}) == [0, 1, 2]


def test_streams_that_may_hold_fields_are_decoded_whole(tmp_path: Path) -> None:
    """The halves of a frame need not be in one packet, and only one of them is known to be wanted."""
    extradata = indexed(kind("interlaced", tmp_path))["extradata"]
    assert kept("h264", extradata, [packet(IDR), packet(B), packet(P)], {2}) == [0, 1, 2]


def test_higher_sub_layers_of_hevc_refer_to_what_their_own_does_not() -> None:
    idr, trail_n, trail_r, tsa_n = hevc(19), hevc(0), hevc(1), hevc(2, 1)
    packets = [packet(idr), packet(trail_n), packet(trail_r), packet(trail_n), packet(trail_r)]
    assert kept("hevc", hvcc(1), packets, {4}) == [0, 2, 4]
    layered = [packet(idr), packet(trail_n), packet(tsa_n), packet(trail_n), packet(trail_r)]
    assert kept("hevc", hvcc(2), layered, {4}) == [0, 1, 4]
    assert kept("hevc", hvcc(1), packets, {4}, goes_on=True) == [0, 2, 4]
    assert kept("hevc", hvcc(2), packets, {4}, goes_on=True) == [0, 1, 2, 3, 4]
    assert kept("hevc", hvcc(0), packets, {4}, goes_on=True) == [0, 1, 2, 3, 4]
    assert kept("hevc", b"", packets, {4}) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("name", "share"), [("gop-250-moov-last-aac", 0.3), ("hevc-open-gop", 0.25), ("mjpeg", 0.6)])
def test_a_third_of_ordinary_packets_is_left_out(tmp_path: Path, name: str, share: float) -> None:
    """What makes decoding cheaper than a plain decode of the same packets."""
    video = indexed(kind(name, tmp_path))
    left_out = total = 0
    for bag in bags_of(video, [1] * 20, 5):
        wanted = {pts for clip in bag["clips"] for pts in clip["frame_pts"]}
        for span, data in zip(bag["spans"], data_of(bag), strict=True):
            packets = packets_in(packets_of(span), data)
            keep = find_needed(
                video["codec"], video["extradata"], [p.data for p in packets], [p.pts in wanted for p in packets]
            )
            left_out, total = left_out + keep.count(False), total + len(keep)
    assert left_out / total > share


@pytest.mark.parametrize("name", ["mpeg4", "mpeg2"])
def test_decoders_that_know_b_pictures_pass_over_those_not_wanted(tmp_path: Path, name: str) -> None:
    """g=12:bf=2: two of three pictures are B pictures, of which at most one is wanted."""
    video = indexed(kind(name, tmp_path))
    bag = bags_of(video, [20], 5)[0]
    spans = zip(bag["spans"], data_of(bag), strict=True)
    packets = max((packets_in(packets_of(span), data) for span, data in spans), key=len)
    wanted = {packets[-1].pts}
    spared, whole = (
        [frame.pts for frame in _decoded(new_context(video["codec"], video["extradata"]), packets, each)]
        for each in (wanted, None)
    )
    assert wanted <= set(spared) < set(whole)
    assert len(spared) <= len(whole) / 3 + 2


def numbered(header: bytes, number: int, number_bits: int) -> bytes:
    """A slice: first_mb 0, type 5 (P), parameter set 0, frame_num."""
    text = "1" + "00110" + "1" + f"{number:0{number_bits}b}" + "1"
    return header + int(text.ljust(80, "0"), 2).to_bytes(10, "big")


def test_all_is_decoded_where_numbers_show_that_a_picture_was_lost(avcc: bytes) -> None:
    bits = _h264_record(avcc)[1]
    assert bits >= 4

    def stream(*numbers: tuple[bytes, int]) -> list[bytes]:
        return [packet(numbered(IDR, 0, bits)), *(packet(numbered(kind, number, bits)) for kind, number in numbers)]

    whole = stream((P, 1), (B, 2), (B, 2), (P, 2), (B, 3), (P, 3))
    assert kept("h264", avcc, whole, {6}) == [0, 1, 4, 6]
    lacking = stream((P, 1), (B, 2), (B, 2), (B, 3), (P, 3))
    assert kept("h264", avcc, lacking, {5}) == [0, 1, 2, 3, 4, 5]
    around = [(P, number % (1 << bits)) for number in range(1, 2 + (1 << bits))] + [(B, 2)]
    every = stream(*around)
    assert kept("h264", avcc, every, {len(every) - 2}) == list(range(len(every) - 1))
