"""Pixels of clips: exactly the frames that a sequential decode shows at those times, upright."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from adaptfocus.pipelines.decode.bag import decode_clips, to_square_rgb
from adaptfocus.pipelines.decode.pictures import square_in, write_picture
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import RETRY_REASONS, BadVideoError, ConfigError
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.store.ahead import Fetched, Reading
from adaptfocus.pipelines.stream.batches import decode_text
from adaptfocus.pipelines.stream.clips import ClipShape, empty_batch, fill
from adaptfocus.pipelines.video.display import Display
from adaptfocus.pipelines.video.nal_units import Bits
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from tests.footage import encode, footage_folder
from tests.moving import KINDS, bags_of, cut_by_numpy, data_of, expected_rgb, indexed, kind, moving, sequential

SIZE, CROP, FRAMES = 32, 0.8, 5
BAGS = [1] * 16 + [4, 180]  # clips of each bag: 200 in all, single and together


def decoded(bag: dict, decode: DecodeConfig | None = None, size: int = SIZE, data: list[bytes] | None = None):
    decode = decode or DecodeConfig(crop_fraction=CROP)
    frames = len(bag["clips"][0]["frame_pts"])
    out = np.empty((len(bag["clips"]), frames, *decode.frame_shape(size)), np.uint8)
    decode_clips(bag, data_of(bag) if data is None else data, size, decode, out)
    return out


def bag_at(video: dict, *times_seconds: list[float]) -> dict:
    packets = packets_of(video)
    found = find_clips(video, packets, shown_pts(video, packets), [np.array(times) for times in times_seconds])
    return bare_bag(video, *found)


def count_equal(bags: list[dict], truth: dict[int, np.ndarray], decode: DecodeConfig, size: int = SIZE) -> int:
    """Frames compared; every one has to be the one that is shown."""
    count = 0
    for bag in bags:
        for clip, frames in zip(bag["clips"], decoded(bag, decode, size), strict=True):
            for pts, frame in zip(clip["frame_pts"], frames, strict=True):
                assert np.array_equal(frame, truth[pts]), f"{bag['video_id']}: pts {pts} differs"
                count += 1
    return count


@pytest.mark.parametrize("name", KINDS)
def test_two_hundred_clips_equal_a_sequential_decode(tmp_path: Path, name: str) -> None:
    video = indexed(kind(name, tmp_path))
    assert video["access"] == "packets"
    truth = {
        pts: expected_rgb(frame, SIZE, 0, CROP) for pts, frame in sequential(tmp_path / video["member_name"]).items()
    }
    assert len({picture.tobytes() for picture in truth.values()}) == len(truth), "every frame is unlike every other"
    assert count_equal(bags_of(video, BAGS, FRAMES), truth, DecodeConfig(crop_fraction=CROP)) == 200 * FRAMES


@pytest.mark.parametrize("fraction", [0.5, 0.875, 1.0])
@pytest.mark.parametrize("size", [(64, 64), (65, 49), (48, 160)])
def test_the_square_is_cut_where_it_says(size: tuple[int, int], fraction: float) -> None:
    random = np.random.default_rng(0)
    for pixel_format in ("yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"):
        rgb = av.VideoFrame.from_ndarray(random.integers(0, 255, (size[1], size[0], 3), np.uint8), "rgb24")
        frame = rgb.reformat(format=pixel_format)
        assert np.array_equal(to_square_rgb(frame, 24, 0, fraction), expected_rgb(frame, 24, 0, fraction))
    left, top, side, _ = square_in(*size, fraction)
    assert (left % 2, top % 2, side % 2) == (0, 0, 0)
    assert abs(left + side / 2 - size[0] / 2) <= 2
    assert abs(top + side / 2 - size[1] / 2) <= 2


@pytest.mark.parametrize("size", [24, 40, 56, 64, 200])
def test_a_picture_that_is_not_scaled_is_right_to_its_last_column(size: int) -> None:
    """swscale's fast path leaves the columns after the last multiple of 16 as they were in memory."""
    grey = np.tile(np.linspace(20, 230, size).astype(np.uint8)[None, :, None], (size, 1, 3))
    made = to_square_rgb(av.VideoFrame.from_ndarray(grey, "rgb24").reformat(format="yuv420p"), size, 0)
    assert np.abs(made.astype(int) - grey.transpose(2, 0, 1)).max() <= 3


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_pictures_are_turned_counter_clockwise(degrees: int) -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:10, 10:20] = (250, 0, 0)  # top left quarter of the centre square
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    upright = to_square_rgb(frame, 20, degrees)
    y, x = {0: (4, 4), 90: (15, 4), 180: (15, 15), 270: (4, 15)}[degrees]
    assert upright[0, y, x] > 200
    assert sum(upright[0, y, x] > 100 for y, x in ((4, 4), (15, 4), (15, 15), (4, 15))) == 1
    planes = np.empty((1, 30, 20), np.uint8)
    write_picture(frame, 1.0, "yuv420p", Display(degrees), planes)
    v = planes[0].reshape(-1)[500:].reshape(10, 10)
    assert v[y // 2, x // 2] > 200
    assert sum(v[y // 2, x // 2] > 150 for y, x in ((4, 4), (15, 4), (15, 15), (4, 15))) == 1


@pytest.mark.parametrize("name", ["gop-60-faststart", "bt709", "full-range", "10-bit"])
def test_planes_are_of_one_colour_description(tmp_path: Path, name: str) -> None:
    """BT.601, limited range: what the device converts, whatever the video was coded in."""
    video = indexed(kind(name, tmp_path))
    decode = DecodeConfig(pixel_format="yuv420p", crop_fraction=CROP)
    bag = bag_at(video, [0.4, 1.2, 2.0])
    frames = sequential(tmp_path / video["member_name"])
    for pts, made in zip(bag["clips"][0]["frame_pts"], decoded(bag, decode)[0], strict=True):
        planes = cut_by_numpy(frames[pts], CROP).reformat(
            width=SIZE, height=SIZE, format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", threads=1
        )
        assert np.array_equal(made[0], planes.to_ndarray())


def test_planes_need_an_even_size() -> None:
    with pytest.raises(ConfigError, match=r"size_pixels is 33; .* take 34"):
        DecodeConfig(pixel_format="yuv420p").frame_shape(33)


def test_a_frame_of_several_clips_is_in_each_of_them(tmp_path: Path) -> None:
    video = indexed(kind("h264-open-gop", tmp_path))
    bag = bag_at(video, [1.0, 1.0, 2.0], [2.0, 1.0, 1.5])
    frames = decoded(bag)
    assert np.array_equal(frames[0, 0], frames[0, 1])
    assert np.array_equal(frames[0, 0], frames[1, 1])
    assert np.array_equal(frames[0, 2], frames[1, 0])
    assert not np.array_equal(frames[0, 0], frames[0, 2])


def test_a_stream_that_does_not_tell_its_order_loses_no_frame(tmp_path: Path) -> None:
    """Some encoders leave out how far frames are reordered; a bare decoder learns it from frames it throws away."""
    video = indexed(kind("gop-60-faststart", tmp_path))
    video["extradata"] = without_usability_information(video["extradata"])
    truth = sequential(tmp_path / video["member_name"])
    bag = bag_at(video, (np.arange(40) / 25).tolist())
    for pts, frame in zip(bag["clips"][0]["frame_pts"], decoded(bag)[0], strict=True):
        difference = np.abs(frame.astype(int) - expected_rgb(truth[pts], SIZE, 0, CROP)).mean()
        assert difference < 3, (
            "it is that frame, except for the place of its chroma, which the stream does not say either"
        )


def without_usability_information(avcc: bytes) -> bytes:
    """An avcC record whose one sequence parameter set ends before its VUI (7.3.2.1.1 of H.264)."""
    size = int.from_bytes(avcc[6:8], "big")
    parameters = avcc[8 : 8 + size]
    bits = Bits(parameters[4:].replace(b"\0\0\3", b"\0\0"))
    bits.skip("u" + ("uuu11" if parameters[1] >= 100 else "") + "u")
    assert bits.exp_golomb() == 0
    bits.skip("uu1uu11")
    if bits.take(1):
        bits.skip("uuuu")
    text = bits.text[: bits.at] + "0" + "1"
    text += "0" * (-len(text) % 8)
    shorter = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    assert b"\0\0" not in shorter, "no byte has to be escaped"
    cut = parameters[:4] + shorter
    return avcc[:6] + len(cut).to_bytes(2, "big") + cut + avcc[8 + size :]


def test_pictures_wrongly_marked_as_not_referred_to_are_decoded_all_the_same(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", codec="libx265", num_frames=60,
                  options={"x265-params": "keyint=60:bframes=0:log-level=none"})  # fmt: skip
    video = indexed(path)
    packets, data = packets_of(video), bytearray(path.read_bytes())
    for offset in packets.offset_bytes[~packets.is_key].tolist():
        assert data[offset + 4] >> 1 == 1  # TRAIL_R
        data[offset + 4] &= 1  # TRAIL_N: the header says that nothing refers to it
    path.write_bytes(data)
    truth = {pts: expected_rgb(frame, SIZE, 0, CROP) for pts, frame in sequential(path).items()}
    assert len(truth) == 60
    assert count_equal(bags_of(video, [1] * 10, FRAMES), truth, DecodeConfig(crop_fraction=CROP)) == 50


def test_a_broken_packet_is_a_bad_video_and_the_next_clip_is_right(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", options={"g": "10"})
    bag = bag_at(indexed(path), [0.5, 0.6])
    truth = {pts: expected_rgb(frame, SIZE, 0, CROP) for pts, frame in sequential(path).items()}
    with pytest.raises(BadVideoError):
        decoded(bag, data=[bytes(len(part)) for part in data_of(bag)])
    assert count_equal([bag], truth, DecodeConfig(crop_fraction=CROP)) == 2


def test_a_frame_that_does_not_come_is_a_bad_video(tmp_path: Path) -> None:
    bag = bag_at(indexed(moving(tmp_path / "v.mp4", options={"g": "10"})), [0.5, 0.6])
    bag["clips"][0]["frame_pts"][1] += 1
    with pytest.raises(BadVideoError, match="1 of 2 frames did not decode") as caught:
        decoded(bag)
    assert caught.value.kind == "missing_frame"


def test_a_bad_bag_keeps_its_slot_black_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(encode(40))
    bag = bag_at(indexed(path), [0.5]) | {"slot": 17}
    batch = empty_batch(ClipShape(1, 1, SIZE), 1)
    fill(
        batch,
        0,
        Fetched(
            bag, [bytes(len(part)) for part in data_of(bag)], Reading(1, 1, 0.0, np.zeros(len(RETRY_REASONS), np.int64))
        ),
        ClipShape(1, 1, SIZE),
    )
    assert batch.slot.tolist() == [17]
    assert not batch.ok[0]
    assert batch.frames.max() == 0
    assert decode_text(batch.kind[0]) in ("decode_error", "missing_frame")


def test_an_unknown_codec_is_a_bad_video(tmp_path: Path) -> None:
    bag = bag_at(indexed(moving(tmp_path / "v.mp4")), [0.5]) | {"codec": "nonsense"}
    with pytest.raises(BadVideoError, match="no decoder for 'nonsense'") as caught:
        decoded(bag)
    assert caught.value.kind == "unknown_codec"


def test_decoding_reads_nothing_but_the_range(tmp_path: Path) -> None:
    """A file whose other bytes are gone still decodes: no demuxer, no header, one range."""
    path = moving(tmp_path / "v.mp4", options={"g": "10"})
    bag = bag_at(indexed(path), [3.0, 3.2])
    (data,) = data_of(bag)
    assert len(data) < path.stat().st_size / 2
    path.write_bytes(b"")
    assert decoded(bag, data=[data]).shape == (1, 2, 3, SIZE, SIZE)


def test_what_would_be_written_elsewhere_is_refused(tmp_path: Path) -> None:
    """A copy of `out` that numpy makes would be filled and thrown away."""
    bag = bag_at(indexed(moving(tmp_path / "v.mp4")), [0.5])
    for out in (np.empty((1, 1, 3, SIZE, SIZE * 2), np.uint8)[..., ::2], np.empty((1, 2, 3, SIZE, SIZE), np.uint8)):
        with pytest.raises(ValueError, match="wanted contiguous uint8"):
            decode_clips(bag, data_of(bag), SIZE, DecodeConfig(), out)


@pytest.mark.footage
def test_rotated_files_come_out_upright() -> None:
    """The same scene was filmed four times with the phone held differently; upright, the pictures are alike."""
    decord = pytest.importorskip("decord")
    for degrees in (0, 90, 180, 270):
        path = footage_folder() / "awkward" / f"video_{degrees}.mov"
        ours = decoded(bag_at(indexed(path), [0.0]), DecodeConfig(), 64)[0, 0]
        theirs = av.VideoFrame.from_ndarray(decord.VideoReader(str(path))[0].asnumpy(), "rgb24")
        difference = np.abs(ours.astype(int) - to_square_rgb(theirs, 64, 0).astype(int)).mean()
        assert difference < 4, f"{path.name}: mean difference {difference:.1f} of 255"
