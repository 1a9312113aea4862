"""Pixels: the very frames that a sequential decode shows at those times, upright."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.clip_plan import ClipConfig, generator
from pipelines.clip_stream import ClipShape, bare_bag, decode_bag
from pipelines.errors import BadVideoError
from pipelines.frames import decode_clip, to_square_rgb
from pipelines.packet_table import main_video_stream, read_packet_table
from pipelines.packets import clip_packets, shown_pts
from pipelines.records import decode_error
from tests.footage import encode, footage_folder

SIZE = 32
CLIP = ClipConfig(frames=5, frame_stride=2, size_pixels=SIZE)


def indexed(path: Path) -> dict:
    """A file as a row of the index, itself its own shard."""
    size = path.stat().st_size
    with path.open("rb") as file:
        found = read_packet_table(file, size)
    arrays = {f"packet_{name}": getattr(found, name).tolist() for name in ("offset_bytes", "size_bytes", "pts", "dts")}
    facts = {name: getattr(found, name) for name in (
        "codec", "extradata", "rotation_degrees", "access", "duration_seconds", "frame_rate_hz",
        "time_base_numerator", "time_base_denominator",
    )}  # fmt: skip
    place = {"video_id": path.stem, "shard_url": str(path), "member_offset_bytes": 0, "member_size_bytes": size}
    return facts | arrays | place | {"packet_is_key": found.is_key.tolist(), "member_name": path.name}


def sequential(path: Path) -> dict[int, av.VideoFrame]:
    """pts -> frame of a plain decode from the beginning, as any player does it."""
    with av.open(str(path)) as container:
        stream = main_video_stream(container)
        stream.thread_type = "NONE"
        return {frame.pts: frame for frame in container.decode(stream)}


def clip_at(video: dict, seconds: np.ndarray, draw: int = 0) -> dict:
    return {"clip_id": draw, "tau": 0.0} | clip_packets(video, shown_pts(video), seconds)


def fetched(video: dict, clips: list[dict]) -> dict[int, bytes]:
    data = Path(video["shard_url"]).read_bytes()
    return {c["clip_id"]: data[c["offset_bytes"] : c["offset_bytes"] + c["size_bytes"]] for c in clips}


def check_random_clips(path: Path, count: int) -> int:
    """Decode `count` random clips through the product's path and compare every frame; returns frames compared."""
    video, truth = indexed(path), sequential(path)
    stride = CLIP.stride_seconds(video["frame_rate_hz"])
    random = generator(0, 0, path.name)
    starts = random.random(count) * video["duration_seconds"]
    clips = [clip_at(video, start + np.arange(CLIP.frames) * stride, n) for n, start in enumerate(starts)]
    shape = ClipShape(count, CLIP.frames, SIZE, 1, 1)
    made = decode_bag(bare_bag(video, clips), fetched(video, clips), shape)
    assert made.ok[0], decode_error(made.error[0])
    for number, clip in enumerate(clips):
        for t, pts in enumerate(clip["frame_pts"]):
            expected = to_square_rgb(truth[pts], SIZE, video["rotation_degrees"])
            assert np.array_equal(made.frames[0, number, t], expected), f"{path.name}: pts {pts} differs"
    return count * CLIP.frames


@pytest.mark.parametrize(
    ("codec", "options", "b_frames"),
    [
        ("libx264", {"g": "12"}, 0),
        ("libx264", {"g": "25"}, 3),
        ("libx264", {"g": "12", "x264-params": "open-gop=1:bframes=3"}, 3),
        ("libx265", {"x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:log-level=none"}, 3),
        ("mpeg4", {"g": "12"}, 2),
    ],
)
def test_random_clips_equal_a_sequential_decode(tmp_path: Path, codec: str, options: dict, b_frames: int) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(encode(80, codec=codec, options=options, b_frames=b_frames))
    assert check_random_clips(path, 20) == 100


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_containers_without_a_usable_table_are_demuxed(tmp_path: Path, container: str) -> None:
    path = tmp_path / ("v.mkv" if container == "matroska" else "v.mp4")
    path.write_bytes(encode(60, container=container, options={"g": "12"}, b_frames=2))
    assert (indexed(path)["access"] == "demux") == (container == "matroska")
    check_random_clips(path, 8)


