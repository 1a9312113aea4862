"""Turns the scores of finished runs into figures: means over seeds, paired differences, curves.

Runs that share a seed are paired. Scores are in per cent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from adaptfocus.infra.report.gather import read_scores
from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.trainers.diagnosis.summary import salient_hit_rate
from adaptfocus.trainers.runs.log import SUMMARY, Run
from adaptfocus.trainers.runs.snapshots import read_saliency
from benchmarks.measuring.figures import Figure, mean_and_std
from benchmarks.studies.regime_runs import FINAL, RunJob
from benchmarks.studies.variants import LIKE_FOR_LIKE, REFERENCE

BASELINES = ("noisy", "ours", REFERENCE)  # the others are compared with these, seed by seed


@dataclass(frozen=True)
class Outcome:
    """The scores of one run in per cent; None where there is no truth to compare with."""

    world: str
    seed: int
    variant: str
    map_max: float
    map_mean: float
    per_time_map: float | None
    hit_rate: float | None  # of the salient times after the last epoch
    curve: dict[int, float]  # epochs done -> mAP, max over views
    epochs: int


@dataclass(frozen=True)
class Spread:
    """A mean and a standard deviation (n - 1; 0 for one value) over n seeds."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values))


@dataclass(frozen=True)
class Row:
    """A variant on one world."""

    variant: str
    map_max: Spread
    map_mean: Spread
    per_time_map: Spread | None
    hit_rate: Spread | None
    over: dict[str, Spread]  # baseline -> paired differences of mAP-max; only where seeds are shared


def outcome_of(job: RunJob) -> Outcome:
    """The scores of a finished job."""
    scores = {done: read_scores(job.config.url, job.evaluation(done)) for done in job.curve}
    final = read_scores(job.config.url, FINAL)
    summary = json.loads(store.read_bytes(Run(job.config.url).epoch_url(job.config.epochs - 1, SUMMARY)))
    return Outcome(
        world=job.world,
        seed=job.seed,
        variant=job.variant,
        map_max=100 * final["map_max"],
        map_mean=100 * final["map_mean"],
        per_time_map=_percent(final["per_time_map"]),
        hit_rate=_percent(_true_hit_rate(job) if job.true_index else summary["hit_rate"]),
        curve={done: 100 * each["map_max"] for done, each in scores.items()},
        epochs=job.config.epochs,
    )


def _true_hit_rate(job: RunJob) -> float | None:
    """The hit rate of the last epoch's salient times in the true intervals; the run itself may know imprecise ones."""
    assert job.true_index
    index = load_index(job.true_index, ["video_id", "labels", "intervals", "duration_seconds"])
    saliency = read_saliency(Run(job.config.url), job.config.epochs)
    planner = Planner.of(index.table, index.classes)
    return salient_hit_rate(planner, saliency, job.config.epochs - 1, job.config.saliency.staleness)


def rows_of(outcomes: Sequence[Outcome], world: str) -> list[Row]:
    """The table of a world: its variants in the order in which they come."""
    by_variant = _by_variant(outcomes, world)
    rows = []
    for variant, seeds in by_variant.items():
        over = {}
        for baseline in BASELINES:
            pairs = _paired(by_variant, variant, baseline) if baseline != variant else []
            if pairs:
                over[baseline] = Spread.of([own.map_max - other.map_max for own, other in pairs])
        runs = list(seeds.values())
        rows.append(
            Row(
                variant,
                Spread.of([run.map_max for run in runs]),
                Spread.of([run.map_mean for run in runs]),
                _known([run.per_time_map for run in runs]),
                _known([run.hit_rate for run in runs]),
                over,
            )
        )
    return rows


