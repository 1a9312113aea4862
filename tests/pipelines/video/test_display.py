"""Pictures as players show them: with pixels of any shape, turned and mirrored, by every way of reading."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.pictures import square_in, write_picture
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.inspection.demux import demux_packet_table
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.video.display import Display, display_of, shown_aspect
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from tests.footage import with_display_matrix
from tests.moving import data_of, indexed, moving

SIZE = 48
SAID = {"aspect": Fraction(16, 11)}
X264 = "keyint=12:bframes=2:scenecut=0"
TURNS = {
    "as it is": (1, 0, 0, 1), "90": (0, -1, 1, 0), "180": (-1, 0, 0, -1), "270": (0, 1, -1, 0),
    "left to right": (-1, 0, 0, 1), "upside down": (1, 0, 0, -1), "diagonal": (0, 1, 1, 0), "other": (0, -1, -1, 0),
}  # fmt: skip


def shaped(path: Path, aspect: tuple[int, int], **how: Any) -> Path:
    """A video where only the H.264 says what shape the pixels have (in its VUI)."""
    options = {"x264-params": f"{X264}:sar={aspect[0]}/{aspect[1]}"}
    return moving(path, options=options, num_frames=30, **how)


def wide_circle(aspect: float) -> av.VideoFrame:
    """A white disc on black, round on display, in stored pixels of that shape."""
    width, height = round(160 / aspect), 120
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x + 0.5) * aspect - 80) ** 2 + (y + 0.5 - 60) ** 2 < 50**2
    return av.VideoFrame.from_ndarray(np.repeat(inside[:, :, None], 3, 2).astype(np.uint8) * 255, "rgb24")


@pytest.mark.parametrize("aspect", [0.5, 10 / 11, 1.0, 16 / 11, 2.0])
@pytest.mark.parametrize("degrees", [0, 90])
def test_a_circle_stays_round(aspect: float, degrees: int) -> None:
    out = np.empty((3, 64, 64), np.uint8)
    write_picture(wide_circle(aspect), 1.0, "rgb", Display(degrees, False, aspect), out)
    across, down = (np.ptp(np.flatnonzero((out[0] > 127).any(axis=axis))) + 1 for axis in (0, 1))
    assert across == pytest.approx(down, abs=2)
    assert down == pytest.approx(64 * 100 / 120, abs=2)


def test_a_square_of_what_is_shown_is_a_rectangle_of_what_is_stored() -> None:
    assert square_in(720, 576, 1.0, pixel_aspect=64 / 45) == (158, 0, 404, 576)
    assert square_in(720, 576, 1.0, pixel_aspect=64 / 45, place=-1) == (0, 0, 404, 576)
    assert square_in(160, 120, 1.0, pixel_aspect=0.5) == (0, 20, 160, 80)  # it is higher than wide on display
    assert square_in(160, 120, 0.5, pixel_aspect=2.0) == (64, 30, 30, 60)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("aspect", [(1, 1), (2, 1)])
def test_a_matrix_turns_and_mirrors_in_every_way_of_reading(tmp_path: Path, turn: str, aspect: tuple[int, int]) -> None:
    path = shaped(tmp_path / "v.mp4", aspect, size=(96, 64))
    path.write_bytes(with_display_matrix(path.read_bytes(), *TURNS[turn]))
    video = indexed(path)
    a, b, c, d = TURNS[turn]
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # Each pixel goes where the matrix sends it, by the definition of a display matrix.
    wanted = []
    for picture in stored[:24:8]:
        picture = np.repeat(picture, aspect[0], axis=1)
        shown = np.swapaxes(picture, 0, 1) if a == 0 else picture
        shown = shown[:, ::-1] if (a or c) < 0 else shown
        shown = shown[::-1] if (d or b) < 0 else shown
        wanted.append(middle(shown))
    for name, pictures in pictures_of(video).items():
        for got, right in zip(pictures, wanted, strict=True):
            assert np.abs(got.astype(int) - right).mean() < 14, name
            assert np.abs(got[:, ::-1].astype(int) - right).mean() > 20, "the mirror image differs"


def middle(picture: np.ndarray) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3] of the square in the middle."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    made = av.VideoFrame.from_ndarray(square, "rgb24").reformat(width=SIZE, height=SIZE, interpolation="BILINEAR")
    return made.to_ndarray(format="rgb24")


def pictures_of(video: dict[str, Any]) -> dict[str, np.ndarray]:
    """Frames 0, 8 and 16 as clips and windows show them: uint8 [3, SIZE, SIZE, 3] of each way of reading."""
    packets = packets_of(video)
    bag = bare_bag(video, *find_clips(video, packets, shown_pts(video, packets), [np.array([0, 0.32, 0.64])]))
    found = {}
    for backend in ("packets", "demux"):
        out = np.empty((1, 3, 3, SIZE, SIZE), np.uint8)
        decode_clips(bag, data_of(bag), SIZE, DecodeConfig(backend=backend), out)
        found[backend] = out[0]
    shape: dict[str, Any] = {"frames": 1, "stride_seconds": 0.04, "hop_seconds": 0.32, "size_pixels": SIZE}
    windows = list(dense_windows(video, start_seconds=0, end_seconds=0.01, **shape))
    found["windows"] = np.concatenate([windows[0].frames, out[0][1:]])
    return {name: each.transpose(0, 2, 3, 1) for name, each in found.items()}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("v.mp4", {}), ("v.mov", {}), ("v.mkv", {}), ("v.ts", {}), ("v.flv", {}),
        ("p.mp4", SAID), ("p.mkv", SAID), ("p.avi", SAID | {"codec": "mpeg4"}),
        ("p.ts", SAID | {"codec": "mpeg2video"}),
        ("h.mp4", SAID | {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
        ("h.ts", SAID | {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
    ],
)  # fmt: skip
def test_the_shape_of_pixels_is_read_from_every_container(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    path = moving(tmp_path / name, num_frames=10, **how) if how else shaped(tmp_path / name, (16, 11))
    data = path.read_bytes()
    # MPEG-2 knows 4:3 and 16:9 only: the nearest for 128 x 96 is 16:9, in pixels of 4:3. Matroska has the size of the
    # picture on display, in whole pixels.
    wanted = pytest.approx(4 / 3 if name == "p.ts" else 16 / 11, rel=0.01 if name.endswith("mkv") else 1e-9)
    assert float(read_packet_table(io.BytesIO(data), len(data)).pixel_aspect) == wanted
    assert display_of(indexed(path)).pixel_aspect == wanted


def with_pasp(video: bytes, across: int, down: int) -> bytes:
    """The mp4 with other numbers in its pasp box."""
    at = video.index(b"pasp") + 4
    return video[:at] + struct.pack(">ii", across, down) + video[at + 8 :]


@pytest.mark.parametrize(
    ("pasp", "wanted"),
    [
        ((16, 11), Fraction(16, 11)), ((1, 1), Fraction(1)), ((32, 27), Fraction(32, 27)),
        ((0, 0), Fraction(2)), ((5, 0), Fraction(2)),  # no meaning: the size on display decides, then the codec
        ((1, 1000), Fraction(1)), ((1000, 1), Fraction(1)),
    ],
)  # fmt: skip
def test_the_container_overrides_the_codec_as_in_players(
    tmp_path: Path, pasp: tuple[int, int], wanted: Fraction
) -> None:
    video = with_pasp(moving(tmp_path / "v.mp4", num_frames=10, aspect=Fraction(2)).read_bytes(), *pasp)
    tables = [read(io.BytesIO(video), len(video)) for read in (read_packet_table, demux_packet_table)]
    assert [table.indexed_by for table in tables] == ["header", "demux"]
    assert [table.pixel_aspect for table in tables] == [wanted, wanted]
    noted = [kind for table in tables for kind, _ in table.notes]
    assert noted == (["pixel_aspect_ignored"] * 2 if 1000 in pasp else [])


def test_shapes_that_no_camera_makes_are_taken_as_square_and_said() -> None:
    assert shown_aspect(None, None) == (1, None)
    assert shown_aspect(Fraction(8), None) == (8, None)
    aspect, why = shown_aspect(Fraction(9), Fraction(2))
    assert aspect == 1
    assert why is not None
    assert "9:1" in why


def test_square_pixels_change_nothing(tmp_path: Path) -> None:
    """The cut of a picture with square pixels is the one that it always was."""
    video = indexed(moving(tmp_path / "v.mp4", num_frames=10))
    assert display_of(video) == Display()
    almost = video | {"pixel_aspect_numerator": 640, "pixel_aspect_denominator": 639}  # a size that was rounded
    assert display_of(almost) == Display()
    assert square_in(456, 256, 0.875, place=0.5) == (174, 16, 224, 224)


def test_decord_refuses_what_it_does_not_mirror(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = shaped(tmp_path / "v.mp4", (1, 1))
    path.write_bytes(with_display_matrix(path.read_bytes(), *TURNS["left to right"]))
    video = indexed(path)
    packets = packets_of(video)
    bag = bare_bag(video, *find_clips(video, packets, shown_pts(video, packets), [np.array([0.0])]))
    with pytest.raises(BadVideoError, match="mirrored") as caught:
        decode_clips(bag, [], SIZE, DecodeConfig(backend="decord"), np.empty((1, 1, 3, SIZE, SIZE), np.uint8))
    assert caught.value.kind == "decord_unsafe"


def test_a_shape_that_changes_on_the_way_is_refused(tmp_path: Path) -> None:
    """Broadcasts change between 4:3 and 16:9, so no single shape is right for the video."""
    parts = [shaped(tmp_path / f"{n}.ts", (1, 1 + n), container="mpegts").read_bytes() for n in (0, 1)]
    table = read_packet_table(io.BytesIO(parts[0]), len(parts[0]))
    assert table.pixel_aspect == 1
    late = later(parts[1], 90_000 * 10)
    with pytest.raises(BadVideoError, match="1:1, then 1:2") as caught:
        read_packet_table(io.BytesIO(parts[0] + late), len(parts[0] + late))
    assert caught.value.kind == "changing_pixel_aspect"


def later(stream: bytes, ticks: int) -> bytes:
    """A transport stream with other times: remuxed, its packets as they are."""
    out = io.BytesIO()
    with av.open(io.BytesIO(stream)) as source, av.open(out, "w", format="mpegts") as muxer:
        copy = muxer.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, copy
                muxer.mux(packet)
    return out.getvalue()
