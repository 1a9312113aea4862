"""Windows over a whole video: the frames that are shown, each fetched, decoded and converted once."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.decode import window_jobs
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.window_jobs import DenseCounts, Window, pieces_of, runs_of
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import BadVideoError, ConfigError
from adaptfocus.pipelines.video.spans import Run, packets_of
from tests.moving import expected_rgb, indexed, kind, moving, sequential

SIZE, CROP = 32, 0.8
DECODE = DecodeConfig(crop_fraction=CROP)


def made(video: dict, counts: DenseCounts | None = None, **shape) -> list[Window]:
    shape = {"frames": 6, "stride_seconds": 0.08, "hop_seconds": 0.2, "decode": DECODE} | shape
    return list(dense_windows(video, size_pixels=SIZE, counts=counts, **shape))


def shown_at(frames: dict, video: dict, seconds: float) -> np.ndarray:
    """The picture on display, by walking through all of them."""
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    pts = sorted(frames)
    at = max((p for p in pts if (p - pts[0]) * tick <= seconds + 1e-6), default=pts[0])
    return expected_rgb(frames[at], SIZE, 0, CROP)


def check(path: Path, video: dict, windows: list[Window], stride: float = 0.08) -> None:
    frames = sequential(path)
    for window in windows:
        steps = (np.arange(len(window.frames)) - (len(window.frames) - 1) / 2) * stride
        for picture, seconds in zip(window.frames, window.center_seconds + steps, strict=True):
            assert np.array_equal(picture, shown_at(frames, video, seconds)), f"at {seconds:.3f} s"


@pytest.mark.parametrize("piece_bytes", [1, 3000, 1 << 22])
@pytest.mark.parametrize(
    "name", ["gop-60-faststart", "hevc-open-gop", "h264-open-gop", "variable-rate", "hevc-three-layers", "mpeg4"]
)
def test_windows_are_what_is_shown(
    tmp_path: Path, name: str, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the packets are cut into pieces: open GOPs decode across them."""
    monkeypatch.setattr(window_jobs, "PIECE_BYTES", piece_bytes)
    path = kind(name, tmp_path)
    video, counts = indexed(path), DenseCounts()
    windows = made(video, counts)
    hops = np.arange(0, video["duration_seconds"], 0.2)
    ends = np.minimum(hops + 0.2, video["duration_seconds"])
    assert [w.center_seconds for w in windows] == pytest.approx(((hops + ends) / 2)[ends - hops > 1e-6].tolist())
    check(path, video, windows)
    assert counts.windows == len(windows)
    assert counts.packets_decoded <= video["packet_count"]
    assert counts.read_bytes <= video["member_size_bytes"]
    distinct = {picture.tobytes() for window in windows for picture in window.frames}
    assert counts.frames_converted == len(distinct), "each frame once, though windows overlap"
    assert counts.frames_converted < sum(len(window.frames) for window in windows)


def test_all_frames_of_a_video_are_decoded_once_when_all_are_wanted(tmp_path: Path) -> None:
    video, counts = indexed(kind("gop-60-faststart", tmp_path)), DenseCounts()
    made(video, counts, frames=16, stride_seconds=0.04, hop_seconds=0.04)
    assert (counts.windows, counts.frames_converted, counts.packets_decoded, counts.requests) == (200, 200, 200, 1)


