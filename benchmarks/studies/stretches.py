"""Drawn worlds trained by full epochs and by stretches of a quarter of the corpus, with and without priority.

All runs see the same number of clips. Settings that count epochs are converted: four times the warm-up, and the fourth
root of the staleness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.worlds.config import WorldConfig
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure
from benchmarks.regimes import Benchmark, run_benchmark
from benchmarks.studies.regime_figures import Outcome
from benchmarks.studies.variants import MAIN

PARTS = 4  # stretches to a pass
EPOCHS, TRAIN_VIDEOS, TEST_VIDEOS, VIEWS = 30, 240, 60, 10
CLIPS_PER_BAG = 4  # of the recipes
SHARE = 0.3
FULL, PASS, BASE = "full_epochs", "stretches", "noisy"
PRIORITIES = ("stale", "unsure", "rare")


def train_all(
    out: Path, world: str, seeds: Sequence[int], priorities: Sequence[str], epochs: int, processes: int
) -> dict[str, list[Outcome]]:
    """Variant -> the outcome of each seed. Finished runs in `out` are not run again.

    Args:
        priorities: of which a run each is trained, and one of noisy, to which they are compared; there may be none.
    """
    best = MAIN["best"]
    config = make(TrainConfig, recipe(best.recipe), [*best.overrides, "name=one", "runs=runs", "index=index"])
    in_parts = (
        f"plan.bags_per_epoch={TRAIN_VIDEOS // PARTS}",
        f"focus.warmup_epochs={PARTS * config.focus.warmup_epochs}",
        f"saliency.staleness={config.saliency.staleness ** (1 / PARTS):.6f}",
    )
    by_priority = {
        f"{PASS}_{each}": (*in_parts, f"plan.priority_share={SHARE}", f"plan.priority={each}") for each in priorities
    }
    by_pass = {BASE: MAIN["noisy_faded"], FULL: best} if priorities else {FULL: best}
    stretched = {name: replace(best, overrides=(*best.overrides, *more)) for name, more in by_priority.items()}
    stretched = {PASS: replace(best, overrides=(*best.overrides, *in_parts)), **stretched}
    whole = Benchmark(
        out=out.resolve(), worlds=(world,), seeds=tuple(seeds), variants=by_pass, epochs=epochs, views=VIEWS,
        size=WorldConfig(num_train_videos=TRAIN_VIDEOS, num_test_videos=TEST_VIDEOS), curve_every=3, is_cached=True,
    )  # fmt: skip
    parts = replace(whole, variants=stretched, epochs=PARTS * epochs, curve_every=3 * PARTS)
    found = [*run_benchmark(whole, processes), *run_benchmark(parts, processes)]
    return {name: [each for each in found if each.variant == name] for name in (*by_pass, *stretched)}


def figures_of(found: Mapping[str, Sequence[Outcome]], world: str, epochs: int) -> list[Figure]:
    """mAP of each variant, the difference that stretches make, and clips until Noisy's final score."""
    result = [
        figures.mean_and_std(f"stretch.map.{world}.{name}", [each.map_max for each in runs], "%")
        for name, runs in found.items()
    ]
    more = [a.map_max - b.map_max for a, b in zip(found[PASS], found[FULL], strict=True)]
    result.append(figures.mean_and_std(f"stretch.map.{world}.minus_full_epochs", more, "%"))
    for name, runs in found.items():
        if BASE in found and name != BASE:
            shares = [share_until(own, base.map_max) for own, base in zip(runs, found[BASE], strict=True)]
            clips = [share * epochs * TRAIN_VIDEOS * CLIPS_PER_BAG for share in shares]
            result.append(figures.mean_and_std(f"stretch.clips_to_noisy.{name}", clips, "clips"))
    return result


def share_until(run: Outcome, goal: float) -> float:
    """The share of the training after which a run has reached a score; 1 if it never does."""
    done = [0, *sorted(run.curve)]
    scores = [0.0, *(run.curve[each] for each in done[1:])]
    for (before, low), (after, high) in zip(
        zip(done, scores, strict=True), zip(done[1:], scores[1:], strict=True), strict=False
    ):
        if high >= goal:
            return float(np.interp(goal, [low, high], [before, after])) / run.epochs
    return 1.0
