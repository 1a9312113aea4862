"""Checks of the times of a whole table: right ones pass, joined or damaged ones are refused with the true reason."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.inspection.table_checks import is_misnumbered, wrong_times
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from tests.moving import data_of, expected_rgb, indexed, moving, sequential

X264 = {"x264-params": "keyint=25:bframes=2:scenecut=0"}
OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-pyramid=normal:scenecut=0"}
SIZE = 32


def refusal_of(video: bytes) -> str:
    with pytest.raises(BadVideoError) as caught:
        read_packet_table(io.BytesIO(video), len(video))
    assert caught.value.kind == "unreliable_timestamps"
    return str(caught.value)


def remuxed(video: bytes, container: str, changed: Any) -> bytes:
    """The packets in another file, after `changed(number, packet)` has had each."""
    out = io.BytesIO()
    with av.open(io.BytesIO(video)) as source, av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            if changed(number, packet) is not False:
                packet.stream = stream
                muxer.mux(packet)
    return out.getvalue()


@pytest.mark.parametrize(
    ("container", "how"),
    [
        ("mpegts", {"options": X264}),
        ("mpegts", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}),
        ("mpeg", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}),
        ("mpegts", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10"}}),
    ],
)
def test_two_streams_behind_each_other_are_refused(tmp_path: Path, container: str, how: dict[str, Any]) -> None:
    """Their times start again, so clips would mix both; also with streams of different lengths, and other offsets."""
    one, two = (moving(tmp_path / str(n), num_frames=n, container=container, **how).read_bytes() for n in (60, 35))
    for joined in (one + two, two + one, one + one):
        assert "its times run back after" in refusal_of(joined)


def test_a_stream_that_begins_anew_before_it_began_is_refused(tmp_path: Path) -> None:
    """FFmpeg takes times before the first for those after an overflow, 26 hours later."""
    video = moving(tmp_path / "v.ts", num_frames=30, options=X264).read_bytes()

    def later(_: int, packet: Any) -> None:
        packet.pts, packet.dts = packet.pts + 90_000 * 40_000, packet.dts + 90_000 * 40_000

    assert "its times leap by 15.4 hours" in refusal_of(remuxed(video, "mpegts", later) + video)


@pytest.mark.parametrize("container", ["matroska", "mp4", "flv", "mpegts"])
def test_a_time_that_occurs_twice_is_refused(tmp_path: Path, container: str) -> None:
    video = moving(tmp_path / "v.mp4", num_frames=40, options={"x264-params": "keyint=10:bframes=0"}).read_bytes()

    def doubled(number: int, packet: Any) -> None:
        packet.pts += packet.duration * (number == 20)  # decoding times stay apart

    assert "have the time of another" in refusal_of(remuxed(video, container, doubled))


@pytest.mark.parametrize("at", [25, 30])
def test_times_that_run_back_once_are_refused(tmp_path: Path, at: int) -> None:
    """They run back by some pictures, at a keyframe or between. No time occurs twice, and decoding times still rise."""
    video = moving(tmp_path / "v.mp4", num_frames=60, options={"x264-params": "keyint=10:bframes=0"}).read_bytes()

    def back(number: int, packet: Any) -> None:
        packet.pts -= (packet.duration * 7 // 2) * (number >= at)
        packet.dts = number * 10 - 1000

    assert f"its times run back after {(at - 1) / 25:.2f} s" in refusal_of(remuxed(video, "mp4", back))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 4), st.booleans(), st.integers(1, 5000))
def test_what_encoders_write_passes(gops: list[int], b_frames: int, is_open: bool, ticks: int) -> None:
    """Groups of pictures, closed or open, with pyramids of B-frames in decoding order."""
    pts, keys, shown = [], [], 0
    for number, length in enumerate(gops):
        leading = min(b_frames, 3) if is_open and number else 0
        keys += [True] + [False] * leading
        pts += [shown + leading, *range(shown, shown + leading)]
        shown += leading + 1
        while length > 0:
            inside = min(b_frames, length - 1)
            order = sorted(range(inside), key=lambda b: (b % 2 == 0, b))  # referred to first
            pts += [shown + inside, *(shown + b for b in order)]
            keys += [False] * (inside + 1)
            shown, length = shown + inside + 1, length - inside - 1
    assert sorted(pts) == list(range(len(pts)))
    assert wrong_times(np.array(pts) * ticks, np.array(keys), "h264", 1e-3) is None


@given(st.integers(20, 60), st.integers(1, 60), st.integers(0, 200))
def test_no_two_recordings_pass_as_one(first: int, second: int, back: int) -> None:
    """Wherever the second begins, unless it is behind the first."""
    starts_at = first - 1 - back
    pts = np.concatenate([np.arange(first), starts_at + np.arange(second)])
    keys = np.isin(np.arange(len(pts)), [0, first])
    assert wrong_times(pts, keys, "h264", 0.04) is not None


def test_frames_that_are_shown_in_the_order_of_decoding_may_not_step_back() -> None:
    pts = np.array([0, 10, 30, 20, 40])
    keys = np.array([True, False, False, False, False])
    assert wrong_times(pts, keys, "h264", 0.01) is None
    assert "run back after 0.30 s, at packet 4 of 5" in str(wrong_times(pts, keys, "vp9", 0.01))


def open_gop_cut(path: Path, keep_key: bool) -> bytes:
    """Open GOPs cut inside, by copying into Matroska: pictures that lead the first keyframe come without a time."""
    video = moving(path, num_frames=60, options=OPEN_GOP).read_bytes()
    with av.open(io.BytesIO(video)) as source:
        packets = [p for p in source.demux(video=0) if p.size]
        keys = [number for number, p in enumerate(packets) if p.is_keyframe]
        first = keys[1] if keep_key else keys[1] - 5
        leading = list(itertools.takewhile(lambda p: p.pts < packets[keys[1]].pts, packets[keys[1] + 1 :]))
        assert leading, "an open GOP"
        zero = packets[keys[1]].pts

    def shifted(number: int, packet: Any) -> bool | None:
        if number < first:
            return False
        packet.pts, packet.dts = packet.pts - zero, packet.dts - zero
        return None

    return remuxed(video, "matroska", shifted)


@pytest.mark.parametrize("keep_key", [True, False])
def test_pictures_before_the_first_keyframe_are_not_shown(tmp_path: Path, keep_key: bool) -> None:
    path = tmp_path / "cut.mkv"
    path.write_bytes(open_gop_cut(tmp_path / "v.mp4", keep_key))
    with av.open(str(path)) as container:
        found = [p for p in container.demux(video=0) if p.size]
    assert not found[0].is_keyframe or any(p.pts is None for p in found), "nothing leads"
    video = indexed(path)
    packets, frames = packets_of(video), sequential(path)
    shown = shown_pts(video, packets)
    key_pts = packets.pts[packets.is_key].min()
    assert shown.tolist() == sorted(pts for pts in frames if pts is not None and pts >= key_pts)
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    times = (shown - shown[0]) * tick
    bag = bare_bag(video, *find_clips(video, packets, shown, [times[:6], times[-6:]]))
    for backend in ("packets", "demux"):
        out = np.empty((2, 6, 3, SIZE, SIZE), np.uint8)
        decode_clips(bag, data_of(bag), SIZE, DecodeConfig(backend=backend), out)
        for clip, pictures in zip(bag["clips"], out, strict=True):
            for pts, picture in zip(clip["frame_pts"], pictures, strict=True):
                assert np.array_equal(picture, expected_rgb(frames[pts], SIZE)), (backend, pts)


@pytest.mark.parametrize(("container", "made_up"), [("matroska", 0), ("mpegts", 1)])
def test_leading_pictures_with_times_that_a_muxer_made_up_are_not_shown(
    tmp_path: Path, container: str, made_up: int
) -> None:
    """Copying a cut MPEG-2 stream gives them the time of the keyframe, or one tick more. None of them is shown."""
    how = {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}
    video = moving(tmp_path / "v.mp4", num_frames=50, **how).read_bytes()
    with av.open(io.BytesIO(video)) as source:
        packets = [p for p in source.demux(video=0) if p.size]
    key = [number for number, p in enumerate(packets) if p.is_keyframe][1]
    assert all(p.pts < packets[key].pts for p in packets[key + 1 : key + 3]), "two pictures lead it"
    tick = round(1 / packets[key].time_base / (90_000 if container == "mpegts" else 1000)) * made_up

    def cut(number: int, packet: Any) -> bool | None:
        if number < key:
            return False
        if key < number <= key + 2:
            packet.pts = packets[key].pts + max(tick, made_up) * (number - key)
        packet.dts = packets[key].dts + (number - key)
        return None

    path = tmp_path / f"cut.{container}"
    path.write_bytes(remuxed(video, container, cut))
    row = indexed(path)
    shown = shown_pts(row, packets_of(row))
    assert shown.tolist() == sorted(sequential(path))
    assert len(shown) == len(packets) - key - 2


def test_an_index_of_an_avi_that_says_other_numbers_or_leads_elsewhere() -> None:
    """Its entries point to chunks, whose content begins 8 bytes later."""
    packets = [(1008, 90, 0, 0), (1108, 90, 1, 1), (1208, 90, 2, 2)]

    def index(*places: tuple[int, int]) -> list[SimpleNamespace]:
        return [SimpleNamespace(pos=at, timestamp=number) for at, number in places]

    whole = index((1000, 0), (1100, 1), (1200, 2))
    assert not is_misnumbered("avi", whole, packets)
    assert not is_misnumbered("avi", index((1000, 0)), packets)
    assert not is_misnumbered("avi", [], packets)
    assert is_misnumbered("avi", whole, [packets[0], (1208, 90, 1, 1)]), "a packet was lost"
    assert is_misnumbered("avi", index((1000, 0), (1300, 1)), packets), "it leads elsewhere"
    assert not is_misnumbered("flv", index((1300, 1)), packets), "its packets have times"
