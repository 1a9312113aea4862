"""The same job on videos that people filmed, through Ceph's S3 gateway: nothing here was made for these tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from adaptfocus.infra.cli import app
from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.published import find_packets, write_plan
from adaptfocus.pipelines.stream.clips import ClipShape, stream
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import load_config
from tests.ceph import CephGateway
from tests.footage import footage_folder, write_tar
from tests.moving import expected_rgb, sequential
from tests.secrets import assert_no_secret

pytestmark = [pytest.mark.footage, pytest.mark.ceph, pytest.mark.slow]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["adaptfocus", *map(str, words)])
        app.main()

    return run


@pytest.mark.ray
def test_gmdcsa24_packed_and_trained_for_two_epochs_through_s3(
    command: Callable[..., None], ceph_url: str, ceph_s3: CephGateway, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """People in real rooms: variable frame rate, fragmented mp4, several labels a video, overlapping intervals."""
    pytest.importorskip("ray")
    shards, index, run = (store.join(ceph_url, name) for name in ("shards", "index", "runs/real"))
    command("pack", "--gmdcsa24", footage_folder() / "gmdcsa24", "--out", shards, "--shard-size", 4_000_000)
    command("index", shards, "--out", index)
    videos = load_index(index)
    assert videos.table.num_rows == 13
    assert set(videos.table.column("access").to_pylist()) <= {"packets", "demux"}
    settings = ["small", "name=real", f"runs={ceph_url}/runs", f"index={index}", "epochs=2", "focus.warmup_epochs=1"]
    command("train", *settings, "placement.workers=2", "plan.bags_per_batch=4", "clip.size_pixels=56")
    config = load_config(run)
    found = audit(Run(run))
    assert config.placement.workers == 2
    assert found.epochs == 2
    assert found.clips_planned == found.clips_trained == 4 * (12 + 12)
    assert (found.clips_lost, found.clips_twice, found.clips_undecodable) == (0, 0, 0)
    command("evaluate", run, "--index", index, "--views", 4, "--crops", 3)
    command("report", run, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 4
    said = capsys.readouterr()
    for text in (page, said.out, said.err, store.read_bytes(store.join(run, "config.json")).decode()):
        assert_no_secret(text, ceph_s3.environment)


def stitched(path: Path, minutes: int) -> list[tuple[str, float]]:
    """Gestures one after the other, over and over: a long H.264 video -> (name, seconds) of each."""
    files = sorted((footage_folder() / "signs").glob("*.mkv"))
    gestures = {}
    for file in files:
        with av.open(str(file)) as container:
            frames = [f.reformat(width=160, height=120, format="yuv420p") for f in container.decode(video=0)]
        gestures[file.stem] = frames[::3]  # 10 a second are enough to see a gesture
    parts, count = [], 0
    with av.open(str(path), "w") as muxer:
        stream = muxer.add_stream("libx264", rate=10, options={"preset": "ultrafast", "g": "250", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        while count < minutes * 600:
            for name, frames in gestures.items():
                parts.append((name, count / 10))
                for frame in frames:
                    frame.pts, frame.time_base = count, Fraction(1, 10)
                    muxer.mux(stream.encode(frame))
                    count += 1
        muxer.mux(stream.encode())
    return parts


def test_long_videos_are_indexed_planned_and_decoded(ceph_url: str, tmp_path: Path) -> None:
    """A film of 139 s with 140 keyframes, and ten minutes of gestures with one every 25 s."""
    stitched(tmp_path / "signs.mp4", minutes=10)
    film = footage_folder() / "long" / "one-by-one-person-detection.mp4"
    tar = write_tar(
        tmp_path / "long.tar",
        {"film.mp4": film.read_bytes(), "film.json": b'{"labels": ["person"]}',
         "signs.mp4": (tmp_path / "signs.mp4").read_bytes(), "signs.json": b'{"labels": ["gesture", "person"]}'},
    )  # fmt: skip
    store.write_bytes(store.join(ceph_url, "long.tar"), tar.read_bytes())
    build_index([store.join(ceph_url, "long.tar")], store.join(ceph_url, "index"), workers=1)
    from adaptfocus.pipelines.plan.planner import Planner
    from adaptfocus.pipelines.plan.settings import ClipConfig
    from adaptfocus.pipelines.plan.views import plan_views

    index = load_index(store.join(ceph_url, "index"))
    durations = dict(zip(*(index.table.column(n).to_pylist() for n in ("video_id", "duration_seconds")), strict=True))
    assert durations["film"] == pytest.approx(139, abs=1)
    assert durations["signs"] >= 600
    clip = ClipConfig(frames=8, frame_stride=2, size_pixels=64)
    plan = plan_views(Planner.of(index.table, index.classes), clip, num_views=12)
    facts = write_plan(plan, store.join(ceph_url, "plan"), 0)
    bags = find_packets(plan.table)
    ranges = [span["size_bytes"] for spans in bags.column("spans").to_pylist() for span in spans]
    assert max(ranges) < sum(index.table.column("member_size_bytes").to_pylist()) / 4, "a span is a part of a video"
    batches = list(stream(facts.slices(0), ClipShape(12, 8, 64), bags_per_batch=1))
    for batch, row in zip(batches, bags.to_pylist(), strict=True):
        assert batch.ok.all()
        frames = sequential(tmp_path / "signs.mp4" if row["video_id"] == "signs" else film)
        for decoded, planned in zip(batch.frames[0], row["clips"], strict=True):
            for picture, pts in zip(decoded, planned["frame_pts"], strict=True):
                assert np.array_equal(picture, expected_rgb(frames[pts], 64))
