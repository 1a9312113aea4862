"""A report of real runs: small ones, trained and evaluated here, on real H.264 in real tars."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.infra.report.comparison import comparison_table
from adaptfocus.infra.report.data import RunRow
from adaptfocus.infra.report.gather import DIAGNOSTICS, gather, retries_of
from adaptfocus.infra.report.glossary import CHART_NOTES
from adaptfocus.infra.report.page import render_report
from adaptfocus.infra.running.time_spent import bottleneck_of
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.trainers.evaluation.saved import read_scores, scores_url
from adaptfocus.trainers.runs.measured import RETRIES
from adaptfocus.trainers.runs.preparation import prepare
from tests.infra.report.browser import look_at
from tests.infra.report.real_runs import EPOCHS, NEGATIVES, Compared, rows_of
from tests.secrets import SECRETS, assert_no_secret
from tests.trainers.loop.test_training import broken_copy, trained
from tests.worlds import SmallWorld


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


def test_a_run_of_stretches_says_how_long_they_are(compared: Compared) -> None:
    """Epochs are no passes then, so clips of a video and epoch are no fact."""
    epochs = RunRow("full", "ours", 3, clips_per_video=3), RunRow("stretches", "ours", 3, bags_per_epoch=16)
    told = {row.name: [cell.text for cell in row.cells] for row in comparison_table(epochs)}
    assert told["Bags per epoch"] == ["", "16"]
    assert told["Clips per video and epoch"] == ["3", ""]


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
    assert "An older version wrote these scores and did not record their test videos" in page


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
    spent = data.runs[0].spent
    assert spent is not None
    assert 0 < spent.waiting <= 1
    assert html.escape(f"begun: {bottleneck_of(spent).says}") in page


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
    assert dict(data.ledger)["Clips that did not decode"] == [6, 6]
    ids = list(rows_of(world))
    assert {s.video_id for s in data.samples} == set(ids[2:])
    page = render_report(data)
    for d in lost:
        assert d.kind in page
        assert Path(d.example.split(" ")[0]).name in page


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
