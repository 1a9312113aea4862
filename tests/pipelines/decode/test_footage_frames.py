"""Videos that people filmed: every frame of every clip is the one that a sequential decode shows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.spans import packets_of, shown_pts
from tests.footage import footage_files, footage_folder
from tests.moving import bags_of, expected_rgb, indexed, sequential
from tests.pipelines.decode.test_frames import CROP, FRAMES, SIZE, count_equal

pytestmark = pytest.mark.footage

CLIPS = [1] * 6 + [14, 180]  # of each bag: 200, alone, with gaps between them, and all over the video
DECODE = DecodeConfig(crop_fraction=CROP)
# Their index is right, but their pictures are not: a plain decode fails on the way, or every frame is corrupt.
BROKEN = {"corrupted.mp4", "no_timescale.mp4"}
NOT_VIDEOS = {
    "afconvert-aac-0.5s.mp4", "bipbop_cbcs_video_init.mp4", "chunk_out_of_range.mp4", "short-cenc.mp4",
    "zero_empty_stsc.mp4",
}  # fmt: skip


def names() -> list[str]:
    try:
        folder, files = footage_folder(), footage_files()
    except pytest.skip.Exception:
        return ["none"]  # the test then skips, with the reason
    return [path.relative_to(folder).as_posix() for path in files if path.name not in NOT_VIDEOS]


@pytest.mark.parametrize("name", names())
def test_two_hundred_clips_equal_a_sequential_decode(name: str) -> None:
    path = footage_folder() / name
    video, truth = indexed(path), {}
    for pts, frame in sequential(path).items():
        truth[pts] = expected_rgb(frame, SIZE, video["rotation_degrees"], CROP)
    count, refused = 0, 0
    for bag in bags_of(video, CLIPS, FRAMES):
        try:
            count += count_equal([bag], truth, DECODE)
        except BadVideoError:
            refused += 1
    assert bool(refused) == (path.name in BROKEN)
    assert refused or count == 200 * FRAMES


def test_the_frames_of_a_container_of_several_streams_are_those_that_are_published() -> None:
    """The times of all its frames, as another program found them."""
    path = footage_folder() / "awkward" / "nasa_13013.mp4"
    video = indexed(path)
    facts = json.loads(path.with_name("nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    published = [float(frame["pts_time"]) for frame in facts]
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    assert shown_pts(video, packets_of(video)) * tick == pytest.approx(published, abs=1e-5)


@pytest.mark.parametrize("name", ["gmdcsa24/subject_1/ADL/10.mp4", "long/bottle-detection.mp4", "signs/learn.mkv"])
def test_dense_windows_show_what_is_shown(name: str) -> None:
    path = footage_folder() / name
    video = indexed(path)
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    end = min(video["duration_seconds"], 12.0)
    windows = list(dense_windows(
        video, frames=4, stride_seconds=0.1, hop_seconds=0.25, size_pixels=SIZE, decode=DECODE, end_seconds=end
    ))  # fmt: skip
    frames = sequential(path)
    pts = np.array(sorted(frames))
    assert len(windows) == np.ceil(end / 0.25 - 1e-9)
    for window in windows:
        for picture, seconds in zip(window.frames, window.center_seconds + (np.arange(4) - 1.5) * 0.1, strict=True):
            at = max(np.searchsorted((pts - pts[0]) * tick, seconds + 1e-6, side="right") - 1, 0)
            assert np.array_equal(picture, expected_rgb(frames[pts[at]], SIZE, video["rotation_degrees"], CROP))
