"""Weak-FEAT's benchmark: like compared with like, nothing made twice, figures that say what their names say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.features.store import open_features
from adaptfocus.pipelines.worlds.config import world_of
from adaptfocus.trainers.pretraining.training import pretrain
from adaptfocus.trainers.runs.open import load_config
from benchmarks.studies.regime_worlds import start_url
from benchmarks.studies.variants import VARIANTS
from benchmarks.studies.weak_feat_runs import KINDS, features_url, probe_file
from benchmarks.weak_feat import METRICS, figures_of, main, plan_of, run

WORLDS = [world_of("d", seed=seed) for seed in (0, 1)]


def hand_made(out: Path, scores: dict[str, tuple[float, float]], task: str) -> None:
    for kind, values in scores.items():
        for world, value in zip(WORLDS, values, strict=True):
            file = probe_file(out, world, kind, task)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"metrics": {METRICS[task]: {"mean": value}}}))


def test_figures_are_what_their_names_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hand_made(tmp_path, {"full": (0.9, 0.8), "pretrained": (0.5, 0.6), "weak": (0.8, 0.7)}, "activity")
    found = {figure.name: figure for figure in figures_of(tmp_path, WORLDS, "activity")}
    assert {name: pytest.approx(figure.value) for name, figure in found.items()} == {
        "weakfeat.activity.full": 85,
        "weakfeat.activity.pretrained": 55,
        "weakfeat.activity.weak": 75,
        "weakfeat.activity.weak_over_pretrained": 20,  # of pairs: 30 and 10
        "weakfeat.activity.gap_closed": (0.75 + 0.5) / 2,
    }
    over = found["weakfeat.activity.weak_over_pretrained"]
    assert (over.high - over.value, over.n) == (pytest.approx(20 / 2**0.5), 2)
    hand_made(tmp_path, {"full": (0.9, 0.5), "pretrained": (0.5, 0.5), "weak": (0.8, 0.7)}, "activity")
    assert "weakfeat.activity.gap_closed" not in {figure.name for figure in figures_of(tmp_path, WORLDS, "activity")}
    assert "no gap to close" in capsys.readouterr().err


def test_full_and_weak_only_differ_in_their_labels() -> None:
    full, weak = (VARIANTS[KINDS[kind] or ""] for kind in ("full", "weak"))
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
    world = plan.every_world[0]
    sets = {kind: open_features(features_url(tmp_path, world, kind, "test")) for kind in KINDS}
    assert {kind: (each.dim, len(each)) for kind, each in sets.items()} == dict.fromkeys(KINDS, (32, 5))
    assert [sets[kind].facts["epoch"] for kind in KINDS] == [1, None, 1], "the last checkpoints, and the start"
    assert sets["pretrained"].facts["motion"] == "rgb"
    assert load_config(sets["weak"].facts["run"]).focus.regime == "ours"
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and "logs" not in path.parts
    }
    assert run(plan, processes=2) == found
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--seeds '0,x': give whole numbers"):
        main(seeds="0,x", out=tmp_path)
