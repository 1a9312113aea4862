"""Damaged pictures that are shown after frames that refer to them: such frames are refused or decoded sequentially."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.filler import Filler
from adaptfocus.pipelines.decode.member import demux_frames, seek_frames
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.window_jobs import Store, dense_job
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.video.packets import encode_packets
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from tests.moving import data_of, indexed, moving, sequential

SIZE = 32
B_OPTIONS = {"g": "30", "bf": "2", "b_strategy": "0", "sc_threshold": "0", "b-pyramid": "none"}


def bag_at_packet(video: dict, at: int) -> dict:
    """A bag of one clip of one frame: the frame of the packet at a place in decoding order."""
    packets = packets_of(video)
    shown = shown_pts(video, packets)
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    return bare_bag(video, *find_clips(video, packets, shown, [np.array([(packets.pts[at] - shown[0]) * tick])]))


def last_b(video: dict) -> int:
    """The place of a packet B that is shown before the packet P in front of it, to which it refers."""
    packets = packets_of(video)
    return next(n for n in range(12, 30) if packets.pts[n] < packets.pts[n - 1] and not packets.is_key[n - 1])


def decoded(bag: dict) -> np.ndarray:
    out = np.empty((1, 1, 3, SIZE, SIZE), np.uint8)
    decode_clips(bag, data_of(bag), SIZE, DecodeConfig(), out)
    return out


def test_a_damaged_picture_that_is_shown_behind_the_clip_is_not_passed_over(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", num_frames=60, options=B_OPTIONS)
    video = indexed(path)
    at, packets = last_b(video), packets_of(video)
    bag = bag_at_packet(video, at)
    assert decoded(bag).any(), "the file is whole"
    damage(path, packets.offset_bytes[at - 1], packets.size_bytes[at - 1])
    assert any(frame.is_corrupt for frame in sequential(path).values()), "the decoder covers the damage and says so"
    with pytest.raises(BadVideoError) as caught:
        decoded(bag)
    assert caught.value.kind == "decode_error"


def test_windows_do_not_pass_over_it_either(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", num_frames=60, options=B_OPTIONS)
    video = indexed(path)
    at, packets = last_b(video), packets_of(video)
    shown = shown_pts(video, packets)
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    seconds = (packets.pts[at] - shown[0]) * tick
    shape = {"frames": 1, "stride_seconds": 1.0, "hop_seconds": 0.02, "size_pixels": SIZE, "decode": DecodeConfig()}
    job = dense_job(video, start_seconds=seconds, end_seconds=seconds + 0.02, **shape)
    out = np.empty((1, 1, 3, SIZE, SIZE), np.uint8)
    assert Filler(job, Store()).fill(out).is_over, "the file is whole"
    damage(path, packets.offset_bytes[at - 1], packets.size_bytes[at - 1])
    with pytest.raises(BadVideoError) as caught:
        Filler(job, Store()).fill(out)
    assert caught.value.kind == "decode_error"


def damage(path: Path, offset_bytes: int, size_bytes: int) -> None:
    data = bytearray(path.read_bytes())
    start, end = offset_bytes + size_bytes // 3, offset_bytes + size_bytes
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def test_behind_a_seek_such_a_frame_is_that_of_a_sequential_decode(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mkv", num_frames=60, options=B_OPTIONS)
    video = indexed(path)
    packets = packets_of(video)
    first = int(np.flatnonzero(packets.is_key)[1])
    at = next(n for n in range(first + 4, 60) if packets.pts[n] < packets.pts[n - 1])
    pts = int(packets.pts[at])
    damage(path, packets.offset_bytes[at - 1], packets.size_bytes[at - 1])
    member = io.BytesIO(path.read_bytes())
    with pytest.raises(BadVideoError) as caught:
        list(seek_frames([pts], member))
    assert caught.value.kind == "decode_error"
    (frame,) = demux_frames([pts], member)
    assert np.array_equal(frame.to_ndarray(), sequential(path)[pts].to_ndarray())


def test_an_mpeg4_packet_without_a_picture_shows_none(tmp_path: Path) -> None:
    """The decoder gives the time of the packet to a picture that it still holds, although that is shown later."""
    video = indexed(moving(tmp_path / "v.mp4", codec="mpeg4", num_frames=60, options={"g": "30", "bf": "2"}))
    bag = bag_at_packet(video, last_b(video))
    assert decoded(bag).any(), "the file is whole"
    last = packets_of(bag["spans"][-1])
    last.size_bytes[-1] = 4  # no more than the start code
    bag["spans"][-1]["packets"] = encode_packets(last)
    with pytest.raises(BadVideoError) as caught:
        decoded(bag)
    assert caught.value.kind == "missing_frame"
