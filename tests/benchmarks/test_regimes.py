"""The regimes' benchmark: honest pairs, nothing run twice, figures that say what their names say."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.settings import differences, make
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.worlds.video import WorldConfig
from adaptfocus.trainers.pretraining.training import pretrain
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring.figures import show
from benchmarks.regimes import Benchmark, _what_is_measured, main, run_benchmark, write_files
from benchmarks.studies import regime_report
from benchmarks.studies.imprecision import Imprecision
from benchmarks.studies.regime_figures import Outcome, figures_of, outcome_of, rows_of
from benchmarks.studies.regime_worlds import (
    annotated_url,
    has_annotations,
    is_made,
    make_world,
    make_world_and_annotations,
    start_url,
)
from benchmarks.studies.variants import ABLATIONS, LIKE_FOR_LIKE, MAIN, PAST, REFERENCE, VARIANTS, Variant, chosen

TINY = WorldConfig(num_train_videos=20, num_test_videos=6, min_seconds=20, max_seconds=30, num_sprites=3)
RUNS = {name: VARIANTS[name] for name in ("noisy", REFERENCE)}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """A tiny benchmark whose start is hardly trained, so that it takes seconds."""
    made = Benchmark(
        out=tmp_path_factory.mktemp("bench"), worlds=("a",), seeds=(1,), variants=RUNS, size=TINY, epochs=3, views=3,
        curve_every=2, overrides=("focus.warmup_epochs=1",),
    )  # fmt: skip
    pretrain(start_url(made.out, 1), seed=1, steps=2)
    return made


@pytest.fixture(scope="module")
def outcomes(plan: Benchmark) -> list[Outcome]:
    """Through the real pipeline. A run that fails is reported, and the others still finish."""
    broken = replace(plan, variants=RUNS | {"broken": Variant("no start", "noisy", ("backbone=r2plus1d_tiny",))})
    with pytest.raises(AdaptFocusError, match=r"1 of 3 runs failed; .* a, seed 1, broken: the weights at"):
        run_benchmark(broken, processes=2)
    return run_benchmark(plan, processes=2)


def files_of(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_is_finished_is_not_run_again(plan: Benchmark, outcomes: list[Outcome]) -> None:
    """A benchmark of hours can be stopped. A lost score only costs its scoring, and no training."""
    before = files_of(plan.out / "runs")
    assert run_benchmark(plan, processes=2) == outcomes
    assert files_of(plan.out / "runs") == before
    lost = plan.out / "runs" / "a-1" / "noisy" / "evaluations" / "after-02" / "scores.json"
    lost.unlink()
    assert run_benchmark(plan, processes=1) == outcomes
    changed = {path for path, when in files_of(plan.out / "runs").items() if before.get(path) != when}
    assert str(lost) in changed
    assert all("/noisy/evaluations/" in path for path in changed), "nothing was trained"


def test_variants_of_a_seed_are_pairs(plan: Benchmark, outcomes: list[Outcome]) -> None:
    """The same videos, draws and start: runs that are compared differ only in the variant."""
    drawn = {}
    for job in plan.jobs():
        facts = read_plan(Run(job.config.url).epoch_url(0, "plan"))
        assert facts is not None
        rows = read_table(next(facts.slices(0))[0], PLAN_SCHEMA)
        drawn[job.variant] = rows.select(["video_id", "clips"]).to_pylist()
        assert (job.config.seed, job.config.weights) == (1, start_url(plan.out, 1))
    assert drawn["noisy"] == drawn[REFERENCE]
    assert [sorted(each.curve) for each in outcomes] == [[2, 3]] * 2
    assert all(each.curve[3] == each.map_max for each in outcomes)
    assert all(0 <= (each.hit_rate or 0) <= 100 for each in outcomes)
    # Where the run's own intervals are imprecise, the true ones judge. Here both are the same.
    judged = [outcome_of(replace(job, true_index=job.config.index)) for job in plan.jobs()]
    assert judged == outcomes


def test_cached_frames_give_the_same_scores(plan: Benchmark, outcomes: list[Outcome]) -> None:
    assert run_benchmark(replace(plan, is_cached=True), processes=1) == outcomes
    assert len(list((plan.out / "frames" / "a-1").iterdir())) == 2


def test_other_settings_in_the_same_folder_are_refused(plan: Benchmark, outcomes: list[Outcome]) -> None:
    """A table of runs that were made under different settings would look like any other."""
    for change, message in (
        ({"overrides": ("focus.warmup_epochs=2",)}, r"other settings \(focus.warmup_epochs: 1 -> 2\); choose another"),
        ({"views": 4}, r"scored with 3 views a video, not 4; choose another"),
        ({"size": replace(TINY, num_test_videos=7)}, r"another world \(num_test_videos: 6 -> 7\); choose another"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_benchmark(replace(plan, **change), processes=1)


def test_a_world_that_was_begun_is_made_anew(tmp_path: Path) -> None:
    """A process was killed before the end. Its files would make the next one fail, or be half a world."""
    world, folder = replace(TINY, num_train_videos=2, num_test_videos=1), tmp_path / "worlds" / "a-0"
    make_world(tmp_path, world)
    tars = {*folder.rglob("*.tar")}
    assert len(tars) == 2
    (folder / "world.json").unlink()
    left = folder / "shards" / "train" / "left-behind.tar"
    left.write_bytes(b"half a tar")
    assert not is_made(tmp_path, world)
    make_world(tmp_path, world)
    assert is_made(tmp_path, world)
    assert {*folder.rglob("*.tar")} == tars
    # An annotation that is asked for later is added, and the world stays.
    how, written = Imprecision(missing=1.0), files_of(folder)
    assert not has_annotations(tmp_path, world, [how])
    make_world_and_annotations(tmp_path, world, [how])
    assert has_annotations(tmp_path, world, [how])
    assert load_index(annotated_url(tmp_path, world, how)).table["labels"].to_pylist() == [[], []]
    assert written.items() <= files_of(folder).items()


def outcome(variant: str, seed: int, score: float, curve: dict[int, float] | None = None) -> Outcome:
    return Outcome("a", seed, variant, score, score - 5, score / 2, 10 * seed + 60, curve or {30: score}, 30)


HAND_MADE = [
    outcome("noisy", 0, 40), outcome("noisy", 1, 50),
    outcome("ours", 0, 55), outcome("ours", 1, 75), outcome("ours", 2, 90),
    outcome(REFERENCE, 0, 62), outcome(REFERENCE, 1, 66),
    outcome("best", 0, 70, {3: 20, 6: 40, 9: 60, 30: 70}), outcome("best", 1, 80, {3: 30, 6: 49.9, 9: 70, 30: 80}),
    outcome("full", 0, 90), outcome("full", 1, 90),
    outcome("noisy_faded", 0, 45), outcome("noisy_faded", 1, 60),
    outcome("full_faded", 0, 95), outcome("full_faded", 1, 85),
]  # fmt: skip


def test_figures_are_what_their_names_say(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    show(figures_of(HAND_MADE, said.append), as_json=True, title="")
    found = {line["name"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    noisy = found["method.a.noisy"]
    # the standard deviation of 40 and 50 is 7.07 with n - 1
    assert [noisy[key] for key in ("value", "unit", "low", "high", "n")] == [45.0, "mAP", 37.92893, 52.07107, 2]
    # against what has the same fading: (70 - 45) / (95 - 45) = .5 and (80 - 60) / (85 - 60) = .8
    assert found["method.a.gap_closed"]["value"] == pytest.approx(0.65)
    # per-time mAP is half of the other here: 35 / 47.5 and 40 / 42.5
    assert found["method.a.per_time_of_full"]["value"] == pytest.approx((70 / 95 + 80 / 85) / 2)
    assert found["method.a.hit_rate"]["value"] == pytest.approx(0.65)
    # 40 is reached after 6 epochs of 30, 50 after 9
    assert found["method.a.budget_to_noisy"]["value"] == pytest.approx((6 + 9) / 30 / 2)
    assert said == []


def test_a_score_that_is_never_reached_has_no_budget() -> None:
    said: list[str] = []
    never = [each for each in HAND_MADE if (each.variant, each.seed) != ("best", 0)] + [outcome("best", 0, 39)]
    assert "method.a.budget_to_noisy" not in {figure.name for figure in figures_of(never, said.append)}
    assert said == ["method.a.budget_to_noisy: best never reaches noisy's score on 1 of 2 seeds"]


def test_differences_are_of_pairs() -> None:
    """Seed 2 has only `ours`, and is in its mean, but in no difference."""
    rows = {row.variant: row for row in rows_of(HAND_MADE, "a")}
    assert (rows["ours"].map_max.mean, rows["ours"].map_max.n) == (pytest.approx(220 / 3), 3)
    over = rows["ours"].over["noisy"]
    assert (over.mean, over.n) == (20.0, 2)  # 15 and 25
    assert over.std == pytest.approx(50**0.5)
    assert "noisy" not in rows["noisy"].over


def test_the_page_and_its_chart_have_every_variant(plan: Benchmark, outcomes: list[Outcome], tmp_path: Path) -> None:
    found = figures_of(outcomes, lambda _: None)
    write_files(plan, outcomes, found, tmp_path / "docs" / "results.md")
    page = (tmp_path / "docs" / "results.md").read_text()
    for each in outcomes:
        assert f"| `{each.variant}`: {VARIANTS[each.variant].what} | {each.map_max:.1f} ± 0.0 |" in page
    assert "(images/regimes-a.svg)" in page
    assert (tmp_path / "docs" / "images" / "regimes-a.svg").exists()
    curves = json.loads((plan.out / "curves.json").read_text())["a"]["noisy"]
    assert curves["epochs"] == [2, 3]
    assert curves["mean"] == curves["seeds"]["1"]


def test_the_page_names_the_command_without_places_of_one_machine() -> None:
    given = ["--quick", "--out", "/data/x", "--json", "--markdown=/data/y.md", "--set", "epochs=3", "--seeds=0,1"]
    assert _what_is_measured(given) == ["--quick", "--set", "epochs=3", "--seeds=0,1"]


def test_a_chart_draws_means_and_seeds() -> None:
    drawing = ElementTree.fromstring(regime_report.chart(HAND_MADE, "a"))
    lines = [e for e in drawing.iter() if e.tag.endswith("polyline")]
    assert len(lines) == len({each.variant for each in HAND_MADE}) + len(HAND_MADE)
    text = "".join(drawing.itertext())
    assert "full: 90.0 ± 0.0" in text
    assert "best: 75.0 ± 7.1" in text


def config_of(variant: Variant) -> dict:
    given = ["name=x", "runs=/r", "index=/i"]
    return make(TrainConfig, recipe(variant.recipe), [*variant.overrides, *given]).what_is_trained()


@pytest.mark.parametrize("name", [name for name, each in ABLATIONS.items() if each.recipe == "ours_resampled"])
def test_an_ablation_changes_what_it_names_and_nothing_else(name: str) -> None:
    changed = differences(config_of(VARIANTS[REFERENCE]), config_of(VARIANTS[name]))
    assert set(changed) == {override.split("=")[0] for override in VARIANTS[name].overrides}


@pytest.mark.parametrize("name", PAST)
def test_what_was_tried_past_the_paper_changes_one_thing_of_best(name: str) -> None:
    changed = differences(config_of(VARIANTS["best"]), config_of(VARIANTS[name]))
    assert [*changed] == [override.split("=")[0] for override in VARIANTS[name].overrides]


def test_every_gap_is_explained_on_the_page() -> None:
    assert set(LIKE_FOR_LIKE) <= set(regime_report.MEANINGS)


def test_variants_only_differ_in_what_they_say() -> None:
    may = {"focus.regime", "plan.resample", "focus.noisy_or", "focus.background_weight", "input.fade_background"}
    for name in MAIN:
        changed = differences(config_of(VARIANTS["noisy"]), config_of(VARIANTS[name]))
        assert set(changed) <= may


@pytest.mark.parametrize("trio", LIKE_FOR_LIKE.values())
def test_a_gap_is_measured_between_variants_with_the_same_input_and_steps(trio: tuple[str, str, str]) -> None:
    alike = [
        (config["input"], config["optim"], config["plan"]["bags_per_batch"], config["plan"]["clips_per_bag"])
        for config in (config_of(VARIANTS[name]) for name in trio)
    ]
    assert alike[0] == alike[1] == alike[2]


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no variant 'nosy'; did you mean 'noisy'\?"):
        chosen(["full", "nosy"])
    assert list(chosen(["best", "noisy"])) == ["noisy", "best"], "in the order of the table"
    with pytest.raises(ConfigError, match="come from the real pipeline: leave --cached"):
        main(cached=True, markdown=tmp_path / "results.md")
    with pytest.raises(ConfigError, match="'x' is not a seed"):
        main(seeds="0,x", out=tmp_path)
    with pytest.raises(ConfigError, match="--worlds ',' names nothing"):
        main(worlds=",", out=tmp_path)
    with pytest.raises(ConfigError, match="world kind 'z' is not known"):
        main(worlds="z", out=tmp_path)
