"""Packets that are not stored in order: a clip reads what it needs, and shows the same frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.apart.pool import decode_clips_apart, end_idle
from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION, DecodeConfig
from adaptfocus.pipelines.decode.window_jobs import DenseCounts
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.store.ahead import cost_of
from adaptfocus.pipelines.store.ranges import MAX_GAP_BYTES
from adaptfocus.pipelines.video.packets import Packets, encode_packets, packet_count
from adaptfocus.pipelines.video.spans import (
    FAR_BYTES,
    Run,
    find_clips,
    packets_of,
    parts_in_place,
    shown_pts,
    spans_of,
)
from tests.moving import data_of, indexed, moving

SIZE = 32
FILL_BYTES = 40_000  # of other media after each part


def laid_otherwise(video: dict[str, Any], path: Path, packets_a_part: int) -> dict[str, Any]:
    """The row of a file in which parts of the packets lie in a drawn order, far from each other."""
    packets, file_bytes = packets_of(video), Path(video["shard_url"]).read_bytes()
    parts = np.split(np.arange(len(packets)), range(packets_a_part, len(packets), packets_a_part))
    offsets, laid = np.zeros(len(packets), np.int64), b""
    for number in np.random.default_rng(3).permutation(len(parts)):
        for packet in parts[number]:
            start, offsets[packet] = video["member_offset_bytes"] + packets.offset_bytes[packet], len(laid)
            laid += file_bytes[start : start + packets.size_bytes[packet]]
        laid += bytes(FILL_BYTES)
    path.write_bytes(laid)
    moved = Packets(offsets, packets.size_bytes, packets.pts, packets.dts, packets.is_key)
    return video | {
        "shard_url": str(path), "member_offset_bytes": 0, "member_size_bytes": len(laid),
        "shard_size_bytes": None, "packets": encode_packets(moved),
    }  # fmt: skip


def bag_of(video: dict[str, Any]) -> dict[str, Any]:
    packets = packets_of(video)
    times = [start + np.arange(8) * 0.08 for start in (0.1, 1.3, 2.2)]
    return bare_bag(video, *find_clips(video, packets, shown_pts(video, packets), times))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """A video as it was written, and laid down in another order, in parts that end inside GOPs."""
    folder = tmp_path_factory.mktemp("laid")
    options = {"x264-params": "keyint=25:bframes=2:scenecut=0"}
    video = indexed(moving(folder / "v.mp4", num_frames=90, options=options))
    return video, laid_otherwise(video, folder / "laid.bin", packets_a_part=7)


def test_clips_show_the_same_wherever_their_packets_lie(videos: tuple[dict, dict]) -> None:
    shown = []
    for video in videos:
        bag, out = bag_of(video), np.empty((3, 8, 3, SIZE, SIZE), np.uint8)
        decode_clips(bag, data_of(bag), SIZE, DecodeConfig(), out)
        shown.append(out)
    assert np.array_equal(*shown)
    assert any(span["continues"] for span in bag["spans"])
    apart = np.empty_like(out)
    decode_clips_apart(bag, data_of(bag), SIZE, DecodeConfig(), apart, DEFAULT_ISOLATION)
    end_idle()
    assert np.array_equal(apart, out)


def test_a_clip_reads_little_more_than_its_packets(videos: tuple[dict, dict]) -> None:
    bag = bag_of(videos[1])
    size_bytes, _ = cost_of(bag)
    needed = sum(int(packets_of(span).size_bytes.sum()) for span in bag["spans"])
    assert size_bytes <= needed + MAX_GAP_BYTES * len(bag["spans"])
    assert size_bytes < videos[1]["member_size_bytes"] / 4


def test_windows_show_the_same_wherever_packets_lie(videos: tuple[dict, dict]) -> None:
    shape: dict[str, Any] = {"frames": 4, "stride_seconds": 0.08, "hop_seconds": 0.3, "size_pixels": SIZE}
    counts = DenseCounts()
    ordered = [window.frames for window in dense_windows(videos[0], **shape)]
    apart = [window.frames for window in dense_windows(videos[1], counts=counts, **shape)]
    assert np.array_equal(ordered, apart)
    assert counts.read_bytes <= packets_of(videos[1]).size_bytes.sum()


@given(
    st.lists(st.tuples(st.integers(1, 50_000), st.integers(0, 2 * FAR_BYTES)), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_spans_hold_every_packet_and_no_large_hole(
    sizes_and_holes: list[tuple[int, int]], random: Any, in_order: bool
) -> None:
    sizes, holes = np.array(sizes_and_holes).T
    offsets = np.zeros(len(sizes), np.int64)
    order, at = list(range(len(sizes))), 0
    if not in_order:
        random.shuffle(order)
    for packet in order:
        offsets[packet], at = at, at + sizes[packet] + holes[packet]
    packets = Packets(offsets, sizes, np.arange(len(sizes)), np.arange(len(sizes)), np.ones(len(sizes), bool))
    spans = spans_of({"member_offset_bytes": 1000}, packets, Run(0, len(sizes) - 1))
    assert [span["continues"] for span in spans] == [False] + [True] * (len(spans) - 1)
    found = [
        (span["offset_bytes"] - 1000 + inside, size)
        for span in spans
        for inside, size in zip(
            packets_of(span).offset_bytes.tolist(), packets_of(span).size_bytes.tolist(), strict=True
        )
    ]
    assert found == list(zip(offsets.tolist(), sizes.tolist(), strict=True))
    for span in spans:
        wasted = span["size_bytes"] - packets_of(span).size_bytes.sum()
        assert 0 <= wasted <= FAR_BYTES * (packet_count(span["packets"]) - 1 or 0)
    if in_order and (holes[:-1] <= FAR_BYTES).all():
        assert len(spans) == 1


def test_packets_in_order_with_sound_between_them_stay_one_range() -> None:
    sizes = np.full(50, 9000)
    offsets = np.arange(50) * (9000 + 200_000)
    packets = Packets(offsets, sizes, np.arange(50), np.arange(50), np.arange(50) % 25 == 0)
    assert parts_in_place(packets, Run(3, 40)) == [Run(3, 40)]
