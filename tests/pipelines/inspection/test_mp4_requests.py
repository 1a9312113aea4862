"""Indexing an mp4 in a store takes few requests, and none for bytes that are at hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.rows import ShardTask, index_shard
from adaptfocus.pipelines.inspection.mp4_table import read_mp4_table
from adaptfocus.pipelines.shards import members as tar_members
from adaptfocus.pipelines.shards.read import read_samples
from adaptfocus.pipelines.store import objects
from adaptfocus.pipelines.video.mp4_boxes import Spans
from tests.footage import write_tar
from tests.pipelines.inspection.mp4_files import assert_equal, by_demuxing, made, moov_first, remuxed


def noise(seconds: int, audio: bool) -> bytes:
    """A video of some hundred kilobytes."""
    out, rng = io.BytesIO(), np.random.default_rng(1)
    with av.open(out, "w", "mp4") as muxer:
        stream: Any = muxer.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = 160, 120, "yuv420p", {"qp": "18", "g": "10"}
        for _ in range(10 * seconds):
            picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        muxer.mux(stream.encode())
    return remuxed(out.getvalue(), audio=audio)


def test_a_video_in_a_tar_costs_three_requests_at_most(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Counted at the store's client: the tar's walk, the moov at either end, the proof."""
    tail, front = noise(3, audio=True), moov_first(noise(3, audio=False))
    assert min(len(tail), len(front)) > 300_000
    members = {}
    for number in range(3):
        members |= {f"a{number}.mp4": tail, f"a{number}.json": b'{"labels": ["sit"]}', f"b{number}.mp4": front}
    data = write_tar(tmp_path / "s.tar", members).read_bytes()
    store.write_bytes(store.join(s3_url, "s.tar"), data)
    fetched: list[tuple[int, int]] = []
    fetch = objects._fetched

    def counting(ranges: Any, *how: Any) -> list[bytes]:
        fetched.extend((each.offset_bytes, each.size_bytes) for each in ranges)
        return fetch(ranges, *how)

    monkeypatch.setattr(objects, "_fetched", counting)
    facts = index_shard(ShardTask(s3_url, store.join(s3_url, "s.tar"), len(data), "", "0" * 16, None, None))
    assert (facts.rows, facts.refused) == (6, {})
    assert len(fetched) <= 3 * 6 + 1, "the last request finds the tar's end"
    assert sum(size for _, size in fetched) < len(data) / 2


def test_first_bytes_are_those_of_the_video_and_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    large, small = noise(2, audio=False), made("one-frame")
    members = {f"{number}.mp4": small if number % 2 else large for number in range(6)}
    path = write_tar(tmp_path / "s.tar", members)
    samples, _ = read_samples(str(path), path.stat().st_size)
    heads = [sample.video.head for sample in samples if sample.video]
    assert [head == video[: len(head)] for head, video in zip(heads, members.values(), strict=True)] == [True] * 6
    assert [len(head) for head in heads[1::2]] == [len(small)] * 3
    assert min(len(head) for head in heads[::2]) > 60_000, "a header's request brings what follows it"
    monkeypatch.setattr(tar_members, "MAX_HEADS_BYTES", 100_000)
    samples, _ = read_samples(str(path), path.stat().st_size)
    assert sum(len(sample.video.head) for sample in samples if sample.video) == 100_000


def test_first_bytes_that_are_at_hand_are_not_fetched_again():
    class Counted(io.BytesIO):
        reads: list[tuple[int, int]] = []  # noqa: RUF012

        def read(self, size: int | None = -1) -> bytes:
            self.reads.append((self.tell(), size or 0))
            return super().read(size)

    video = noise(2, audio=True)
    moov_at = video.rindex(b"moov") - 4
    truth = by_demuxing(video)
    end = int((truth.offset_bytes + truth.size_bytes)[1])
    for head_bytes, also_read in ((end, []), (end - 1, [end - 1])):
        file = Counted(video)
        file.reads.clear()
        found = read_mp4_table(Spans(file, len(video), video[:head_bytes]))
        assert [at for at, _ in file.reads[:-1]] == [moov_at, *also_read], "the proof reads only what is not here"
        middle = truth.offset_bytes.tolist().index(file.reads[-1][0])
        assert truth.is_key[middle]
        assert len(truth.pts) / 3 < middle < len(truth.pts) * 2 / 3
        assert_equal(found, truth)
