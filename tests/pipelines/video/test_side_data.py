"""Motion JPEG of cameras has EXIF in its pictures. FFmpeg 8 passes it on, and PyAV 18 has no name for it."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.video.side_data import SideDataType

FRAMES, WIDTH, HEIGHT = 4, 64, 48
# EXIF's tag 0x112: the turn that stands the picture up, counter-clockwise.
ORIENTATIONS = {1: 0, 3: 180, 6: 270, 8: 90}


def jpeg(number: int, orientation: int) -> bytes:
    """A grey picture whose EXIF holds one short number, in the order of Intel."""
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = WIDTH, HEIGHT, "yuvj420p", Fraction(1, 25)
    grey = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
    frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuvj420p")
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    tag = struct.pack("<HHII", 0x112, 3, 1, orientation)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def motion_jpeg(container: str, orientation: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream: Any = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        file.start_encoding()
        for number in range(FRAMES):
            packet = av.Packet(jpeg(number, orientation))
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = True
            file.mux(packet)
    return out.getvalue()


@pytest.mark.parametrize("container", ["avi", "mov", "matroska"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_motion_jpeg_with_exif_is_read_and_turned_as_it_says(container: str, orientation: int) -> None:
    video = motion_jpeg(container, orientation)
    with av.open(io.BytesIO(video)) as file:
        kinds = [data.type.value for data in next(file.decode(video=0)).side_data]
    table = read_packet_table(io.BytesIO(video), len(video))
    assert len(table.pts) == FRAMES
    assert table.rotation_degrees == ORIENTATIONS[orientation]
    if av.ffmpeg_version_info.lstrip("n").startswith("8"):
        assert 31 in kinds, "FFmpeg 8 hands EXIF on; else this shows nothing"


def test_a_kind_that_pyav_has_no_name_for_is_none_of_the_others() -> None:
    unknown = SideDataType(12345)
    assert unknown != SideDataType.DISPLAYMATRIX
    assert (unknown.value, unknown.name) == (12345, "UNNAMED_12345")
    assert unknown not in list(SideDataType), "nothing is added to PyAV's own list"
    with pytest.raises(ValueError, match="is not a kind of side data"):
        SideDataType("EXIF")
