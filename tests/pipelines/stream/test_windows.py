"""Windows of many videos in batches: every window comes once, whatever the videos are like."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptfocus.pipelines.apart import pool
from adaptfocus.pipelines.decode.settings import Isolation
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.stream.batches import BAD_VIDEO, decode_text
from adaptfocus.pipelines.stream.windows import VideoRange, WindowShape, batches_of_ranges, window_batches
from tests.footage import encode, footage_folder, write_tar

CLIP = ClipConfig(frames=4, fps=5.0, size_pixels=32)
Windows = dict[tuple[int, int], tuple[float, bytes]]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    pool.end_idle()


def indexed(folder: Path, members: dict[str, bytes]) -> VideoRange:
    write_tar(folder / "videos.tar", members)
    build_index([str(folder / "videos.tar")], str(folder / "index"), workers=1)
    index = load_index(str(folder / "index"))
    return VideoRange(str(folder / "index"), index.fingerprint, 0, index.table.num_rows)


def collected(batches: Iterator) -> tuple[Windows, dict[int, str]]:
    """(video, step) -> what is there, each once; and why videos have none."""
    windows: Windows = {}
    bad: dict[int, str] = {}
    for batch in batches:
        for n, (row, step) in enumerate(zip(batch.video_row.tolist(), batch.step.tolist(), strict=True)):
            if step == BAD_VIDEO:
                bad[row] = f"{decode_text(batch.kind[n])}: {decode_text(batch.error[n])}"
            else:
                assert (row, step) not in windows
                windows[row, step] = (batch.center_seconds[n].item(), batch.frames[n].tobytes())
    return windows, bad


@pytest.mark.parametrize("apart", [True, False])
def test_a_batch_continues_where_a_video_ends(apart: bool, tmp_path: Path) -> None:
    videos = {f"v{n}.mp4": encode(12 + 7 * n, options={"g": "5"}) for n in range(5)}
    every = indexed(tmp_path, videos)
    shape = WindowShape(CLIP, 0.5, isolation=Isolation() if apart else None)
    batches = list(window_batches(every.videos(), shape, windows_per_batch=4))
    assert [len(batch.step) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    expected: Windows = {}
    for row, video in every.videos():
        for step, window in enumerate(dense_windows(video, **shape.job(video))):
            expected[row, step] = (window.center_seconds, window.frames.tobytes())
    assert collected(iter(batches)) == (expected, {})
    assert [*collected(iter(batches))[0]] == [*expected], "and in their order"
    ranges = [VideoRange(every.index_url, every.fingerprint, row, row + 1) for row in range(5)]
    assert collected(batches_of_ranges(ranges, shape, threads=3)) == (expected, {}), "whoever decodes which"
    for row, video in every.videos():
        own = [batch.frames[batch.video_row == row].reshape(-1, 3, 32, 32) for batch in batches]
        shown = {picture.tobytes() for frames in own for picture in frames}
        spent = [sum(int(getattr(batch, name)[batch.video_row == row].sum()) for batch in batches)
                 for name in ("frames_converted", "packets_decoded")]  # fmt: skip
        assert spent[0] == len(shown), "each frame once, though windows overlap"
        assert spent[0] <= spent[1] <= video["packet_count"]


def test_what_is_left_out_is_not_read_and_a_store_that_fails_is_said(tmp_path: Path) -> None:
    every = indexed(tmp_path, {f"v{n}.mp4": encode(12) for n in range(3)})
    some = VideoRange(every.index_url, every.fingerprint, 0, 3, left_out=[1])
    shape = WindowShape(CLIP, 0.5)
    assert {row for row, _ in collected(window_batches(some.videos(), shape))[0]} == {0, 2}
    (tmp_path / "videos.tar").unlink()
    with pytest.raises(StorageError, match="it is not there"):
        list(batches_of_ranges([every, every], shape, threads=2))


def test_leaving_early_leaves_no_thread_behind(tmp_path: Path) -> None:
    every = indexed(tmp_path, {f"v{n}.mp4": encode(12) for n in range(4)})
    ranges = [VideoRange(every.index_url, every.fingerprint, row, row + 1) for row in range(4)]
    batches = batches_of_ranges(ranges, WindowShape(CLIP, 0.5), threads=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("windows-")]


@pytest.mark.footage
def test_real_files_have_all_their_windows_or_a_reason(tmp_path: Path) -> None:
    """Cameras, screen recorders, ten bits, AV1, rotation, damage: another process gives the same as this one."""
    files = [
        path for path in sorted((footage_folder() / "awkward").iterdir()) if path.suffix in (".mp4", ".mov", ".mkv")
    ]
    files += sorted((footage_folder() / "gmdcsa24").rglob("*.mp4"))[:4]
    every = indexed(tmp_path, {f"{n:02d}{path.suffix}": path.read_bytes() for n, path in enumerate(files)})
    ranges = [VideoRange(every.index_url, every.fingerprint, row, row + 1) for row in range(every.stop)]
    apart, here = (
        collected(batches_of_ranges(ranges, WindowShape(CLIP, 1.0, isolation=isolation), threads=2))
        for isolation in (Isolation(), None)
    )
    assert apart[1] == here[1]
    assert 1 <= len(apart[1]) <= 3
    assert all(reason.startswith("decode_error: ") for reason in apart[1].values())
    shape = WindowShape(CLIP, 1.0)
    for row, video in every.videos():
        steps = [step for at, step in here[0] if at == row]
        if row not in here[1]:
            assert sorted(steps) == list(range(shape.steps(video["duration_seconds"])))
            assert all(apart[0][row, step] == here[0][row, step] for step in steps)


@pytest.mark.parametrize("apart", [True, False])
def test_whatever_one_row_leads_to_the_others_have_their_windows(apart: bool, tmp_path: Path) -> None:
    """Another program wrote a row without packets, or without a duration."""
    every = indexed(tmp_path, {f"v{n}.mp4": encode(12, options={"g": "5"}) for n in range(4)})
    videos = [*every.videos()]
    videos[1][1]["packets"] = None
    videos[2][1]["duration_seconds"] = None
    shape = WindowShape(CLIP, 0.5, isolation=Isolation() if apart else None)
    windows, bad = collected(window_batches(videos, shape))
    assert {row for row, _ in windows} == {0, 3}
    assert {row: text.partition(":")[0] for row, text in bad.items()} == dict.fromkeys((1, 2), "unexpected_error")
