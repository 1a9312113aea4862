"""A report of real runs: small ones, trained and evaluated here, on real H.264 in real tars."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from adaptfocus.infra.report.data import VideoSample
from adaptfocus.infra.report.gather import DIAGNOSTICS, gather, retries_of
from adaptfocus.infra.report.glossary import CHART_NOTES
from adaptfocus.infra.report.page import render_report
from adaptfocus.infra.report.samples import STRIP_FRAMES
from adaptfocus.infra.report.thumbnails import frames_jpeg
from adaptfocus.pipelines.decode.bag import to_square_rgb
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.evaluation.saved import read_scores, scores_url
from adaptfocus.trainers.evaluation.scoring import evaluate, predict_here
from adaptfocus.trainers.loop.scores import RETRIES
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.runs.preparation import prepare
from tests.infra.report.browser import look_at
from tests.secrets import SECRETS, assert_no_secret
from tests.trainers.loop.test_training import broken_copy, trained
from tests.worlds import SmallWorld

EPOCHS = 2
NEGATIVES = "focus.background_weight=2"  # so that every diagnostic has a curve


class Compared(NamedTuple):
    """Noisy and Ours, trained and scored as "test"."""

    noisy: str
    ours: str

    @property
    def urls(self) -> list[str]:
        return [self.noisy, self.ours]


@pytest.fixture(scope="module")
def compared(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    runs, urls = tmp_path_factory.mktemp("runs"), []
    for regime in ("noisy", "ours"):
        config = small_world.run_config(runs, regime, f"focus.regime={regime}", f"epochs={EPOCHS}", NEGATIVES)
        run = trained(config)
        evaluate(run, load_config(run.url), small_world.test_index, 4, "test", predict_here)
        urls.append(run.url)
    return Compared(*urls)


def rows_of(world: SmallWorld) -> dict[str, dict]:
    return {row["video_id"]: row for row in load_index(world.train_index).table.to_pylist()}


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


def test_rows_carry_the_scores_of_the_evaluation(compared: Compared) -> None:
    data = gather(compared.urls, "test", 0, "")
    assert [(row.run, row.regime) for row in data.runs] == [("noisy", "Noisy"), ("ours", "Ours")]
    assert data.title == "ours against noisy", "the names that a user gave"
    for row, url in zip(data.runs, compared.urls, strict=True):
        scores = read_scores(url, "test")
        assert 0 < scores["map_max"] <= 1
        assert (row.map_max, row.map_mean, row.per_time_map) == tuple(
            scores[key] for key in ("map_max", "map_mean", "per_time_map")
        )
        # 16 bags, then 20, of 3 clips (tests/trainers/loop/test_training.py says why)
        assert (row.epochs, row.clips_trained, row.clips_per_video, row.workers) == (EPOCHS, 108, 3, 1)
        assert row.seconds is not None
        assert row.seconds > 0
    assert f"{100 * read_scores(compared.ours, 'test')['map_max']:.1f}" in render_report(data)


def test_an_evaluation_that_was_not_made_leaves_its_scores_open(compared: Compared) -> None:
    data = gather(compared.urls, "validation", 0, "")
    assert [row.map_max for row in data.runs] == [None, None]
    page = render_report(data)
    assert "No verdict: the mAP of ours and noisy is not known." in page
    assert f"adaptfocus evaluate {compared.ours} --index TEST_INDEX" in page


def test_chance_is_the_share_of_a_video_that_its_actions_cover(small_world: SmallWorld, compared: Compared) -> None:
    """A hit rate of 20 % is nothing where actions cover 20 % of their videos."""
    shares = []
    for video in rows_of(small_world).values():
        grid = (np.arange(20_000) + 0.5) / 20_000 * video["duration_seconds"]
        for label in video["labels"]:
            own = [s for s in video["intervals"] if s["label"] == label]
            inside = np.any([(grid >= s["start_seconds"]) & (grid <= s["end_seconds"]) for s in own], axis=0)
            shares.append(inside.mean())
    data = gather(compared.urls, "test", 0, "")
    assert data.runs[0].hit_chance == pytest.approx(np.mean(shares), abs=1e-3)
    lines = [c for c in data.diagnostics if c.run == "random moments"]
    assert [c.ys for c in lines] == [[pytest.approx(100 * np.mean(shares), abs=0.1)] * 2] * 2


def test_every_curve_of_a_run_is_explained_on_the_page(compared: Compared) -> None:
    data = gather(compared.urls, "test", 0, "")
    assert {c.name for c in data.diagnostics} == {name for name, _ in DIAGNOSTICS.values()}
    page = render_report(data).replace("&#39;", "'")
    for curve in (*data.curves, *data.diagnostics):
        assert CHART_NOTES[curve.name.lower()] in page, curve.name


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


def copied(run: str, to: Path, **scores: object) -> str:
    """A copy of a run whose scores say something else; a value of None takes a field away."""
    shutil.copytree(run, to)
    saved = read_scores(run, "test") | scores
    Path(scores_url(str(to), "test")).write_text(json.dumps({k: v for k, v in saved.items() if v is not None}))
    return str(to)


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ({"index_fingerprint": "of another", "videos": 5}, "on different test videos (6 and 5 of them)"),
        ({"index_fingerprint": "of another"}, "on different test videos (6 of them)"),
        ({"views": 20}, "with different views (4 x 1 and 20 x 1 a video)"),
        ({"crops": 3}, "with different views (4 x 1 and 4 x 3 a video)"),
    ],
)
def test_scores_that_were_made_otherwise_are_never_ranked(
    compared: Compared, tmp_path: Path, scores: dict, why: str
) -> None:
    other = copied(compared.ours, tmp_path / "other", **scores)
    page = render_report(gather([compared.noisy, other], "test", 0, ""))
    assert f"No winner is named: the runs were scored {why}." in page
    assert not re.search(r"higher:|lower:| won| did not win|points (more|less)", page)
    command = f"adaptfocus evaluate {other} --index {read_scores(compared.noisy, 'test')['index']} --views"
    assert command in page, "both on the index of the first"
    maps = re.findall(r"mAP, max over views \(%\)</span></th>(.*?)</tr>", page, re.DOTALL)
    assert maps
    assert "best" not in maps[0]


def test_scores_of_an_older_version_are_shown_with_what_they_lack(compared: Compared, tmp_path: Path) -> None:
    fields = ("index", "index_fingerprint", "class_positives", "classes_with_positives", "intervals", "resamples")
    old = [copied(run, tmp_path / name, **dict.fromkeys(fields)) for run, name in zip(compared.urls, "ab", strict=True)]
    for run in old:
        Path(run, "evaluations", "test", "resamples.parquet").unlink()
    data = gather(old, "test", 0, "")
    assert data.runs[0].map_max == read_scores(compared.noisy, "test")["map_max"]
    page = render_report(data)
    assert "No clear winner" in page
    assert "may be chance: no interval is known" in page
    assert "It is not recorded on which test videos these scores were made" in page


def test_an_unfinished_run_says_so_and_waiting_is_told_with_what_to_do(
    small_world: SmallWorld, compared: Compared, tmp_path: Path
) -> None:
    run = copied(compared.ours, tmp_path / "begun")
    config = json.loads(Path(run, "config.json").read_text())
    Path(run, "config.json").write_text(json.dumps(config | {"epochs": 20}))
    data = gather([run], "test", 0, "")
    page = render_report(data)
    assert "2 of 20" in page
    assert "begun is not finished: 2 of 20 epochs." in page
    waiting = data.runs[0].waiting
    assert waiting is not None
    assert 0 < waiting.share <= 1
    assert f"begun: training waited for clips {100 * waiting.share:.0f} % of the time" in page


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


def test_dropped_videos_come_with_their_reason(small_world: SmallWorld, tmp_path: Path) -> None:
    """Two runs lost the same two videos: those are two videos, not four; and none of them is a sample."""
    world, urls = broken_copy(small_world, tmp_path / "broken", 2), []
    for regime in ("noisy", "ours"):
        run = trained(
            world.run_config(tmp_path / "runs", regime, f"focus.regime={regime}", "epochs=2", "max_bad_share=0.5")
        )
        urls.append(run.url)
    data = gather(urls, "test", 50, "")
    lost = [d for d in data.dropped if d.stage == "training"]
    assert sum(d.count for d in lost) == 2
    assert {d.kind for d in lost} <= {"decode_error", "missing_frame"}
    assert all(".tar " in d.example and ".mp4: " in d.example for d in lost)
    assert dict(data.ledger)["Clips that would not decode"] == [6, 6]
    ids = list(rows_of(world))
    assert {s.video_id for s in data.samples} == set(ids[2:])
    page = render_report(data)
    for d in lost:
        assert d.kind in page
        assert Path(d.example.split(" ")[0]).name in page


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


def test_what_the_index_was_made_without_is_told(small_world: SmallWorld, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(small_world.folder / "shards-train", shards)
    with tarfile.open(next(shards.glob("*.tar")), "a") as tar:
        for name, body in (("zz-broken.mp4", b"no video"), ("zz-broken.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    build_index([str(shards)], str(tmp_path / "index"), classes=small_world.config.classes, workers=1)
    run = trained(small_world.run_config(tmp_path, "r", "epochs=1", f"index={tmp_path / 'index'}"))
    told = [d for d in gather([run.url], "test", 1, "").dropped if d.stage == "indexing"]
    assert len(told) == 1
    assert told[0].count == 1
    assert "zz-broken" in told[0].example


def test_an_index_that_changed_since_shows_no_wrong_videos(compared: Compared, tmp_path: Path) -> None:
    """Rows of another index are other videos: their saliency under these names would be a lie."""
    moved = tmp_path / "moved" / "noisy"
    shutil.copytree(compared.noisy, moved)
    facts = json.loads((moved / "index.json").read_text())
    (moved / "index.json").write_text(json.dumps(facts | {"fingerprint": "of another"}))
    data = gather([str(moved), compared.ours], "test", 2, "")
    assert {s.run for s in data.samples} == {"ours"}
    assert [(d.kind, d.count, d.stage) for d in data.dropped] == [("index_changed", 2, "sample videos")]


def test_a_run_without_checkpoint_is_refused(small_world: SmallWorld, tmp_path: Path, compared: Compared) -> None:
    config = small_world.run_config(tmp_path, "begun")
    prepare(config)
    with pytest.raises(InputError, match=r"begun has no checkpoint yet; train it first"):
        gather([compared.noisy, config.url], "test", 1, "")
    with pytest.raises(ConfigError, match=r"nowhere is not a run"):
        gather([str(tmp_path / "nowhere")], "test", 1, "")


def test_runs_of_one_name_are_told_apart_and_one_run_is_not_compared_with_itself(
    compared: Compared, tmp_path: Path
) -> None:
    shutil.copytree(compared.noisy, tmp_path / "elsewhere" / "noisy")
    data = gather([compared.noisy, str(tmp_path / "elsewhere" / "noisy")], "test", 1, "")
    assert data.runs[1].run == "elsewhere/noisy"
    assert data.runs[0].run.endswith("/noisy")
    assert data.runs[0].run != data.runs[1].run
    with pytest.raises(InputError, match=r"is given twice; give each run once"):
        gather([compared.noisy, f"{compared.noisy}/"], "test", 1, "")


def test_variants_of_a_regime_are_no_repeats_of_it(small_world: SmallWorld, compared: Compared, tmp_path: Path) -> None:
    """Ours with another delta averaged into Ours, as if it were another seed, would be a wrong score."""
    seed = trained(small_world.run_config(tmp_path, "seed", "epochs=2", "seed=4", NEGATIVES))
    wide = trained(small_world.run_config(tmp_path, "wide", "epochs=2", "focus.delta=0.3", NEGATIVES))
    regimes = [row.regime for row in gather([compared.ours, seed.url], "test", 0, "").runs]
    assert regimes == ["Ours", "Ours"]
    regimes = [row.regime for row in gather([compared.noisy, compared.ours, wide.url], "test", 0, "").runs]
    assert regimes == ["Noisy", "Ours (focus.delta=0.15)", "Ours (focus.delta=0.3)"]


def test_no_secret_of_the_environment_is_on_the_page(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    page = render_report(gather(compared.urls, "test", 2, "adaptfocus report"))
    assert "ours against noisy" in page
    assert_no_secret(page)


@pytest.mark.chromium
def test_the_page_of_real_runs_fits_a_desktop_and_a_phone(compared: Compared, tmp_path: Path) -> None:
    page = render_report(gather(compared.urls, "test", 2, "adaptfocus report"))
    assert [seen.problems() for seen in look_at(page, tmp_path, "light", "real")] == [[], []]


def test_retries_are_told_for_a_clip_with_their_commonest_reasons() -> None:
    total = dict.fromkeys(RETRIES, 0.0) | {
        "read_retries": 9.0,
        "read_retries_throttled": 6.0,
        "read_retries_reset": 3.0,
    }
    assert retries_of(total, 100) == "0.090 (throttled 0.060, reset 0.030)"
    assert retries_of(dict.fromkeys(RETRIES, 0.0) | {"read_retries": 0.0}, 100) == "0.000"
