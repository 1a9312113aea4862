"""The sample videos of a report: which are shown, with which pictures, and what was drawn from them."""

from __future__ import annotations

import io
import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from adaptfocus.infra.report.data import VideoSample
from adaptfocus.infra.report.gather import gather
from adaptfocus.infra.report.samples import STRIP_FRAMES
from adaptfocus.infra.report.thumbnails import frames_jpeg
from adaptfocus.pipelines.decode.bag import to_square_rgb
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.runs.log import Run
from tests.infra.report.real_runs import EPOCHS, Compared, rows_of
from tests.trainers.loop.test_training import broken_copy, trained
from tests.worlds import SmallWorld


def frame_shown_at(video: dict, seconds: float, size_pixels: int) -> np.ndarray:
    """By the plain way: the whole file from the tar, decoded from its first frame on; RGB [3, size, size]."""
    with open(video["shard_url"], "rb") as tar:
        tar.seek(video["member_offset_bytes"])
        container = av.open(io.BytesIO(tar.read(video["member_size_bytes"])), "r")
    first, shown = None, None
    for frame in container.decode(video=0):
        assert frame.pts is not None
        first = frame.pts if first is None else first
        tick = Fraction(video["time_base_numerator"], video["time_base_denominator"])
        if (frame.pts - first) * tick > seconds + 1e-4:
            break
        shown = frame
    assert shown is not None
    return to_square_rgb(shown, size_pixels, 0)


def decoded(jpeg: bytes) -> np.ndarray:
    """RGB [3, H, W]."""
    assert jpeg.startswith(b"\xff\xd8\xff")
    assert jpeg.endswith(b"\xff\xd9")
    return next(av.open(io.BytesIO(jpeg), "r").decode(video=0)).to_ndarray(format="rgb24").transpose(2, 0, 1)


def test_thumbnails_are_the_frames_on_display_at_the_spikes(small_world: SmallWorld, compared: Compared) -> None:
    data, rows = gather(compared.urls, "test", 3, ""), rows_of(small_world)
    compared_frames = 0
    for sample in data.samples:
        video = rows[sample.video_id]
        assert [p.label for p in sample.thumbnails] == sample.labels
        for action, (label, seconds, jpeg) in zip(sample.actions, sample.thumbnails, strict=True):
            assert (label, seconds) == (action.label, action.salient_seconds)
            picture = decoded(jpeg)
            true = frame_shown_at(video, seconds, picture.shape[-1]).astype(float)
            others = [frame_shown_at(video, at, picture.shape[-1]) for at in (seconds - 2, seconds + 2) if at > 0]
            error = np.abs(picture - true).mean()
            assert error < 6, f"{sample.video_id} {label} at {seconds:.2f} s"
            assert all(error < np.abs(picture - other).mean() for other in others)
            compared_frames += 1
    assert compared_frames >= 6


def test_a_thumbnail_of_a_video_that_only_a_demuxer_reads(small_world: SmallWorld) -> None:
    """The other access must give the same picture."""
    video = next(iter(rows_of(small_world).values()))
    ranged, demuxed = (frames_jpeg(each, [7.3, 2.1]) for each in (video, video | {"access": "container"}))
    assert ranged == demuxed


def test_a_strip_is_the_frames_all_along_the_video(small_world: SmallWorld, compared: Compared) -> None:
    sample, rows = gather(compared.urls, "test", 1, "").samples[0], rows_of(small_world)
    video = rows[sample.video_id]
    assert [at for at, _ in sample.strip] == pytest.approx(
        [(n + 0.5) / STRIP_FRAMES * video["duration_seconds"] for n in range(STRIP_FRAMES)]
    )
    for seconds, jpeg in sample.strip:
        picture = decoded(jpeg)
        assert np.abs(picture - frame_shown_at(video, seconds, picture.shape[-1]).astype(float)).mean() < 8


def test_the_surest_misses_are_shown_first_then_the_weakest_spikes(compared: Compared) -> None:
    """What went wrong is what a reader wants to see, not what lies evenly in an index."""
    every, data = gather(compared.urls, "test", 18, ""), gather(compared.urls, "test", 4, "")
    actions = [(a, s) for s in every.samples for a in s.actions if a.spike_score is not None]
    missed = sorted(((a.spike_score, s.video_id) for a, s in actions if a.hit is False), reverse=True)
    weakest = sorted((a.spike_score, s.video_id) for a, s in actions)
    wanted = list(dict.fromkeys(video for _, video in missed))[:2]
    wanted += [v for v in dict.fromkeys(video for _, video in weakest) if v not in wanted][:2]
    assert list(dict.fromkeys(s.video_id for s in data.samples)) == wanted
    first = data.samples[0].why
    assert first.startswith(f"surest miss: {next(a.label for a, _ in actions if a.spike_score == missed[0][0])}")
    assert f"spike {missed[0][0]:.2f}, outside every true interval" in first


