"""The benchmarks measure what they say: videos made as declared, figures in the declared form, honest counts."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.pipelines import store
from adaptfocus.pipelines.shards.read import read_samples
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.trainers.backbones import build, input_spec_of
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.step import train_step
from benchmarks.extract import bare, clips_of
from benchmarks.faults.s3_latency import FarStore
from benchmarks.focus_overhead import EPOCH, WORLD, adamw, config_of, plain_step, random_batch
from benchmarks.measuring.figures import count, median, ratio, ratio_of_medians, show
from benchmarks.reading.check import is_wrong
from benchmarks.reading.member_memory import write_tar_of_one
from benchmarks.reading.minimal import minimal_bytes
from benchmarks.reading.videos import KINDS, write_video
from tests.conftest import use_environment
from tests.moving import indexed as indexed_video
from tests.moving import kind as kind_of_video


def boxes_of(path: Path) -> list[str]:
    """The types of an mp4's outermost boxes, in order."""
    found, at, data = [], 0, path.read_bytes()
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 8].decode())
        at += size if size != 1 else int.from_bytes(data[at + 8 : at + 16], "big")
    return found


def packets_of(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [(p.pts, p.dts, p.is_keyframe, p.size) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("letter", list(KINDS))
def test_a_video_is_made_as_its_kind_says(letter: str, tmp_path: Path) -> None:
    """Each kind stands for files that some readers get wrong; a figure about another kind of file would be useless."""
    kind = replace(KINDS[letter], width=128, height=96, gop_frames=20, chunk_frames=60, bits_per_second=60_000)
    path = tmp_path / "video.mp4"
    write_video(kind, path, seconds=4)  # two repetitions
    packets = packets_of(path)
    keys = [i for i, (_, _, is_key, _) in enumerate(packets) if is_key]
    shown = sorted(pts for pts, *_ in packets)
    leading = [pts for key in keys for pts, *_ in packets[key:] if pts < packets[key][0]]
    boxes = boxes_of(path)

    assert len(packets) == 120
    assert len(keys) == 6
    assert {shown.index(packets[key][0]) % kind.gop_frames for key in keys} == {0}
    assert any(pts != dts for pts, dts, *_ in packets), "no B-frames"
    assert bool(leading) == kind.open_gop
    assert (boxes.index("moov") < boxes.index("mdat")) == kind.moov_first
    assert (len(set(np.diff(shown))) > 1) == kind.variable_rate
    sizes = [size for *_, size in packets]
    assert sizes[:60] != sizes[60:], "sizes repeat: an index of them would compress as no real one does"
    with av.open(str(path)) as container:
        assert [s.codec_context.name for s in container.streams.audio] == (["aac"] if kind.audio else [])
        assert container.streams.video[0].codec_context.name == ("hevc" if kind.codec == "libx265" else "h264")
        assert [frame.pts for frame in container.decode(video=0)] == shown


def test_a_tar_is_written_around_a_video_that_is_written_once(tmp_path: Path) -> None:
    """The member of 4 GB is made without a second copy, and the result must still be a valid tar."""
    path = tmp_path / "film.tar"
    kind = replace(KINDS["c"], width=128, height=96, chunk_frames=50, bits_per_second=60_000)
    write_tar_of_one(path, 100_000, kind)
    samples, refusals = read_samples(str(path), path.stat().st_size)
    assert not refusals
    assert [sample.key for sample in samples] == ["film"]
    member = samples[0].video
    assert member is not None
    video = tmp_path / "film.mp4"
    video.write_bytes(path.read_bytes()[member.offset_bytes : member.offset_bytes + member.size_bytes])
    assert len(packets_of(video)) > 100


def test_figures_are_printed_as_json_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read stdout line by line."""
    show([ratio("a.b", [1.0, 3.0, 2.0], [2.0, 2.0, 2.0]), count("gets", 2, "GETs", 7)], as_json=True, title="T")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(line) for line in lines] == [["name", "value", "unit", "low", "high", "n"]] * 2
    assert lines[0]["name"] == "a.b"
    assert (lines[0]["value"], lines[0]["unit"], lines[0]["n"]) == (1.0, "ratio", 3)
    assert 0.5 <= lines[0]["low"] < 1.0 < lines[0]["high"] <= 1.5
    assert (lines[1]["value"], lines[1]["low"], lines[1]["high"], lines[1]["n"]) == (2, 2, 2, 7)


def test_a_table_shows_every_figure_whole(capsys: pytest.CaptureFixture[str]) -> None:
    name = "fetch.s3fs_readahead_1mb_bytes_over_minimal"
    show([count(name, 3.2, "ratio", 8)], as_json=False, title="T")
    assert name in capsys.readouterr().out


def test_one_slow_repetition_does_not_move_a_ratio_of_wall_times() -> None:
    """Something else on the machine makes one of five repetitions ten times as long."""
    assert ratio_of_medians("x", [2.0, 2.0, 2.0, 2.0, 20.0], [1.0] * 5).value == 2.0


def test_spoiled_pairs_do_not_move_a_median() -> None:
    figure = median("x", [1.0] * 60 + [50.0] * 20, "ms")
    assert (figure.value, figure.low, figure.high, figure.n) == (1.0, 1.0, 1.0, 80)


def test_the_floors_of_extraction_decode_what_windows_show_and_convert_nothing(tmp_path: Path) -> None:
    """A floor that decodes too little makes everyone look slow, and one that decodes too much makes us look fast."""
    row = indexed_video(kind_of_video("gop-60-faststart", tmp_path))
    assert bare(row, [(0, row["packet_count"] - 1)])() == row["packet_count"] == 200
    clips = clips_of(row)
    assert len(clips) == 8, "a window a second of 8 s"
    starts = [0, 60, 120, 180]
    assert all(first in starts for first, _ in clips)
    # Windows reach 1.86 s (31 strides of 3 frames of 1/25 s) to either side of their middles at 0.5, 1.5, ... s.
    assert clips[0][0] == 0
    assert clips[-1][1] >= 195
    assert bare(row, clips)() == sum(last - first + 1 for first, last in clips)


def test_the_plain_step_learns_what_the_regime_noisy_learns() -> None:
    """The cost of AdaptFocus is measured against this step, so it must be the same training, and not a lighter one."""
    config, batch, done = config_of(WORLD, "noisy"), random_batch(WORLD, 0), SinceCommit()
    torch.manual_seed(0)
    ours = build(config.backbone, WORLD.classes)
    plain = build(config.backbone, WORLD.classes)
    plain.load_state_dict(ours.state_dict())
    spec, engine = input_spec_of(ours), LocalEngine(WORLD.bags, torch.device("cpu"))
    loss = plain_step(plain, spec, adamw(plain, config), batch, WORLD.classes)
    train_step(config, engine, ours, ours, adamw(ours, config), batch, EPOCH, 0.5, done)
    assert float(done.losses[0]) == pytest.approx(loss.item(), abs=1e-6)
    for one, other in zip(plain.parameters(), ours.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-6)


def test_bytes_that_clips_share_count_once() -> None:
    offset = np.array([0, 100, 200, 300, 400, 500])
    packets = Packets(offset, np.full(6, 90), np.arange(6), np.arange(6), np.arange(6) % 3 == 0)
    assert minimal_bytes(packets, [[1]]) == 190
    assert minimal_bytes(packets, [[4], [5]]) == 290
    assert minimal_bytes(packets, [[2], [4]]) == 290 + 190


@pytest.mark.parametrize(("given", "wrong"), [(5, False), (6, True), (30, True)])
def test_a_frame_is_wrong_if_another_is_nearer(given: int, wrong: bool) -> None:
    random = np.random.default_rng(0)
    truth = {n: random.uniform(0, 255, (56, 56)).astype(np.float32) for n in range(40)}
    scaled_otherwise = truth[given] + random.normal(0, 2, (56, 56))
    assert is_wrong(scaled_otherwise, truth, 5) == wrong


def test_a_broken_picture_is_wrong_and_a_still_one_is_not() -> None:
    still = {n: np.full((56, 56), 100.0, np.float32) for n in range(40)}
    assert not is_wrong(still[7] + 1, still, 5)
    assert is_wrong(np.zeros((56, 56), np.float32), still, 5)


def test_the_far_store_waits_counts_and_keeps_connections(local_s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that opened a connection for each request would slow down every reader."""
    with FarStore(local_s3) as far:
        use_environment(monkeypatch, far.environment)
        store.write_bytes(local_s3.url("far", "object.tar"), bytes(1000))
        path = f"/{local_s3.bucket}/far/object.tar"
        connection = http.client.HTTPConnection("127.0.0.1", far.port)
        connection.connect()
        socket = connection.sock
        far.reset(latency_ms=60)
        began = time.monotonic()
        for _ in range(3):
            connection.request("GET", path, headers={"Range": "bytes=100-349"})
            assert len(connection.getresponse().read()) == 250
        assert time.monotonic() - began >= 0.18
        assert connection.sock is socket
        assert store.size_and_tag(local_s3.url("far", "object.tar"))[0] == 1000
        assert store.read_bytes(local_s3.url("far", "object.tar")) == bytes(1000)
        seen = {(t.method, t.path): (t.requests, t.size_bytes) for t in far.traffic()}
    assert seen["GET", path] == (4, 1750)
    assert seen["HEAD", path][1] == 0, "an answer to HEAD names a length and has no body"


def test_the_fake_cloud_has_the_launchers_kinds_of_nodes() -> None:
    """Labels and limits are those of ray_cluster.yaml; nothing that only AWS knows is left in it."""
    pytest.importorskip("ray")
    import yaml
    from ray.autoscaler._private.util import validate_config

    from benchmarks.faults.fake_cloud import HEAD, ROOT, scaled_down

    given = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    small = scaled_down(given)
    validate_config(small)
    kinds, real = small["available_node_types"], given["available_node_types"]
    assert kinds.keys() == {HEAD, "decode", "train"}
    for name in ("decode", "train"):
        assert {k: kinds[name][k] for k in ("labels", "min_workers", "max_workers")} == {
            k: real[name][k] for k in ("labels", "min_workers", "max_workers")
        }
    assert kinds["train"]["resources"].items() >= real["train"]["resources"].items()
