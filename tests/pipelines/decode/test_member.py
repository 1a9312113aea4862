"""The same clips through a demuxer and through decord."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.decode.member import MAX_MEMBER_BYTES
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import BadVideoError, ConfigError
from tests.moving import bags_of, expected_rgb, indexed, kind, moving, sequential
from tests.pipelines.decode.test_frames import BAGS, CROP, FRAMES, SIZE, bag_at, count_equal, decoded

DEMUX = DecodeConfig(backend="demux", crop_fraction=CROP)
DECORD = DecodeConfig(backend="decord", crop_fraction=CROP)


def truth_of(path: Path) -> dict[int, np.ndarray]:
    return {pts: expected_rgb(frame, SIZE, 0, CROP) for pts, frame in sequential(path).items()}


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("ts", {"options": {"g": "25"}}), ("avi", {"codec": "mpeg4", "options": {"g": "12"}}),
     ("mkv", {"codec": "libx264", "options": {"g": "12"}}),
     ("mkv", {"codec": "libx264", "options": {"x264-params": "keyint=24:open-gop=1:bframes=3"}}),
     ("mkv", {"codec": "libx265", "options": {"x265-params": "keyint=24:open-gop=1:log-level=none"}}),
     ("webm", {"codec": "libvpx-vp9", "options": {"g": "20", "cpu-used": "8", "deadline": "realtime"}}),
     ("mp4", {"flags": "frag_keyframe+empty_moov", "options": {"g": "20"}})],
)  # fmt: skip
def test_containers_without_a_usable_table(tmp_path: Path, suffix: str, options: dict) -> None:
    path = moving(tmp_path / f"v.{suffix}", num_frames=300, **options)
    video = indexed(path) | {"access": "demux"}
    assert (
        count_equal(bags_of(video, BAGS[-6:], FRAMES), truth_of(path), DecodeConfig(crop_fraction=CROP)) > 180 * FRAMES
    )


@pytest.mark.parametrize("name", ["hevc-open-gop", "h264-open-gop", "variable-rate", "gop-250-moov-last-aac"])
def test_mp4_through_a_demuxer_is_the_same(tmp_path: Path, name: str) -> None:
    """A seek uses decoding times: in an open GOP it lands on a keyframe that is shown after the wanted frame."""
    path = kind(name, tmp_path)
    assert count_equal(bags_of(indexed(path), [1] * 20 + [16], FRAMES), truth_of(path), DEMUX) == 36 * FRAMES


def test_clips_in_any_order_come_from_one_way_through_the_file(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", num_frames=250, options={"g": "250"})
    bag = bag_at(indexed(path), [8.0, 8.4], [0.5, 1.0], [4.2, 4.4])
    truth = truth_of(path)
    assert count_equal([bag], truth, DEMUX) == 6


def test_what_is_no_video_any_more_is_a_bad_video(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", options={"g": "10"})
    bag = bag_at(indexed(path), [1.0])
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BadVideoError) as caught:
        decoded(bag, DEMUX)
    assert caught.value.kind == "decode_error"


@pytest.mark.parametrize(
    "name",
    ["gop-250-moov-last-aac", "gop-60-faststart", "variable-rate", "headers-in-every-keyframe", "full-range", "mjpeg"],
)
def test_decord_shows_the_same_frames(tmp_path: Path, name: str) -> None:
    """The pixels differ, because it converts to RGB before we crop and scale, but the wanted frame is nearest."""
    pytest.importorskip("decord")
    path = kind(name, tmp_path)
    video, truth = indexed(path), truth_of(path)
    assert video["keys_in_order"]
    pts, pictures = np.array(list(truth)), np.stack(list(truth.values())).astype(np.int16)
    for bag in bags_of(video, [1] * 6 + [14], FRAMES):
        for clip, frames in zip(bag["clips"], decoded(bag, DECORD), strict=True):
            for wanted, frame in zip(clip["frame_pts"], frames, strict=True):
                differences = np.abs(pictures - frame).mean(axis=(1, 2, 3))
                assert pts[differences.argmin()] == wanted
                assert differences.min() < 4


def test_decord_is_refused_where_it_shows_wrong_frames(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    bag = bag_at(indexed(kind("h264-open-gop", tmp_path)), [1.0])
    with pytest.raises(BadVideoError, match=r"open GOPs, .* set decode.backend=packets") as caught:
        decoded(bag, DECORD)
    assert caught.value.kind == "decord_unsafe"


def test_decord_is_not_given_what_does_not_fit_into_memory(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    bag = bag_at(indexed(moving(tmp_path / "v.mp4")), [1.0]) | {"member_size_bytes": MAX_MEMBER_BYTES + 1}
    with pytest.raises(BadVideoError, match="2,147,483,649 bytes, at most 2,147,483,648") as caught:
        decoded(bag, DECORD)
    assert caught.value.kind == "member_too_large"


def test_decord_has_to_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)  # what an import of something that is not there finds
    bag = bag_at(indexed(moving(tmp_path / "v.mp4")), [1.0])
    with pytest.raises(ConfigError, match=r"pip install 'adaptfocus\[decord\]'"):
        decoded(bag, DECORD)


def test_decord_refuses_a_broken_file(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = moving(tmp_path / "v.mp4", options={"g": "10"})
    bag = bag_at(indexed(path), [1.0])
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BadVideoError) as caught:
        decoded(bag, DECORD)
    assert caught.value.kind == "decode_error"
