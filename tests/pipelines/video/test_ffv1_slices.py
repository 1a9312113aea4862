"""Damage in FFV1, which FFmpeg conceals silently, is found by sizes and checksums, in every way of reading."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.ffv1_slices import damage_of, refuse_damaged
from tests.moving import indexed, moving, sequential
from tests.pipelines.decode.test_frames import CROP, SIZE, bag_at, count_equal, decoded
from tests.pipelines.decode.test_member import truth_of

LEVEL_4 = {"level": "4", "strict": "experimental"}
CHECKED = [
    {"level": "3", "slicecrc": "1", "slices": "4"},
    {"level": "3", "slicecrc": "1", "slices": "24", "coder": "0"},
    {"level": "3", "slicecrc": "1", "slices": "9", "coder": "2", "context": "1", "g": "1"},
    LEVEL_4 | {"slicecrc": "1", "slices": "4"},
    LEVEL_4 | {"slicecrc": "2", "slices": "4"},  # check sums that begin with another value
]
UNCHECKED = [
    {"level": "3", "slicecrc": "0", "slices": "4"},
    {"level": "3", "slicecrc": "0", "slices": "30", "coder": "0"},
    LEVEL_4 | {"slicecrc": "0", "slices": "4"},
]
OLD = [{"level": "1"}, {"level": "0"}]


def packets_of(folder: Path, options: dict[str, str], num_frames: int = 14) -> tuple[bytes, list[bytes]]:
    path = moving(folder / "v.mkv", codec="ffv1", options=options, num_frames=num_frames)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context.extradata or b"", [bytes(p) for p in container.demux(stream) if p.size]


@pytest.mark.parametrize("options", CHECKED, ids=str)
def test_every_flipped_bit_of_a_stream_with_check_sums_is_found(tmp_path: Path, options: dict[str, str]) -> None:
    extradata, packets = packets_of(tmp_path, options)
    assert {damage_of(extradata, packet) for packet in packets} == {""}
    random = np.random.default_rng(0)
    for packet in packets[0], packets[-1]:  # a keyframe, and one that refers to it unless all are
        drawn = random.integers(0, len(packet), 200).tolist()
        for at in [0, *drawn, *range(len(packet) - 20, len(packet))]:
            broken = bytearray(packet)
            broken[at] ^= 1 << int(random.integers(8))
            assert damage_of(extradata, bytes(broken)), f"byte {at} of {len(packet)}"


@pytest.mark.parametrize("options", CHECKED + UNCHECKED, ids=str)
def test_packets_that_lost_gained_or_zeroed_bytes_are_damaged(tmp_path: Path, options: dict[str, str]) -> None:
    extradata, (packet, *_) = packets_of(tmp_path, options, 1)
    for broken in (
        packet[:-1], packet[1:], packet + b"\0", b"\0" + packet, packet[: len(packet) // 2], bytes(len(packet)),
        bytes(24 * 100), packet[:-48] + bytes(48), packet[:2], b"\0",
    ):  # fmt: skip
        assert "do not add up" in damage_of(extradata, broken)


@pytest.mark.parametrize("options", UNCHECKED, ids=str)
def test_a_stream_without_check_sums_is_never_refused_for_its_pixels(tmp_path: Path, options: dict[str, str]) -> None:
    extradata, packets = packets_of(tmp_path, options, 60)
    assert {damage_of(extradata, packet) for packet in packets} == {""}
    assert damage_of(extradata, b"\xff" + packets[0][1:]) == "", "there is nothing to tell it by"


def test_trailers_that_look_like_longer_ones_by_chance_are_no_damage(tmp_path: Path) -> None:
    extradata, _ = packets_of(tmp_path, UNCHECKED[0], 1)
    packet = bytes(92) + (92).to_bytes(3, "big") + bytes(2) + (97).to_bytes(3, "big")
    assert damage_of(extradata, packet) == "", "one slice of 97 bytes, or of 92 and a wrong check sum"


@pytest.mark.parametrize("options", OLD, ids=str)
def test_old_versions_and_other_codecs_are_let_be(tmp_path: Path, options: dict[str, str]) -> None:
    extradata, packets = packets_of(tmp_path, options)
    for packet in packets:
        assert damage_of(extradata, packet) == damage_of(extradata, packet[:-5]) == ""
        assert damage_of(b"something else", packet) == ""
    refuse_damaged("h264", packets_of(tmp_path, CHECKED[0])[0], b"\1" * 50, 0)


def with_flipped_byte(whole: Path, number: int) -> Path:
    """A copy with one byte of a packet changed."""
    with av.open(str(whole)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0)][number]
    data = bytearray(whole.read_bytes())
    data[data.find(packet) + len(packet) // 2] ^= 0x55
    broken = whole.with_stem(f"broken-{number}")
    broken.write_bytes(data)
    return broken


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(whole file of 100 frames with 12 in a GOP, the same with its 55th damaged)."""
    options = CHECKED[0] | {"g": "12"}
    whole = moving(tmp_path_factory.mktemp("ffv1") / "whole.mkv", codec="ffv1", options=options, num_frames=100)
    return whole, with_flipped_byte(whole, 54)


