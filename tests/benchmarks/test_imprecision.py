"""Annotation as people make it: as imprecise as was asked for, the same every time, and never used for scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.load import load_index, open_index
from adaptfocus.pipelines.worlds.config import WorldConfig
from benchmarks.regimes import Benchmark
from benchmarks.studies.imprecision import Imprecision, perturbed, write_imprecise
from benchmarks.studies.regime_figures import Outcome, figures_of
from benchmarks.studies.variants import GROUPS, VARIANTS, chosen
from tests.worlds import SmallWorld

SHARE = st.floats(0, 1)


def interval(label: str, start: float, end: float) -> dict:
    return {"label": label, "start_seconds": start, "end_seconds": end}


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 99), st.floats(0.1, 60)), max_size=6),
    st.builds(Imprecision, SHARE, SHARE, SHARE, st.floats(0, 3)),
    st.text(max_size=5),
    st.integers(0, 9),
)
def test_what_is_kept_holds_the_truth_and_stays_inside_the_video(
    spans: list[tuple[float, float]], how: Imprecision, video_id: str, seed: int
) -> None:
    true = [interval(str(n), start, min(start + length, 100.0)) for n, (start, length) in enumerate(spans)]
    found = perturbed(true, 100.0, video_id, seed, how)
    assert found == perturbed(true, 100.0, video_id, seed, how)
    for each in found:
        was = true[int(each["label"])]
        length = was["end_seconds"] - was["start_seconds"]
        assert 0 <= each["start_seconds"] <= was["start_seconds"]
        assert was["end_seconds"] <= each["end_seconds"] <= 100
        assert was["start_seconds"] - each["start_seconds"] <= how.most * length + 1e-9
        assert each["end_seconds"] - was["end_seconds"] <= how.most * length + 1e-9
    # None missing: the same ends of the others, and one for each.
    every = perturbed(true, 100.0, video_id, seed, replace(how, missing=0.0))
    assert [each["label"] for each in every] == [each["label"] for each in true]
    assert all(each in every for each in found)


def test_rates_are_those_asked_for() -> None:
    true = [interval("x", 500.0, 510.0)]
    how = Imprecision(early=0.3, late=0.6, missing=0.2, most=0.5)
    found = [perturbed(true, 1000.0, f"v{n}", 0, how) for n in range(3000)]
    kept = [each[0] for each in found if each]
    assert 1 - len(kept) / 3000 == pytest.approx(0.2, abs=0.03)
    assert np.mean([each["start_seconds"] < 500 for each in kept]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([each["end_seconds"] > 510 for each in kept]) == pytest.approx(0.6, abs=0.03)
    assert np.mean([each["end_seconds"] - 510 for each in kept]) == pytest.approx(0.6 * 2.5, abs=0.1)
    # The default's overlap with the truth, by hand: 1/4 + ln 2 / 2 + (3 ln 3 - 4 ln 2) / 4.
    usual = [perturbed(true, 1000.0, f"v{n}", 1, Imprecision(missing=0)) for n in range(3000)]
    overlap = np.mean([10 / (each[0]["end_seconds"] - each[0]["start_seconds"]) for each in usual])
    assert overlap == pytest.approx(0.727, abs=0.02)


def test_an_index_is_annotated_anew_and_the_true_one_left(small_world: SmallWorld, tmp_path: Path) -> None:
    source = Path(small_world.train_index)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    how = Imprecision(missing=0.4)
    write_imprecise(source, tmp_path / "new", 3, how)
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    old, new = load_index(str(source)), load_index(str(tmp_path / "new"))
    assert new.fingerprint != old.fingerprint
    changed = ["labels", "intervals", "packets_url"]
    assert new.table.drop_columns(changed).equals(old.table.drop_columns(changed))
    gone = 0
    for was, now in zip(old.table.to_pylist(), new.table.to_pylist(), strict=True):
        assert now["intervals"] == perturbed(was["intervals"], was["duration_seconds"], was["video_id"], 3, how)
        left = {each["label"] for each in now["intervals"]}
        assert now["labels"] == [label for label in was["labels"] if label in left], "or full would leave it out"
        gone += len(was["labels"]) - len(now["labels"])
    assert gone > 0
    assert open_index(str(tmp_path / "new")).unlabelled == sum(not names for names in new.table["labels"].to_pylist())


def test_only_full_is_trained_on_it(tmp_path: Path) -> None:
    """Tags are compared with it, and scores use the truth."""
    plan = Benchmark(tmp_path, ("a",), (0,), chosen(GROUPS["imprecise"]), WorldConfig())
    true, jobs = str(tmp_path / "worlds/a-0/index/train"), {job.variant: job for job in plan.jobs()}
    imprecise = {name for name, variant in VARIANTS.items() if variant.annotation}
    assert {name for name, job in jobs.items() if job.config.index != true} == imprecise
    assert all(jobs[name].config.focus.regime == "full" for name in imprecise)
    assert all(jobs[name].true_index == true for name in imprecise)
    assert {job.test_index for job in jobs.values()} == {str(tmp_path / "worlds/a-0/index/test")}
    assert len({jobs[name].config.index for name in imprecise}) == 2, "centre and overlap read the same annotation"
    inputs = {job.config.input.model_dump_json() for job in jobs.values()}
    assert len(inputs) == 1, "all see what focused sees"


def test_the_figure_is_focused_minus_full_in_pairs() -> None:
    def outcome(world: str, seed: int, variant: str, score: float) -> Outcome:
        return Outcome(world, seed, variant, score, score, None, None, {30: score}, 30)

    given = [
        outcome("a", 0, "focused", 95), outcome("a", 0, "full_imprecise", 91),
        outcome("a", 1, "focused", 90), outcome("b", 0, "focused", 80), outcome("b", 0, "full_imprecise", 82),
    ]  # fmt: skip
    found = {each.name: (each.value, each.n) for each in figures_of(given, print)}
    assert found["method.imprecise.ours_over_full"] == (1.0, 2)
    assert found["method.a.imprecise.ours_over_full"] == (4.0, 1)


@pytest.mark.parametrize("wrong", [{"early": 1.5}, {"missing": -0.1}, {"late": float("nan")}, {"most": -1.0}])
def test_invalid_shares_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}"):
        Imprecision(**wrong)
