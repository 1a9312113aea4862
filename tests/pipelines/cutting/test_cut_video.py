"""Clips of real encoded videos: which frames they show, when, and how they are turned."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines.cutting.clips import Clip, Cutting, Refused, cut_video
from adaptfocus.pipelines.cutting.copying import packets_to_copy
from adaptfocus.pipelines.cutting.encoding import with_turn
from adaptfocus.pipelines.cutting.moments import Moment, VideoMoments
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.inspection import read_packet_table
from adaptfocus.pipelines.video.packets import Packets
from tests.footage import cut_start, encode, with_display_matrix, write_tar

KEY_EACH_SECOND = {"g": "10", "keyint_min": "10", "sc_threshold": "0"}


def index_of(folder: Path, members: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """The rows of an index of a tar of videos, by id."""
    tar = write_tar(folder / "shards" / "a.tar", members)
    build_index([str(tar)], str(folder / "index"), workers=1)
    return {row["video_id"]: row for row in load_index(str(folder / "index")).table.to_pylist()}


def cut(row: dict[str, Any], start: float, end: float, slack: float = 1.0) -> Clip | Refused:
    (found,) = cut_video(Cutting(slack), VideoMoments(row, (Moment(start, end, "x"),)))
    return found


def frames_in(video: bytes) -> tuple[list[float], list[np.ndarray]]:
    """Times from the first frame, and luma planes."""
    with av.open(io.BytesIO(video)) as container:
        frames = list(container.decode(video=0))
        tick = container.streams.video[0].time_base
    times = [float((frame.pts - frames[0].pts) * tick) for frame in frames]
    return times, [frame.to_ndarray(format="gray") for frame in frames]


VIDEOS = {
    "plain.mp4": encode(40, options=KEY_EACH_SECOND),
    "b_frames.mp4": encode(40, options=KEY_EACH_SECOND, b_frames=3),
    "matroska.mkv": encode(40, container="matroska", options=KEY_EACH_SECOND, b_frames=2),
    "transport.ts": encode(40, container="mpegts", options=KEY_EACH_SECOND),
    "cut.mp4": cut_start(encode(40, options=KEY_EACH_SECOND, b_frames=2), 0.5),
    "mpeg4.mp4": encode(40, codec="mpeg4", options={"g": "10", "sc_threshold": "1000000000"}),
    "odd.mkv": encode(40, codec="ffv1", container="matroska", size=(66, 50)),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return index_of(tmp_path_factory.mktemp("corpus"), VIDEOS)


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize(("start", "end"), [(1.3, 2.15), (0.0, 0.05), (2.0, 9.0)])
def test_a_clip_shows_the_source_s_frames_at_their_times(
    rows: dict[str, dict[str, Any]], name: str, start: float, end: float
) -> None:
    """What a trainer reads must be the pictures that the index's reader and a player show at that time."""
    clip = cut(rows[name.split(".")[0]], start, end)
    assert isinstance(clip, Clip), clip
    times, pictures = frames_in(VIDEOS[name])
    got_times, got = frames_in(clip.mp4)
    assert len(got) == clip.frames
    first = int(np.argmin(np.abs(np.array(times) - clip.clip_start_seconds)))
    np.testing.assert_allclose(got_times, np.array(times[first : first + len(got)]) - times[first], atol=2e-3)
    worst = max(np.abs(a.astype(int) - b).max() for a, b in zip(got, pictures[first:], strict=False))
    assert worst == 0 if clip.is_copied else worst <= 6
    assert clip.clip_start_seconds + clip.start_seconds == pytest.approx(start, abs=0.1)
    assert clip.end_seconds <= got_times[-1] + 0.1 + 2e-3, "the moment lies inside the clip"
    if not clip.is_copied:
        assert len(got) == max(sum(start - 0.1 + 1e-3 < time < end - 1e-3 for time in times), 1)


