"""No header of an mp4 does harm: it costs a moment, allocates little, and raises nothing but errors of its video."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.video.mp4_boxes import NotPlainError
from tests.footage import encode
from tests.pipelines.inspection.mp4_files import LONGER, by_header, edited, remuxed, written


def test_a_moov_full_of_tracks_and_tiny_boxes_costs_a_moment():
    trak = [b"trak", struct.pack(">I4s", 8, b"free") * 4000]
    video = written([[b"ftyp", b"isom\0\0\2\0isom"], [b"moov", written([[b"mvhd", b"\0" * 100]] + [trak] * 500)]])
    started = time.perf_counter()
    with pytest.raises(NotPlainError, match="500 tracks"):
        by_header(video)
    assert time.perf_counter() - started < 0.2


def test_a_table_that_claims_four_billion_samples_is_refused_before_anything_is_allocated():
    claims = [
        edited(LONGER, b"stsz", lambda d, c=constant: [[b"stsz", d[:4] + struct.pack(">II", c, 0xFFFFFFFF) + d[12:]]])
        for constant in (0, 1)
    ]
    tracemalloc.start()
    for video in claims:
        with pytest.raises(BadVideoError, match="limit is 10,000,000") as caught:
            read_packet_table(io.BytesIO(video), len(video))
        assert caught.value.kind == "too_many_packets"
    for kind in (b"stts", b"ctts", b"stsc", b"stco", b"stss", b"elst"):
        broken = edited(LONGER, kind, lambda d, k=kind: [[k, d[:4] + b"\xff\xff\xff\xf0" + d[8:]]])
        with pytest.raises(NotPlainError, match=r"claims|edits"):
            by_header(broken)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 << 20


SMALL = remuxed(encode(12, b_frames=2), audio=True)
HEADERS_AT = SMALL.rindex(b"moov") - 4


@settings(max_examples=300, deadline=2000)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - HEADERS_AT + 40), st.integers(0, 255)), min_size=1, max_size=8))
@example([(498, 0)])  # a width of 0 in the sample entry, where the track header has one
def test_damaged_headers_raise_nothing_but_bad_video_errors(damage: list[tuple[int, int]]):
    video = bytearray(SMALL)
    for place, value in damage:  # in the first boxes, else in the moov
        video[place if place < 40 else min(HEADERS_AT + place - 40, len(video) - 1)] = value
    try:
        table = read_packet_table(io.BytesIO(bytes(video)), len(video))
    except BadVideoError:
        return
    assert len(table.pts) == len(table.is_key) == len(table.offset_bytes) > 0
    assert table.access == "demux" or (table.offset_bytes + table.size_bytes <= len(video)).all()


def test_a_movie_header_behind_the_tracks() -> None:
    """FFmpeg, and players that use it, cannot read the edit lists of such a file, and show nothing of it."""
    video = encode(b_frames=2)
    start, trak = video.index(b"mvhd") - 4, video.index(b"trak") - 4
    end = trak + int.from_bytes(video[trak : trak + 4], "big")
    moved = video[:start] + video[trak:end] + video[start:trak] + video[end:]
    assert by_header(video).access == "packets"
    with pytest.raises(NotPlainError, match="after its tracks"):
        by_header(moved)
    with pytest.raises(BadVideoError, match=r"no_packets|no packets"):
        read_packet_table(io.BytesIO(moved), len(moved))


def test_a_sample_of_an_absurd_size_leaves_the_file_to_the_demuxer() -> None:
    """FFmpeg reads no edit list after it, so the times of headers and of players would differ."""
    video = bytearray(encode(b_frames=2))
    at = video.index(b"stsz") + 4 + 12 + 4 * 20
    video[at : at + 4] = (0x40000000).to_bytes(4, "big")
    with pytest.raises(NotPlainError, match="a sample of 1073741824 bytes"):
        by_header(bytes(video))