def test_videos_are_shown_by_their_ids(small_world: SmallWorld, compared: Compared) -> None:
    wanted = [list(rows_of(small_world))[n] for n in (11, 2)]
    shown = gather(compared.urls, "test", 4, "", wanted).samples
    assert [s.video_id for s in shown] == [wanted[0]] * 2 + [wanted[1]] * 2
    with pytest.raises(
        InputError, match=rf"--video {wanted[0]}x: no video .* has that id; the nearest is '{wanted[0]}'"
    ):
        gather(compared.urls, "test", 4, "", [f"{wanted[0]}x"])


def test_the_spike_is_the_highest_bar(compared: Compared) -> None:
    for sample in gather(compared.urls, "test", 6, "").samples:
        for action in sample.actions:
            scores = [s for s in action.score_bins if s is not None]
            assert action.spike_score == pytest.approx(max(scores))
            assert action.spike_tau == action.tau_bins[action.score_bins.index(max(scores))]


def test_drawn_clips_are_those_of_the_plans(compared: Compared) -> None:
    data = gather(compared.urls, "test", 3, "")
    for url, name in zip(compared.urls, ("noisy", "ours"), strict=True):
        planned = []
        for epoch in range(EPOCHS):
            plan = read_plan(Run(url).epoch_url(epoch, "plan"))
            assert plan is not None
            for part in plan.slices(0):
                for bag in read_table(part[0], PLAN_SCHEMA, part[1], part[2]).to_pylist():
                    planned += [
                        (bag["video_id"], epoch + 1, clip["center_seconds"], clip["focus_label_id"] >= 0)
                        for clip in bag["clips"]
                    ]
        samples = [s for s in data.samples if s.run == name]
        drawn = [(s.video_id, c.epoch, c.center_seconds, c.reason == "focus") for s in samples for c in s.drawn_clips]
        assert sorted(drawn) == sorted(p for p in planned if p[0] in {s.video_id for s in samples})
        assert any(focused for *_, focused in drawn) == (name == "ours")
        for sample in samples:
            assert all(c.half_width_seconds == 3.5 / 4 for c in sample.drawn_clips)  # 8 frames, 4 a second
            assert all(c.label in sample.labels for c in sample.drawn_clips if c.reason == "focus")


def test_runs_are_shown_on_the_same_videos_side_by_side(compared: Compared) -> None:
    def order(samples: list[VideoSample]) -> list[tuple[str, str]]:
        return [(s.video_id, s.run) for s in samples]

    shown = order(list(gather(compared.urls, "test", 3, "").samples))
    videos = list(dict.fromkeys(video for video, _ in shown))
    assert len(videos) == 3
    assert shown == [(video, run) for video in videos for run in ("noisy", "ours")]
    assert len({s.video_id for s in gather(compared.urls, "test", 50, "").samples}) == 18


def test_a_picture_that_cannot_be_cut_is_counted(small_world: SmallWorld, tmp_path: Path) -> None:
    """The tars were overwritten after training: the report is made all the same, and says what it lacks."""
    world = broken_copy(small_world, tmp_path / "copy", 0)
    run = trained(world.run_config(tmp_path / "runs", "ours", "epochs=1"))
    whole = gather([run.url], "test", 18, "")
    for tar in (tmp_path / "copy").glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    data = gather([run.url], "test", 18, "")
    lost = [d for d in data.dropped if d.stage == "pictures"]
    strips = sum(bool(s.strip) for s in whole.samples)
    assert strips == 18
    assert sum(d.count for d in lost) == strips + sum(len(s.thumbnails) for s in whole.samples)
    assert not any(s.thumbnails or s.strip for s in data.samples)
    assert [s.actions for s in data.samples] == [s.actions for s in whole.samples]


def test_an_index_that_changed_since_shows_no_wrong_videos(compared: Compared, tmp_path: Path) -> None:
    """Rows of another index are other videos: their saliency under these names would be a lie."""
    moved = tmp_path / "moved" / "noisy"
    shutil.copytree(compared.noisy, moved)
    facts = json.loads((moved / "index.json").read_text())
    (moved / "index.json").write_text(json.dumps(facts | {"fingerprint": "of another"}))
    data = gather([str(moved), compared.ours], "test", 2, "")
    assert {s.run for s in data.samples} == {"ours"}
    assert [(d.kind, d.count, d.stage) for d in data.dropped] == [("index_changed", 2, "sample videos")]


def test_a_run_is_shown_on_the_videos_that_it_was_begun_on(small_world: SmallWorld, tmp_path: Path) -> None:
    """One run was begun before its index grew, the other afterwards. Both are shown."""
    shards = [sorted(set(load_index(url).table["shard_url"].to_pylist()))
              for url in (small_world.train_index, small_world.test_index)]  # fmt: skip
    index, runs = str(tmp_path / "index"), []
    for number in (1, 2):
        build_index([each for part in shards[:number] for each in part], index, workers=1)
        config = small_world.run_config(tmp_path, f"run{number}", f"index={index}", "epochs=1")
        runs.append(trained(config).url)
    data = gather(runs, "test", 2, "")
    assert [s.run for s in data.samples] == ["run1", "run1", "run2", "run2"]
    assert not data.dropped