def test_copies_where_a_keyframe_is_near_and_encodes_elsewhere(rows: dict[str, dict[str, Any]]) -> None:
    for name in ("plain", "b_frames", "matroska", "transport", "mpeg4"):
        near, far = cut(rows[name], 1.3, 2.1), cut(rows[name], 1.5, 2.1, slack=0.3)
        assert isinstance(near, Clip), near
        assert isinstance(far, Clip), far
        assert (near.is_copied, far.is_copied) == (True, False), name
        assert near.clip_start_seconds == pytest.approx(1.0)
        assert near.start_seconds == pytest.approx(0.3)
        assert far.clip_start_seconds == pytest.approx(1.5)
        assert far.frames == 6


@pytest.mark.parametrize("slack", [0.0, 1.0])
@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_a_turned_video_gives_turned_clips(tmp_path: Path, matrix: tuple[int, int, int, int], slack: float) -> None:
    """A phone's upright video must not lie on its side in the data set."""
    row = index_of(tmp_path, {"v.mp4": with_display_matrix(VIDEOS["plain.mp4"], *matrix)})["v"]
    clip = cut(row, 1.35, 2.0, slack)
    assert isinstance(clip, Clip)
    assert clip.is_copied == bool(slack)
    table = read_packet_table(io.BytesIO(clip.mp4), len(clip.mp4))
    assert (table.rotation_degrees, table.is_mirrored) == (row["rotation_degrees"], row["is_mirrored"])
    assert (table.rotation_degrees, table.is_mirrored) != (0, False)


def test_a_turn_is_written_as_it_is_read() -> None:
    for degrees in (0, 90, 180, 270):
        for is_mirrored in (False, True):
            video = with_turn(VIDEOS["plain.mp4"], degrees, is_mirrored)
            table = read_packet_table(io.BytesIO(video), len(video))
            assert (table.rotation_degrees, table.is_mirrored) == (degrees, is_mirrored)


def test_moments_without_a_clip_are_refused_with_a_reason(tmp_path: Path) -> None:
    """A moment past the end, and a video whose bytes are damaged, end nothing."""
    good = VIDEOS["plain.mp4"]
    at = good.index(b"mdat") + 8
    first = index_of(tmp_path, {"v.mp4": good})["v"]
    (late, inside) = cut_video(Cutting(), VideoMoments(first, (Moment(5, 6, "x"), Moment(1, 2, "x"))))
    assert isinstance(late, Refused)
    assert (late.kind, "4 s" in late.message) == ("outside_video", True)
    assert isinstance(inside, Clip)
    tar = Path(first["shard_url"])
    start, size_bytes = first["member_offset_bytes"] + at, good.rindex(b"moov") - 4 - at
    data = bytearray(tar.read_bytes())
    data[start : start + size_bytes] = b"\xff" * size_bytes
    tar.write_bytes(data)
    now = tar.stat()
    changed = first | {"shard_size_bytes": now.st_size, "shard_tag": str(now.st_mtime)}
    damaged = cut(changed, 1.5, 2, slack=0)
    assert isinstance(damaged, Refused)
    assert damaged.kind == "decode_error"


def test_open_groups_of_pictures_are_not_copied() -> None:
    """Pictures that lead a keyframe refer to others before it, which a copy would not have."""
    video = {"access": "packets", "recovery_ticks": 0, "time_base_numerator": 1, "time_base_denominator": 10}
    key = np.array([1, 0, 0, 1, 0, 0], bool)
    sizes = np.ones(6, np.int64)
    closed, opened = np.array([0, 2, 1, 3, 5, 4]), np.array([0, 2, 1, 5, 3, 4])

    def run(pts: np.ndarray, *wanted: int) -> object:
        return packets_to_copy(video, Packets(np.arange(6), sizes, pts, np.arange(6), key), np.array(wanted), 1.0)

    assert run(closed, 3) == (3, 3)
    assert run(closed, 3, 4) == (3, 5), "its reference comes along, and so does what is shown before that"
    assert run(closed, 0, 1) == (0, 2)
    assert run(opened, 5) is None
    assert packets_to_copy(video | {"recovery_ticks": 3}, Packets(*[sizes] * 4, key), np.array([3]), 1.0) is None
