"""Weak-FEAT: how good features of a weakly trained backbone are for three tasks, compared with two references.

    python -m benchmarks.weak_feat [--quick] [--json] [--seeds 0,1,2] [--out FOLDER]

World d has activities, which are actions in an order, and sentences about them. The backbone is trained on it from the
same start once with only video tags and once with annotated intervals; frames are decoded once
(`benchmarks/studies/frame_cache.py`). Both backbones and the start itself give features of all videos. The same small
heads are trained on each (`adaptfocus probe`), and compared seed by seed. Work that is finished in --out is not done
again.

Figures, in per cent: weakfeat.TASK.full, .pretrained, .weak; .weak_over_pretrained, the paired difference; .gap_closed,
the share of the way from pretrained to full that weak covers. `low` and `high` are one standard deviation over seeds
below and above the mean.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/weak_feat.py`

from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.worlds.config import WORLDS, WorldConfig, world_of
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, mean_and_std, say
from benchmarks.regimes import Benchmark, run_benchmark
from benchmarks.studies.regime_runs import make_all, workers
from benchmarks.studies.variants import chosen
from benchmarks.studies.weak_feat_runs import KINDS, make_features, make_probe, probe_file, score_of

WORLD = "d"
# The score that is each task's figure; other scores are in OUT/probes.
METRICS = {"segmentation": "F1@50", "activity": "temporal: mAP", "grounding": "R@1,IoU>=0.5"}


def plan_of(out: Path, seeds: Sequence[int], epochs: int, size: WorldConfig = WORLDS[WORLD]) -> Benchmark:
    """The runs whose backbones give the features."""
    variants = chosen([variant for variant in KINDS.values() if variant])
    return Benchmark(out, (WORLD,), tuple(seeds), variants, size, epochs=epochs, curve_every=epochs, is_cached=True)


def run(plan: Benchmark, processes: int) -> list[Figure]:
    """Make what is missing -> the figures.

    Raises:
        ConfigError: --out holds other worlds or runs. AdaptFocusError: a run or a probe failed.
    """
    run_benchmark(plan, processes)
    worlds = plan.every_world
    missing = [
        (world, kind, task)
        for world in worlds
        for kind in KINDS
        for task in METRICS
        if not probe_file(plan.out, world, kind, task).exists()
    ]
    with workers(processes, plan.out / "logs") as pool:
        of = dict.fromkeys((world, kind) for world, kind, _ in missing)
        make_all({f"features {k}, seed {w.seed}": (make_features, (plan.out, w, k)) for w, k in of}, pool)
        make_all(
            {f"{task} on {k}, seed {w.seed}": (make_probe, (plan.out, w, k, task)) for w, k, task in missing}, pool
        )
    return [figure for task in METRICS for figure in figures_of(plan.out, worlds, task)]


def figures_of(out: Path, worlds: Sequence[WorldConfig], task: str) -> list[Figure]:
    """The figures of one task, from the files of its probes."""
    metric = METRICS[task]
    scores = {kind: [100 * score_of(out, world, kind, task, metric) for world in worlds] for kind in KINDS}
    found = [mean_and_std(f"weakfeat.{task}.{kind}", values, metric) for kind, values in scores.items()]
    pairs = list(zip(scores["full"], scores["pretrained"], scores["weak"], strict=True))
    over = [weak - pretrained for _, pretrained, weak in pairs]
    found.append(mean_and_std(f"weakfeat.{task}.weak_over_pretrained", over, "points"))
    shares = [(weak - pretrained) / (full - pretrained) for full, pretrained, weak in pairs if full > pretrained]
    if len(shares) == len(pairs):
        found.append(mean_and_std(f"weakfeat.{task}.gap_closed", shares, "share"))
    else:
        say(f"weakfeat.{task}: pretrained is not below full on each seed, so there is no gap to close")
    return found


def main(
    seeds: Annotated[str | None, typer.Option(help="Numbers, with commas between; at least three.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of both runs.", min=1)] = 60,
    train_videos: Annotated[int | None, typer.Option(help="The world's own number by default.", min=10)] = None,
    test_videos: Annotated[int | None, typer.Option(help="The world's own number by default.", min=1)] = None,
    processes: Annotated[int, typer.Option(help="Processes in parallel, of one thread each.", min=1)] = 2,
    quick: Annotated[bool, typer.Option(help="One seed: no spread.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of all files; weak-feat-out by default.")] = None,
) -> None:
    """Measure how good features are."""
    words = (seeds or ("0" if quick else "0,1,2")).split(",")
    if not all(word.strip().isdigit() for word in words):
        raise ConfigError(f"--seeds '{seeds}': give whole numbers of at least 0, separated by commas, such as 0,1,2")
    size = world_of(WORLD, num_train_videos=train_videos, num_test_videos=test_videos)
    plan = plan_of((out or Path("weak-feat-out")).resolve(), [int(word) for word in words], epochs, size)
    found: list[Any] = run(plan, processes)
    figures.show(found, as_json, "Weak-FEAT", "mean -+ one std")


if __name__ == "__main__":
    try:
        typer.run(main)
    except AdaptFocusError as error:
        say(f"error: {error}")
        sys.exit(2)