def test_a_stretch_reads_only_its_part(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", num_frames=300, options={"g": "25"})
    video, counts = indexed(path), DenseCounts()
    windows = made(video, counts, start_seconds=4.0, end_seconds=5.0)
    assert [w.center_seconds for w in windows] == pytest.approx([4.1, 4.3, 4.5, 4.7, 4.9])
    check(path, video, windows)
    assert counts.packets_decoded < 60
    assert counts.read_bytes < path.stat().st_size / 4


def test_what_lies_between_windows_far_apart_is_not_read(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", num_frames=500, options={"g": "10"})
    video, counts = indexed(path), DenseCounts()
    windows = made(video, counts, frames=2, hop_seconds=5.0)
    assert len(windows) == 4
    check(path, video, windows)
    assert counts.requests == 4
    assert counts.packets_decoded <= 4 * 20


@pytest.mark.parametrize("backend", ["packets", "demux", "decord"])
def test_members_that_are_read_as_files(tmp_path: Path, backend: str) -> None:
    if backend == "decord":
        pytest.importorskip("decord")
    path = moving(tmp_path / "v.ts" if backend == "packets" else tmp_path / "v.mp4", options={"g": "25"})
    video, counts = indexed(path), DenseCounts()
    assert (video["access"] == "demux") == (backend == "packets")
    windows = made(video, counts, decode=DecodeConfig(backend=backend, crop_fraction=CROP))
    if backend != "decord":
        check(path, video, windows)
    assert len(windows) == 22
    assert counts.frames_converted == len({picture.tobytes() for window in windows for picture in window.frames})


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    peaks = []
    for num_frames in (150, 900):
        video = indexed(moving(tmp_path / f"{num_frames}.mp4", num_frames=num_frames, options={"g": "50"}))
        tracemalloc.start()
        for _ in dense_windows(video, frames=8, stride_seconds=0.08, hop_seconds=0.08, size_pixels=112):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    pictures = 750 * 3 * 112 * 112
    assert peaks[1] - peaks[0] < pictures / 10


def test_planes_and_turned_pictures(tmp_path: Path) -> None:
    video = indexed(kind("gop-60-faststart", tmp_path)) | {"rotation_degrees": 90}
    turned = made(video)[3].frames
    upright = made(video | {"rotation_degrees": 0})[3].frames
    assert np.array_equal(turned, np.rot90(upright, axes=(2, 3)))
    planes = made(video, decode=DecodeConfig(pixel_format="yuv420p"))[0].frames
    assert planes.shape == (6, 1, SIZE * 3 // 2, SIZE)


def test_pictures_wrongly_marked_as_not_referred_to_are_decoded_all_the_same(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", codec="libx265", num_frames=60,
                  options={"x265-params": "keyint=60:bframes=0:log-level=none"})  # fmt: skip
    video = indexed(path)
    packets, data = packets_of(video), bytearray(path.read_bytes())
    for offset in packets.offset_bytes[~packets.is_key].tolist():
        data[offset + 4] &= 1  # from TRAIL_R to TRAIL_N
    path.write_bytes(data)
    windows = made(video, frames=2, stride_seconds=0.2, hop_seconds=0.4)
    assert len(windows) == 6
    check(path, video, windows, stride=0.2)


def test_a_video_that_breaks_off_is_a_bad_video_after_its_good_windows(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", num_frames=200, options={"g": "25"})
    video = indexed(path)
    packets, data = packets_of(video), bytearray(path.read_bytes())
    broken = int(packets.offset_bytes[100])
    data[broken : broken + 5000] = bytes(5000)
    path.write_bytes(data)
    windows = dense_windows(video, frames=4, stride_seconds=0.08, hop_seconds=0.2, size_pixels=SIZE, decode=DECODE)
    good = list(islice(windows, 15))
    check(path, video, good)
    with pytest.raises(BadVideoError):
        list(windows)


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"stride_seconds": 0}, {"hop_seconds": -1}, {"start_seconds": 9}, {"end_seconds": 0}]
)
def test_impossible_windows_are_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError, match="must be above 0, and the stretch inside the video"):
        made(indexed(moving(tmp_path / "v.mp4", num_frames=20)), **wrong)


def test_runs_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = indexed(
        moving(tmp_path / "v.mp4", num_frames=60, options={"x264-params": "keyint=10:bframes=0:scenecut=0"})
    )
    packets = packets_of(video)
    assert runs_of(packets, packets.pts[[3, 12, 35]]) == [Run(0, 12), Run(30, 35)]
    one, all_packets = Run(0, 29), range(30)
    assert list(pieces_of(packets, one)) == [(one, True)]
    monkeypatch.setattr(window_jobs, "PIECE_BYTES", 2000)
    pieces = list(pieces_of(packets, one))
    assert len(pieces) > 3
    assert [is_last for _, is_last in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [n for piece, _ in pieces for n in range(piece.first, piece.last + 1)] == list(all_packets)
    for piece, _ in pieces:
        assert packets.size_bytes[piece.first : piece.last + 1].sum() <= 2000 or piece.first == piece.last
