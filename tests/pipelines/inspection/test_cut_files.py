"""Files that end early: they are used up to the last complete picture, and the index says that the rest is missing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import notes_of
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from tests.footage import write_tar
from tests.moving import data_of, expected_rgb, indexed, moving, sequential

SIZE = 32
X264 = {"x264-params": "keyint=12:bframes=2:scenecut=0"}
KINDS: dict[str, dict[str, Any]] = {
    "faststart.mp4": {"options": X264, "flags": "faststart"},
    "audio.mp4": {"options": X264, "flags": "faststart", "audio": True},
    "fragments.mp4": {"options": X264, "flags": "frag_keyframe+empty_moov"},
    "faststart.mov": {"options": X264, "flags": "faststart"},
    "v.mkv": {"options": X264},
    "v.webm": {"codec": "libvpx", "options": {"g": "12", "deadline": "realtime"}},
    "v.ts": {"options": X264, "audio": True},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "v.flv": {"options": X264},
    "v.avi": {"codec": "mpeg4", "options": {"g": "12"}},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: moving(folder / name, num_frames=60, **how).read_bytes() for name, how in KINDS.items()}


def whole_packets(video: bytes, cut: bytes) -> set[int]:
    """The times of the packets that a demuxer gives both for the cut file and for the whole one."""

    def packets(data: bytes) -> dict[int, bytes]:
        with av.open(io.BytesIO(data)) as container:
            return {p.pts: bytes(p) for p in container.demux(video=0) if p.size and p.pts is not None}

    of_all = packets(video)
    return {pts for pts, data in packets(cut).items() if of_all.get(pts) == data}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.37, 0.6, 0.85])
def test_all_whole_pictures_are_used_and_the_cut_is_said(
    tmp_path: Path, whole: dict[str, bytes], name: str, share: float
) -> None:
    video = whole[name]
    path = tmp_path / name
    path.write_bytes(video[: int(len(video) * share)])
    row = indexed(path)
    table = read_packet_table(io.BytesIO(path.read_bytes()), path.stat().st_size)
    assert set(table.pts.tolist()) == whole_packets(video, path.read_bytes())
    assert [kind for kind, _ in table.notes] == ["ends_early"]
    assert "cut off" in table.notes[0][1]
    original = tmp_path / f"whole-{name}"
    original.write_bytes(video)
    frames, shown = sequential(original), shown_pts(row, packets_of(row))
    assert row["duration_seconds"] == pytest.approx(len(shown) / 25, abs=0.13)  # with holes at the end
    tick = row["time_base_numerator"] / row["time_base_denominator"]
    times = (shown - shown[0]) * tick
    bag = bare_bag(row, *find_clips(row, packets_of(row), shown, [times[:3], times[-3:]]))
    for backend in ("packets", "demux"):
        out = np.empty((2, 3, 3, SIZE, SIZE), np.uint8)
        decode_clips(bag, data_of(bag), SIZE, DecodeConfig(backend=backend), out)
        for clip, pictures in zip(bag["clips"], out, strict=True):
            for pts, picture in zip(clip["frame_pts"], pictures, strict=True):
                assert np.array_equal(picture, expected_rgb(frames[pts], SIZE)), (backend, pts)
    windows = list(dense_windows(row, frames=2, stride_seconds=0.04, hop_seconds=0.2, size_pixels=SIZE))
    assert len(windows) == int(np.ceil(row["duration_seconds"] / 0.2 - 1e-9))


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_not_said_to_end_early(whole: dict[str, bytes], name: str) -> None:
    table = read_packet_table(io.BytesIO(whole[name]), len(whole[name]))
    assert (table.notes, len(table.pts)) == ((), 60)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_recording_without_its_tables_is_refused_as_cut_off(tmp_path: Path, share: float) -> None:
    video = moving(tmp_path / "v.mp4", num_frames=20).read_bytes()
    assert video.index(b"mdat") < video.index(b"moov")
    cut = video[: int(video.index(b"moov") * share)]
    for data in (cut, video[: video.index(b"moov") + 50], video[: video.index(b"moov") - 4]):
        with pytest.raises(BadVideoError, match=r"it was cut off: .* get the whole file") as caught:
            read_packet_table(io.BytesIO(data), len(data))
        assert caught.value.kind == "cut_off"


def test_a_file_without_one_whole_picture_is_refused_as_cut_off(whole: dict[str, bytes]) -> None:
    video = whole["faststart.mp4"]
    starts = {
        "none of its 60 frames is complete": video[: video.index(b"mdat") + 20],
        "has no packets": whole["v.mkv"][:900],
    }
    for why, cut in starts.items():
        with pytest.raises(BadVideoError, match=why) as caught:
            read_packet_table(io.BytesIO(cut), len(cut))
        assert caught.value.kind == "cut_off"


def test_the_index_counts_what_ends_early_and_keeps_it(tmp_path: Path, whole: dict[str, bytes]) -> None:
    video = whole["faststart.mp4"]
    members = {"a.mp4": video, "a.json": b'{"labels": ["x"]}', "b.mp4": video[: len(video) // 2], "b.json": b"{}"}
    shard = write_tar(tmp_path / "s.tar", members)
    done = build_index([str(shard)], str(tmp_path / "index"), workers=1, isolation=None)
    assert (done.videos, done.refused, done.noted) == (2, {}, {"ends_early": 1})
    assert notes_of(str(tmp_path / "index")) == {"ends_early": 1}
    (part,) = (tmp_path / "index" / "refused").iterdir()
    (row,) = read_table(str(part), REFUSED_SCHEMA).to_pylist()
    assert (row["video_id"], row["kind"]) == ("b", "ends_early")
    assert "holds the first" in row["message"]
