"""Squares along the long side: where they lie, in which order, and that a frame is decoded once for all of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines.apart.pool import decode_clips_apart, end_idle
from adaptfocus.pipelines.decode import bag as clip_decoder
from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.pictures import square_in, write_picture
from adaptfocus.pipelines.decode.settings import DRAWN, IN_TURN, DecodeConfig, Isolation
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.schemas import clip_id
from adaptfocus.pipelines.video.display import Display
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from tests.moving import data_of, expected_rgb, indexed, kind, sequential

SIZE = 32


def bag_of(video: dict[str, Any], times_seconds: list[list[float]], ids: list[int]) -> dict[str, Any]:
    packets = packets_of(video)
    found = find_clips(video, packets, shown_pts(video, packets), [np.array(times) for times in times_seconds])
    bag = bare_bag(video, *found)
    return bag | {"clips": [clip | {"clip_id": own} for clip, own in zip(bag["clips"], ids, strict=True)]}


def decoded(bag: dict[str, Any], decode: DecodeConfig) -> np.ndarray:
    frames = len(bag["clips"][0]["frame_pts"])
    out = np.empty((len(bag["clips"]), frames, *decode.frame_shape(SIZE)), np.uint8)
    decode_clips(bag, data_of(bag), SIZE, decode, out)
    return out


@pytest.mark.parametrize(
    ("size", "fraction", "place", "wanted"),
    [
        ((160, 90), 1.0, -1, (0, 0, 90, 90)),
        ((160, 90), 1.0, 0, (34, 0, 90, 90)),  # 35, on an even pixel
        ((160, 90), 1.0, 1, (70, 0, 90, 90)),
        ((90, 160), 1.0, 1, (0, 70, 90, 90)),
        ((160, 90), 0.5, 1, (116, 22, 44, 44)),  # the short side stays in the middle
        ((160, 90), 1.0, -0.5, (16, 0, 90, 90)),  # a quarter of 70 is 17.5
        ((64, 64), 1.0, 1, (0, 0, 64, 64)),
        ((64, 64), 0.5, 1, (32, 16, 32, 32)),
    ],
)
def test_a_square_lies_along_the_long_side(
    size: tuple[int, int], fraction: float, place: float, wanted: tuple[int, int, int, int]
) -> None:
    assert square_in(*size, fraction, place=place) == wanted


@pytest.mark.parametrize("size", [(80, 40), (40, 80)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_places_are_those_of_the_upright_picture(size: tuple[int, int], degrees: int) -> None:
    """The first square has what is at the left or top of what a viewer sees."""
    random = np.random.default_rng(0)
    stored = random.integers(0, 255, (size[1], size[0], 3), np.uint8)
    upright = np.rot90(stored, degrees // 90)
    for place, at in ((-1.0, 0), (0.0, 20), (1.0, 40)):
        out = np.empty((3, 40, 40), np.uint8)
        write_picture(av.VideoFrame.from_ndarray(stored, "rgb24"), 1.0, "rgb", Display(degrees), out, place)
        wide = upright.shape[1] > upright.shape[0]
        wanted = upright[:, at : at + 40] if wide else upright[at : at + 40]
        assert np.array_equal(out, wanted.transpose(2, 0, 1)), place


@pytest.mark.parametrize("name", ["hevc-open-gop", "interlaced", "4-4-4-odd", "mjpeg"])
def test_three_crops_of_a_view_are_cut_from_frames_decoded_once(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding is most of the cost of an evaluation, so three crops must not cost three times as much."""
    video = indexed(kind(name, tmp_path))
    first, second = [0.2, 0.6, 1.0], [1.0, 1.4, 1.8]
    bag = bag_of(video, [first] * 3 + [second] * 3, [clip_id(0, 0, draw) for draw in range(6)])
    seen: Counter[int] = Counter()
    frames_of_span = clip_decoder.frames_of_span

    def counted(*args: Any) -> Any:
        for frame in frames_of_span(*args):
            seen[frame.pts] += 1
            yield frame

    monkeypatch.setattr(clip_decoder, "frames_of_span", counted)
    out = decoded(bag, DecodeConfig(crop_place="in_turn"))
    wanted = {pts for clip in bag["clips"] for pts in clip["frame_pts"]}
    assert len(wanted) == 5
    assert {pts: seen[pts] for pts in wanted} == dict.fromkeys(wanted, 1)
    truth = sequential(tmp_path / video["member_name"])
    for number, clip in enumerate(bag["clips"]):
        for pts, made in zip(clip["frame_pts"], out[number], strict=True):
            assert np.array_equal(made, expected_rgb(truth[pts], SIZE, place=IN_TURN[number % 3])), (number, pts)
    assert np.array_equal(out[[1, 4]], decoded(bag, DecodeConfig())[[1, 4]]), "the middle one is the usual one"
    assert not np.array_equal(out[0], out[2])


def test_a_drawn_place_follows_from_the_clips_id(tmp_path: Path) -> None:
    how = DecodeConfig(crop_place="drawn")
    ids = [clip_id(epoch, slot, draw) for epoch in range(10) for slot in range(100) for draw in range(4)]
    counts = Counter(how.place_of(number, own) for number, own in enumerate(ids))
    assert set(counts) == set(DRAWN)
    assert all(abs(count - 4000 / 9) < 100 for count in counts.values()), counts
    assert how.place_of(0, ids[7]) == how.place_of(3, ids[7]), "not from the clip's number"
    video = indexed(kind("720p", tmp_path))
    own = ids[:4]
    assert len({how.place_of(0, each) for each in own}) > 1
    bag = bag_of(video, [[0.2, 0.6]] * 4, own)
    out = decoded(bag, DecodeConfig(crop_place="drawn"))
    truth = sequential(tmp_path / video["member_name"])
    for each, clip, frames in zip(own, bag["clips"], out, strict=True):
        for pts, made in zip(clip["frame_pts"], frames, strict=True):
            assert np.array_equal(made, expected_rgb(truth[pts], SIZE, place=how.place_of(0, each)))


def test_a_process_of_its_own_cuts_at_the_same_places(tmp_path: Path) -> None:
    video = indexed(kind("hevc-open-gop", tmp_path))
    bag = bag_of(video, [[0.2, 0.6]] * 3, [clip_id(0, 0, draw) for draw in range(3)])
    for decode in (DecodeConfig(crop_place="in_turn"), DecodeConfig(crop_place="drawn", pixel_format="yuv420p")):
        out = np.empty((3, 2, *decode.frame_shape(SIZE)), np.uint8)
        decode_clips_apart(bag, data_of(bag), SIZE, decode, out, Isolation())
        assert np.array_equal(out, decoded(bag, decode))
    end_idle()


def test_a_centred_crop_is_what_it_was() -> None:
    assert DecodeConfig().place_of(5, clip_id(3, 2, 1)) == 0
