"""Windows from another process are those of this process, whatever happens to the other one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptfocus.pipelines.apart import pool
from adaptfocus.pipelines.apart.memory import shared_array
from adaptfocus.pipelines.apart.windows import FillerApart
from adaptfocus.pipelines.decode import window_jobs
from adaptfocus.pipelines.decode.filler import Filler
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.decode.window_jobs import DenseCounts, dense_job
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import AdaptFocusError, BadVideoError, StorageError
from adaptfocus.pipelines.video.spans import packets_of
from tests.bad_decoders import bad_members
from tests.moving import indexed, kind, moving

WINDOWS: dict[str, Any] = {"frames": 6, "stride_seconds": 0.08, "hop_seconds": 0.2, "size_pixels": 32}
DECODE = DecodeConfig(crop_fraction=0.8)
BATCH = 5


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    pool.end_idle()


def filler_of(video: dict, isolation: Isolation | None = None) -> FillerApart:
    return FillerApart(video, WINDOWS, DECODE, isolation or Isolation())


def filled_by(filler: FillerApart | Filler, between: Any = None) -> tuple[list[float], np.ndarray, DenseCounts]:
    """All windows of a video: times, frames and costs; `between` is called after each part of a batch."""
    centers, frames, counts, is_over = [], [], [], False
    while not is_over:
        out = shared_array((BATCH, 6, 3, 32, 32))
        filled = filler.fill(out)
        frames.append(out[: len(filled.center_seconds)].copy())
        centers += filled.center_seconds
        counts.append(filled.counts)
        is_over = filled.is_over
        if between:
            between(len(centers))
    sums = [sum(getattr(each, name) for each in counts) for name in vars(counts[0])]
    return centers, np.concatenate(frames), DenseCounts(*sums)


def here(video: dict) -> tuple[list[float], np.ndarray, DenseCounts]:
    counts = DenseCounts()
    windows = list(dense_windows(video, decode=DECODE, counts=counts, **WINDOWS))
    return [w.center_seconds for w in windows], np.stack([w.frames for w in windows]), counts


def same(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] and np.array_equal(one[1], other[1])


@pytest.fixture
def video(tmp_path: Path) -> dict:
    return indexed(kind("gop-60-faststart", tmp_path))


@pytest.mark.parametrize("name", ["gop-60-faststart", "h264-open-gop", "variable-rate", "transport-stream"])
def test_windows_are_those_of_this_process(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They also cost the same: each packet is fetched and decoded once, and each frame is converted once."""
    monkeypatch.setattr(window_jobs, "PIECE_BYTES", 20_000)  # some pieces; the other process cuts its own way
    stream = name == "transport-stream"
    video = indexed(moving(tmp_path / "v.ts", options={"g": "25"}) if stream else kind(name, tmp_path))
    apart, expected = filled_by(filler_of(video)), here(video)
    assert same(apart, expected)
    assert same(filled_by(Filler(dense_job(video, decode=DECODE, **WINDOWS), window_jobs.Store())), expected)
    for count in ("windows", "packets_decoded", "frames_converted"):
        assert getattr(apart[2], count) == getattr(expected[2], count)
    assert (apart[2].packets_decoded > 0) == (not stream)


def test_a_process_that_is_killed_is_replaced(video: dict) -> None:
    """It is killed between two parts of a batch; the next process continues with the first missing window."""
    filler, killed = filler_of(video), []

    def kill(done: int) -> None:
        if done == 2 * BATCH and filler._process:
            killed.append(filler._process.pid)
            os.kill(filler._process.pid, signal.SIGKILL)

    apart = filled_by(filler, kill)
    assert len(killed) == 1
    assert same(apart, here(video))


@pytest.mark.parametrize("what", ["crash_if_used", "killed_if_used"])
def test_a_verdict_is_that_of_a_fresh_process(
    video: dict, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The process has done another video before."""
    bad_members(monkeypatch, tmp_path / "bad", {})
    expected = filled_by(filler_of(video))
    bad_members_now = tmp_path / "bad" / "bad.json"
    bad_members_now.write_text(f'{{"{video["member_size_bytes"]}": "{what}"}}')
    filler = filler_of(video)
    out = shared_array((BATCH, 6, 3, 32, 32))
    assert filler.fill(out).center_seconds == expected[0][:BATCH]
    assert np.array_equal(out, expected[1][:BATCH])
    filler.close()


@pytest.mark.parametrize(
    ("what", "kind_of_error"),
    [("hang", "decode_deadline"), ("crash", "decoder_died"), ("memory", "decoder_out_of_memory")],
)
def test_a_misfortune_is_the_videos_own(
    video: dict, what: str, kind_of_error: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("adaptfocus.pipelines.apart.windows.PACKET_SECONDS", 0.0)
    bad_members(monkeypatch, tmp_path / "bad", {video["member_size_bytes"]: what})
    with pytest.raises(BadVideoError) as caught:
        filled_by(filler_of(video, Isolation(deadline_seconds=0.5 if what == "hang" else 60, memory_bytes=200 << 20)))
    assert caught.value.kind == kind_of_error
    other = indexed(moving(tmp_path / "other.mp4", num_frames=30))
    assert same(filled_by(filler_of(other)), here(other))


def test_a_broken_video_is_a_bad_one_and_its_process_continues(video: dict, tmp_path: Path) -> None:
    path = Path(video["shard_url"])
    packets, data = packets_of(video), bytearray(path.read_bytes())
    broken = int(packets.offset_bytes[100])
    data[broken : broken + 3000] = bytes(3000)
    path.write_bytes(data)
    filler = filler_of(video)
    out = shared_array((BATCH, 6, 3, 32, 32))
    assert len(filler.fill(out).center_seconds) == BATCH
    process = filler._process
    assert process is not None
    with pytest.raises(BadVideoError):
        filled_by(filler)
    assert pool._idle == [process]


def test_a_store_that_fails_is_never_a_bad_video(video: dict) -> None:
    with pytest.raises(StorageError, match="there is nothing at"):
        filled_by(filler_of(video | {"shard_url": "/nowhere/video.mp4"}))


def test_what_ends_every_process_is_said(video: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad_members(monkeypatch, tmp_path / "bad", {video["member_size_bytes"]: "killed"})
    with pytest.raises(AdaptFocusError, match="3 decoding processes were ended from outside"):
        filled_by(filler_of(video))