def test_frames_that_need_a_damaged_packet_are_refused(damaged: tuple[Path, Path]) -> None:
    whole, broken = damaged
    shown = [sequential(path) for path in damaged]
    assert len(shown[0]) == len(shown[1]) == 100
    assert not any(frame.is_corrupt for frame in shown[1].values()), "FFmpeg says nothing"
    video = indexed(broken)
    for seconds in 2.16, 2.3:  # the frame itself, and the last before the next keyframe
        with pytest.raises(
            BadVideoError, match=r"FFV1 packet at pts 2160 is damaged: the check sum of slice \d of 4"
        ) as caught:
            decoded(bag_at(video, [seconds]), DecodeConfig(crop_fraction=CROP))
        assert caught.value.kind == "decode_error"
    # All others: of the same GOP before it, of those before and behind.
    bags = [bag_at(video, [seconds]) for seconds in (0.0, 1.0, 1.92, 2.12, 2.4, 3.9)]
    assert count_equal(bags, truth_of(whole), DecodeConfig(crop_fraction=CROP)) == 6


def test_windows_up_to_the_damage_and_behind_it(damaged: tuple[Path, Path]) -> None:
    video = indexed(damaged[1])
    shape = {"frames": 1, "stride_seconds": 0.04, "hop_seconds": 0.04, "size_pixels": SIZE}
    windows = dense_windows(video, **shape)
    assert len(list(islice(windows, 54))) == 54
    with pytest.raises(BadVideoError, match="FFV1 packet at pts 2160 is damaged"):
        next(windows)
    assert len(list(dense_windows(video, start_seconds=2.41, **shape))) == 40


def test_damage_in_the_middle_does_not_change_how_a_file_is_read(damaged: tuple[Path, Path]) -> None:
    """No seek shows a keyframe that was concealed with the picture before it. That is no reason to give up seeking."""
    broken = with_flipped_byte(damaged[0], 60)  # the second keyframe behind 40 % of the file, which is compared
    assert indexed(damaged[0])["access"] == indexed(broken)["access"] == "demux"


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "nut"])
def test_ffv1_is_read_through_a_demuxer(tmp_path: Path, suffix: str) -> None:
    """A bare decoder does not open, because only the container has the size of the pictures. So one check is enough."""
    video = indexed(moving(tmp_path / f"v.{suffix}", codec="ffv1", options=CHECKED[0], num_frames=50))
    assert video["access"] == "demux"
    assert len(decoded(bag_at(video, [0.0, 1.9]))) == 1
    with pytest.raises(BadVideoError, match="avcodec_open2"):
        decoded(bag_at(video | {"access": "packets"}, [0.0]))