def figures_of(outcomes: Sequence[Outcome], say: Callable[[str], None]) -> list[Figure]:
    """The figures `method.WORLD.*`. `say` is told which figures cannot be computed, and why."""
    found: list[Figure] = []
    for world in dict.fromkeys(each.world for each in outcomes):
        by_variant = _by_variant(outcomes, world)
        for variant, seeds in by_variant.items():
            values = [run.map_max for run in seeds.values()]
            found.append(mean_and_std(f"method.{world}.{variant}", values, "mAP"))
        for name, trio in LIKE_FOR_LIKE.items():
            closed = share_of_gap(outcomes, world, *trio)
            if closed:
                found.append(mean_and_std(f"method.{world}.{name}", closed, "share"))
        shares = [
            weak.per_time_map / full.per_time_map
            for weak, full in _paired(by_variant, "best", "full_faded")
            if weak.per_time_map is not None and full.per_time_map
        ]
        if shares:
            found.append(mean_and_std(f"method.{world}.per_time_of_full", shares, "share"))
        hits = [run.hit_rate / 100 for run in by_variant.get(REFERENCE, {}).values() if run.hit_rate is not None]
        if hits:
            found.append(mean_and_std(f"method.{world}.hit_rate", hits, "share"))
        budgets = [budget_to_reach(noisy.map_max, best) for best, noisy in _paired(by_variant, "best", "noisy")]
        reached = [share for share in budgets if share is not None]
        if budgets and len(reached) == len(budgets):
            found.append(mean_and_std(f"method.{world}.budget_to_noisy", reached, "share"))
        elif budgets:
            never = len(budgets) - len(reached)
            say(f"method.{world}.budget_to_noisy: best never reaches noisy's score on {never} of {len(budgets)} seeds")
    return found + _over_imprecise(outcomes)


def _over_imprecise(outcomes: Sequence[Outcome]) -> list[Figure]:
    """The lead of tags over imprecise intervals: `focused` minus `full_imprecise`, by world and over all pairs."""
    every: list[float] = []
    found = []
    for world in dict.fromkeys(each.world for each in outcomes):
        pairs = _paired(_by_variant(outcomes, world), "focused", "full_imprecise")
        ahead = [weak.map_max - full.map_max for weak, full in pairs]
        if ahead:
            found.append(mean_and_std(f"method.{world}.imprecise.ours_over_full", ahead, "mAP"))
        every += ahead
    return [*found, mean_and_std("method.imprecise.ours_over_full", every, "mAP")] if every else []


def share_of_gap(outcomes: Sequence[Outcome], world: str, weak: str, noisy: str, full: str) -> list[float]:
    """The share of the way from noisy to full that a variant covers, by seed; none where full is not above noisy."""
    return [
        (own.map_max - below.map_max) / (above.map_max - below.map_max)
        for own, below, above in _paired(_by_variant(outcomes, world), weak, noisy, full)
        if above.map_max > below.map_max
    ]


def budget_to_reach(score: float, run: Outcome) -> float | None:
    """The share of a run's epochs after which it first reaches a score, among the epochs that were scored."""
    return next((done / run.epochs for done, value in sorted(run.curve.items()) if value >= score), None)


def curves_of(outcomes: Sequence[Outcome], world: str) -> dict[str, dict]:
    """Variant -> {"epochs": [...], "mean": [...], "std": [...], "seeds": {seed: [...]}}, mAP-max in per cent."""
    curves = {}
    for variant, seeds in _by_variant(outcomes, world).items():
        epochs = sorted(set.intersection(*(set(run.curve) for run in seeds.values())))
        spreads = [Spread.of([run.curve[done] for run in seeds.values()]) for done in epochs]
        curves[variant] = {
            "epochs": epochs,
            "mean": [each.mean for each in spreads],
            "std": [each.std for each in spreads],
            "seeds": {str(seed): [run.curve[done] for done in epochs] for seed, run in seeds.items()},
        }
    return curves


def _by_variant(outcomes: Sequence[Outcome], world: str) -> dict[str, dict[int, Outcome]]:
    found: dict[str, dict[int, Outcome]] = {}
    for each in outcomes:
        if each.world == world:
            found.setdefault(each.variant, {})[each.seed] = each
    return found


def _paired(by_variant: dict[str, dict[int, Outcome]], *variants: str) -> list[tuple[Outcome, ...]]:
    """The runs of some variants, seed by seed, for the seeds that all of them have."""
    runs = [by_variant.get(variant, {}) for variant in variants]
    return [tuple(each[seed] for each in runs) for seed in runs[0] if all(seed in each for each in runs)]


def _known(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if len(known) == len(values) else None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