@pytest.mark.footage
@pytest.mark.parametrize(
    "name", ["long/one-by-one-person-detection.mp4", "long/bottle-detection.mp4", "gmdcsa24/subject_1/ADL/10.mp4",
             "awkward/nasa_13013.mp4", "awkward/h265_video.mp4", "awkward/h264_10bits.mp4", "awkward/unordered.mov",
             "awkward/video_90.mov", "awkward/video_270.mov", "awkward/flipping_a_pancake.mkv", "signs/learn.mkv",
             "awkward/av1_video.mkv"],
)  # fmt: skip
def test_real_footage_equals_a_sequential_decode(name: str) -> None:
    check_random_clips(footage_folder() / name, 12)


@pytest.mark.footage
def test_rotated_files_come_out_upright() -> None:
    """The same scene was filmed four times with the phone held differently; upright, the pictures are alike."""
    decord = pytest.importorskip("decord")
    for degrees in (0, 90, 180, 270):
        path = footage_folder() / "awkward" / f"video_{degrees}.mov"
        video = indexed(path)
        clip = clip_at(video, np.zeros(1))
        ours = decode_bag(bare_bag(video, [clip]), fetched(video, [clip]), ClipShape(1, 1, 64, 1, 1)).frames[0, 0, 0]
        theirs = av.VideoFrame.from_ndarray(decord.VideoReader(str(path))[0].asnumpy(), "rgb24")
        difference = np.abs(ours.astype(int) - to_square_rgb(theirs, 64, 0).astype(int)).mean()
        assert difference < 4, f"{path.name}: mean difference {difference:.1f} of 255"


def test_a_broken_packet_is_a_bad_video_and_the_next_clip_is_right(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(encode(40, options={"g": "10"}))
    video = indexed(path)
    clip = clip_at(video, np.array([0.5, 0.6]))
    data = fetched(video, [clip])[0]
    with pytest.raises(BadVideoError):
        decode_clip(video, clip, bytes(len(data)), SIZE)
    truth = sequential(path)
    again = decode_clip(video, clip, data, SIZE)
    assert np.array_equal(again[0], to_square_rgb(truth[clip["frame_pts"][0]], SIZE, 0))


def test_a_bad_bag_keeps_its_slot_black_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(encode(40))
    video = indexed(path)
    clip = clip_at(video, np.array([0.5]))
    made = decode_bag(
        bare_bag(video, [clip]) | {"slot": 17}, {0: b"\0" * clip["size_bytes"]}, ClipShape(1, 1, SIZE, 2, 3)
    )
    assert made.slot.tolist() == [17]
    assert not made.ok[0]
    assert made.frames.max() == 0
    assert decode_error(made.error[0]).startswith(("decode_error: ", "missing_frame: "))


def test_an_unknown_codec_is_a_bad_video() -> None:
    with pytest.raises(BadVideoError, match="no decoder for 'nonsense'") as caught:
        decode_clip({"codec": "nonsense", "extradata": b"", "rotation_degrees": 0}, {
            "packet_offset_bytes": [], "packet_size_bytes": [], "packet_pts": [], "packet_dts": [], "frame_pts": [0],
        }, b"", SIZE)  # fmt: skip
    assert caught.value.kind == "unknown_codec"


def test_a_square_is_cut_from_the_middle_and_turned() -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 10:20] = (250, 0, 0)  # left half of the centre square
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    upright = to_square_rgb(frame, 20, 0)
    assert upright[0, 10, 4] > 200
    assert upright[0, 10, 15] < 50
    turned = to_square_rgb(frame, 20, 90)  # counter-clockwise: left becomes bottom
    assert turned[0, 15, 10] > 200
    assert turned[0, 4, 10] < 50


def test_decoding_reads_nothing_but_the_range(tmp_path: Path) -> None:
    """A file whose other bytes are gone decodes all the same: no demuxer, no header, one range."""
    path = tmp_path / "v.mp4"
    path.write_bytes(encode(60, options={"g": "10"}))
    video = indexed(path)
    clip = clip_at(video, np.array([3.0, 3.2]))
    assert clip["size_bytes"] < path.stat().st_size / 2
    data = fetched(video, [clip])[0]
    path.write_bytes(io.BytesIO(b"").getvalue())
    assert decode_clip(video, clip, data, SIZE).shape == (2, 3, SIZE, SIZE)
