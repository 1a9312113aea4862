"""Weak-FEAT's benchmark: like compared with like, nothing made twice, figures that say what their names say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adaptfocus.pipelines.annotations.tasks import read_grounding, read_segmentation
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.features.store import open_features
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.worlds.config import world_of
from adaptfocus.trainers.pretraining.training import pretrain
from adaptfocus.trainers.runs.open import load_config
from benchmarks.studies.people_videos import Corpus
from benchmarks.studies.regime_worlds import start_url
from benchmarks.studies.variants import VARIANTS
from benchmarks.studies.weak_feat_people import TASKS, TEMPLATES
from benchmarks.studies.weak_feat_runs import KINDS, Material
from benchmarks.weak_feat import FULL, METRICS, WEAK, figures_of, main, plan_of, run, run_people, study_of


def hand_made(out: Path, scores: dict[str, tuple[float, float]], task: str) -> list[Material]:
    """Two seeds with the finished probes of a task."""
    materials = [Material(out, f"d-{seed}", seed, {}, "", "", "") for seed in (0, 1)]
    for kind, values in scores.items():
        for each, value in zip(materials, values, strict=True):
            file = each.probe_file(kind, task)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"metrics": {METRICS[task]: {"mean": value}}}))
    return materials


def test_figures_are_what_their_names_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = hand_made(tmp_path, {"full": (0.9, 0.8), "pretrained": (0.5, 0.6), "weak": (0.8, 0.7)}, "activity")
    found = {figure.name: figure for figure in figures_of(seeds, "activity", "weakfeat")}
    assert {name: pytest.approx(figure.value) for name, figure in found.items()} == {
        "weakfeat.activity.full": 85,
        "weakfeat.activity.pretrained": 55,
        "weakfeat.activity.weak": 75,
        "weakfeat.activity.weak_over_pretrained": 20,  # of pairs: 30 and 10
        "weakfeat.activity.gap_closed": (0.75 + 0.5) / 2,
    }
    over = found["weakfeat.activity.weak_over_pretrained"]
    assert (over.high - over.value, over.n) == (pytest.approx(20 / 2**0.5), 2)
    seeds = hand_made(tmp_path, {"full": (0.9, 0.5), "pretrained": (0.5, 0.5), "weak": (0.8, 0.7)}, "activity")
    assert not any("gap_closed" in figure.name for figure in figures_of(seeds, "activity", "weakfeat"))
    assert "no gap to close" in capsys.readouterr().err


def test_full_and_weak_only_differ_in_their_labels() -> None:
    full, weak = VARIANTS[FULL], VARIANTS[WEAK]
    assert (full.recipe, weak.recipe) == ("full", "best")
    assert set(weak.overrides) < set(full.overrides), "the same input and batches"


@pytest.mark.slow
def test_from_a_world_to_figures(tmp_path: Path) -> None:
    """Through the real pipeline, tiny; what is finished is not made again."""
    size = world_of("d", num_train_videos=12, num_test_videos=5, min_seconds=20, max_seconds=30)
    plan = plan_of(tmp_path, [3], epochs=2, size=size)
    pretrain(start_url(tmp_path, 3), seed=3, steps=2)
    found = run(plan, processes=2)
    assert {f"weakfeat.{task}.{kind}" for task in METRICS for kind in KINDS} <= {figure.name for figure in found}
    assert all(0 <= figure.value <= 100 for figure in found if figure.unit in METRICS.values())
    sets = {kind: open_features(str(tmp_path / "features" / "d-3" / kind / "test")) for kind in KINDS}
    assert {kind: (each.dim, len(each)) for kind, each in sets.items()} == dict.fromkeys(KINDS, (32, 5))
    assert [sets[kind].facts["epoch"] for kind in KINDS] == [1, None, 1], "the last checkpoints, and the start"
    assert sets["pretrained"].facts["motion"] == "rgb"
    assert load_config(sets["weak"].facts["run"]).focus.regime == "ours"
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and "logs" not in path.parts
    }
    assert run(plan, processes=2) == found
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_from_clips_of_people_to_figures(corpus: Corpus, tmp_path: Path) -> None:
    """The tasks' files say what the index says; features come from the start and from two runs that began with it."""
    study = replace(study_of(tmp_path, [corpus], [3], epochs=1), start_epochs=1)
    found = run_people(study, processes=1)
    names = {f"weakfeat.people.small.{task}.{kind}" for task in TASKS for kind in KINDS}
    assert names <= {figure.name for figure in found}
    assert not any("activity" in figure.name for figure in found)
    sets = {kind: open_features(str(tmp_path / "features" / "small-3" / kind / "test")) for kind in KINDS}
    start = str(next((tmp_path / "starts").glob("*.pt")))
    assert [sets[kind].facts["weights"] for kind in KINDS] == [None, start, None]
    assert [load_config(sets[kind].facts["run"]).weights for kind in KINDS] == [start] * 3
    assert {each.facts["motion"] for each in sets.values()} == {"zero_mean_kernels"}, "also of the start"
    videos = load_index(str(tmp_path / "corpora" / "small-3" / "index" / "test")).table.to_pylist()
    actions = {
        (video["video_id"], round(each["start_seconds"], 6)): (round(each["end_seconds"], 6), each["label"])
        for video in videos
        for each in video["intervals"]
    }
    files = tmp_path / "annotations" / "small-3"
    test = [video for video in read_segmentation(str(files / "segmentation.jsonl")) if video.split == "test"]
    shown = {(v.video_id, at): (end, label) for v in test for at, end, label in v.segments if label != "background"}
    assert shown == actions
    moments = [moment for moment in read_grounding(str(files / "grounding.jsonl")) if moment.split == "test"]
    assert len(moments) == len(actions)
    for moment in moments:
        end, label = actions[moment.video_id, moment.start_seconds]
        assert moment.end_seconds == end
        assert moment.sentence in {template.format(label) for template in TEMPLATES}
    assert run_people(study, processes=1) == found


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--seeds '0,x': give whole numbers"):
        main(seeds="0,x", out=tmp_path)
