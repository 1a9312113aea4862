"""Clips of several videos, decoded in turns: each shows what a decode of its video in order shows.

In these kinds of video a decoder remembers more than the pictures of a group, or a keyframe is not enough to start.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines.decode.bag import to_square_rgb
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.video.packets import packet_count
from tests.moving import indexed, moving, sequential
from tests.pipelines.decode.test_frames import bag_at, decoded

SIZE = 32
WHOLE = DecodeConfig()
X264 = "scenecut=0:log-level=none"
FIRST = {"x264-params": f"keyint=10:bframes=0:cabac=1:8x8dct=1:ref=4:{X264}"}
SECOND = {"x264-params": f"keyint=10:bframes=0:cabac=0:8x8dct=0:ref=1:weightp=0:repeat-headers=1:{X264}"}
REFRESH = {"x264-params": f"intra-refresh=1:keyint=20:{X264}"}
HEVC_FIRST = {"x265-params": "keyint=10:bframes=0:ref=3:ctu=32:log-level=none"}
HEVC_SECOND = {"x265-params": "keyint=10:bframes=0:ref=1:ctu=16:no-sao=1:repeat-headers=1:log-level=none"}


def differing(path: Path, video: dict[str, Any], seconds: list[float], decode: DecodeConfig = WHOLE) -> list[float]:
    """The times at which the picture is not what a decode in order shows."""
    frames = sequential(path)
    pts = sorted(frames)
    bag = bag_at(video, seconds)
    made = decoded(bag, decode, SIZE)[0]
    wrong = []
    for second, at, picture in zip(seconds, bag["clips"][0]["frame_pts"], made, strict=True):
        tick = video["time_base_numerator"] / video["time_base_denominator"]
        assert at == max((p for p in pts if (p - pts[0]) * tick <= second + 1e-6), default=pts[0])
        if not np.array_equal(picture, to_square_rgb(frames[at], SIZE, 0)):
            wrong.append(second)
    return wrong


def check_all(paths: list[Path], clips: int = 6, decode: DecodeConfig = WHOLE) -> list[dict[str, Any]]:
    """Check clips of all videos in a drawn order, and windows over each; return the rows of the index."""
    videos = [indexed(path) for path in paths]
    draw = random.Random(0)
    jobs = [(number, draw.random()) for number in range(len(videos)) for _ in range(clips)]
    jobs += [(number, 0.0) for number in range(len(videos))] + [(number, 0.93) for number in range(len(videos))]
    draw.shuffle(jobs)
    for number, share in jobs:
        start = share * (videos[number]["duration_seconds"] - 0.2)
        at = [start, start + 0.08, start + 0.16]
        assert not differing(paths[number], videos[number], at, decode), f"{paths[number].name} at {at}"
    for path, video in zip(paths, videos, strict=True):
        check_windows(path, video, decode)
    return videos


def check_windows(path: Path, video: dict[str, Any], decode: DecodeConfig) -> None:
    frames = sequential(path)
    pts = np.array(sorted(frames))
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    shape = {"frames": 1, "stride_seconds": 0.04, "hop_seconds": 0.2, "size_pixels": SIZE, "decode": decode}
    for window in dense_windows(video, **shape):
        at = pts[np.searchsorted((pts - pts[0]) * tick, window.center_seconds + 1e-6, side="right") - 1]
        assert np.array_equal(window.frames[0], to_square_rgb(frames[int(at)], SIZE, 0)), window.center_seconds


def joined(path: Path, *parts: Path, change: Callable[[int, int, bytes], bytes] = lambda part, n, data: data) -> Path:
    """One file with the packets of several and the header of the first; `change` (part, number, data) alters them."""
    with av.open(str(path), "w") as out:
        stream: Any = None
        shift = 0
        for number, part in enumerate(parts):
            with av.open(str(part)) as file:
                video, end = file.streams.video[0], 0
                stream = stream or out.add_stream_from_template(video)
                packets = [packet for packet in file.demux(video) if packet.size]
                for count, packet in enumerate(packets):
                    made = av.Packet(change(number, count, bytes(packet)))
                    made.pts, made.dts, made.is_keyframe = packet.pts + shift, packet.dts + shift, packet.is_keyframe
                    made.time_base, made.duration, made.stream = packet.time_base, packet.duration, stream
                    end = max(end, packet.dts + packet.duration)
                    out.mux(made)
                shift += end
    return path


def without_sets(part: int, number: int, data: bytes) -> bytes:
    """H.264: parameter sets only in the first packet of the second part."""
    if part == 0 or number == 0:
        return data
    kept, at = b"", 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        kept += b"" if data[at + 4] & 31 in (7, 8) else data[at:end]
        at = end
    return kept


@pytest.mark.parametrize(
    ("codec", "options", "change", "container"),
    [
        ("libx264", (FIRST, SECOND), None, "mp4"),
        ("libx264", (FIRST, SECOND), without_sets, "mp4"),
        ("libx264", (FIRST, SECOND), None, "mkv"),
        ("libx264", (FIRST, SECOND), without_sets, "mkv"),
        ("libx265", (HEVC_FIRST, HEVC_SECOND), None, "mp4"),
    ],
    ids=["h264", "h264-sets-once", "h264-mkv", "h264-mkv-sets-once", "hevc"],
)
def test_parameter_sets_that_change_on_the_way(
    tmp_path: Path, codec: str, options: tuple, change: Any, container: str
) -> None:
    """Recorders write this when their settings change. It is decoded together with videos that have the same header."""
    parts = [moving(tmp_path / f"part{n}.mp4", codec=codec, options=each, num_frames=50) for n, each in
             enumerate(options)]  # fmt: skip
    changes = joined(tmp_path / f"changes.{container}", *parts, **({"change": change} if change else {}))
    plain = moving(tmp_path / f"plain.{container}", codec=codec, options=options[0], num_frames=60)
    assert len(sequential(changes)) == 100
    changing, same = check_all([changes, plain])
    check_all([changes, plain], clips=2, decode=DecodeConfig(backend="demux"))
    assert changing["extradata"] == same["extradata"], "a decoder for one is a decoder for the other"


@pytest.mark.parametrize("container", ["mp4", "ts", "mkv"])
def test_intra_refresh(tmp_path: Path, container: str) -> None:
    """A decoder may begin at a recovery point, but the picture there is not complete."""
    path = moving(tmp_path / f"v.{container}", options=REFRESH, num_frames=200)
    (video,) = check_all([path], clips=10)
    if container != "ts":
        assert video["access"] == "packets"
        late = bag_at(video, [7.0, 7.2])
        assert packet_count(late["spans"][0]["packets"]) < 90, "it does not go back to the first frame"


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [("avi", "mpeg4", {"g": "12", "bf": "2"}), ("flv", "libx264", {"x264-params": f"keyint=12:bframes=2:{X264}"}),
     ("flv", "flv", {"g": "12"}), ("wmv", "wmv2", {"g": "12"}), ("mpg", "mpeg2video", {"g": "12", "bf": "2"}),
     ("ts", "libx264", {"x264-params": f"keyint=12:bframes=2:open-gop=1:{X264}"})],
)  # fmt: skip
def test_b_frames_near_the_start_lose_no_video(tmp_path: Path, container: str, codec: str, options: dict) -> None:
    """A seek goes by decoding time: it may land on the next keyframe, and AVI and FLV refuse times before the start."""
    kind = {"wmv": "asf", "mpg": "mpeg", "ts": "mpegts"}.get(container, container)
    path = moving(tmp_path / f"v.{container}", codec=codec, options=options, num_frames=60, container=kind)
    video = indexed(path)
    for start in np.arange(0, 1.9, 0.04):
        assert not differing(path, video, [start, start + 0.08]), f"at {start:.2f} s"


@pytest.mark.parametrize(
    ("container", "codec", "pixel_format", "options"),
    [
        ("mov", "png", "rgb24", {}),
        ("avi", "mjpeg", "yuvj420p", {}),
        ("mov", "qtrle", "rgb24", {"g": "12"}),
        ("avi", "msvideo1", "rgb555le", {"g": "12"}),
        ("mkv", "ffv1", "bgr0", {"g": "12"}),
        ("flv", "flashsv2", "bgr24", {"g": "12"}),
        ("avi", "zmbv", "bgr0", {"g": "12"}),
    ],
)
def test_codecs_of_screens_and_instruments(
    tmp_path: Path, container: str, codec: str, pixel_format: str, options: dict
) -> None:
    """Their decoders ask whether a packet is a key."""
    path = tmp_path / f"v.{container}"
    moving(path, codec=codec, pixel_format=pixel_format, options=options, num_frames=50, size=(64, 48))
    check_all([path], clips=4)


@pytest.mark.parametrize("container", ["avi", "mov"])
def test_a_palette_that_a_seek_drops(tmp_path: Path, container: str) -> None:
    """The demuxer gives it once, with the first packet, so such a video is decoded from its start."""
    path, draw = tmp_path / f"v.{container}", np.random.default_rng(0)
    palette = draw.integers(0, 255, (256, 4), np.uint8)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        for number in range(40):
            picture = draw.integers(0, 255, (48, 64), np.uint8)
            frame = av.VideoFrame.from_ndarray((picture, palette), "pal8")  # type: ignore[arg-type]
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (video,) = check_all([path], clips=4)
    assert video["access"] == "sequential"


def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    options = {"g": "10", "deadline": "realtime", "cpu-used": "8"}
    parts = [moving(tmp_path / f"{n}.mkv", codec="libvpx-vp9", options=options, num_frames=40, size=size)
             for n, size in enumerate(((128, 96), (96, 72)))]  # fmt: skip
    path = joined(tmp_path / "v.mkv", *parts)
    check_all([path], clips=6)


def test_a_keyframe_flag_that_lies_is_found_at_indexing(tmp_path: Path) -> None:
    """H.263 whose container calls every fifth picture a keyframe, though it refers to the one before."""
    source = moving(tmp_path / "source.flv", codec="flv", options={"g": "25"}, num_frames=100)
    path = tmp_path / "v.flv"
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for number, packet in enumerate(p for p in file.demux(file.streams.video[0]) if p.size):
            packet.is_keyframe, packet.stream = number % 5 == 0, stream
            out.mux(packet)
    (video,) = check_all([path], clips=4)
    assert video["access"] == "sequential"


def test_an_avi_that_has_lost_a_packet_on_the_way(tmp_path: Path) -> None:
    """A pass over the file counts the packets that are left, but a seek would take their numbers from its index."""
    whole = moving(tmp_path / "whole.avi", codec="mpeg4", options={"g": "10"}, num_frames=100).read_bytes()
    chunks = [at for at in range(whole.find(b"movi"), whole.find(b"idx1")) if whole[at : at + 4] == b"00dc"]
    path = tmp_path / "v.avi"
    path.write_bytes(whole[: chunks[75]] + b"junk" + whole[chunks[75] + 4 :])
    (video,) = check_all([path], clips=4)
    assert (video["access"], video["packet_count"]) == ("sequential", 99)
    assert indexed(tmp_path / "whole.avi")["access"] == "demux"


def test_a_picture_that_was_lost_on_the_way(tmp_path: Path) -> None:
    """Other pictures refer to it. What a decoder shows in its place depends on packets that nothing else needs."""
    options = {"x264-params": f"keyint=30:bframes=2:b-adapt=0:b-pyramid=none:{X264}"}
    whole, path = moving(tmp_path / "whole.mp4", options=options, num_frames=90), tmp_path / "v.mp4"
    with av.open(str(whole)) as file, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        packets = [packet for packet in file.demux(file.streams.video[0]) if packet.size]
        lost = [n for n, packet in enumerate(packets) if bytes(packet)[4] & 0x60 and not packet.is_keyframe]
        for number, packet in enumerate(packets):
            packet.stream = stream
            if number not in (lost[2], lost[12], lost[22]):
                out.mux(packet)
    check_all([path, whole], clips=20)
