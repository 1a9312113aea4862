"""When actions happen, found by runs that were trained with annotated intervals, with every tag, and by our method.

    python -m benchmarks.localise [--quick] [--json] [--worlds a,b,d] [--seeds 0,1,2]

Worlds are made, and full, noisy and `best` are trained on them as in benchmarks/regimes.py, with frames decoded once.
Then `adaptfocus localise` scores the test videos of each run through the real pipeline. Runs and scores that are in
--out are not made again.

Figures: localise.map_at_tiou.WORLD.VARIANT, the mean of mAP at temporal IoUs of 0.3, 0.4, 0.5, 0.6 and 0.7 by
ActivityNet's rules, in per cent; .per_frame: mAP over all steps. `low` and `high` are one standard deviation over the
seeds.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/localise.py`

from adaptfocus.infra.running.localisation import run_localisation
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.worlds.config import WorldConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.regimes import Benchmark, numbers, run_benchmark, words
from benchmarks.studies.regime_runs import RunJob
from benchmarks.studies.variants import chosen

NAMES = {"full_faded": "full", "noisy_faded": "noisy", "best": "ours"}  # the same input for all three
EPOCHS = 30


def main(
    worlds: Annotated[str, typer.Option(help="Kinds of worlds, with commas between.")] = "a,b,d",
    seeds: Annotated[str, typer.Option(help="Numbers, with commas between.")] = "0,1,2",
    quick: Annotated[bool, typer.Option(help="World a, one seed, 12 epochs, half the training videos.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    processes: Annotated[int, typer.Option(help="Runs in parallel, of one thread each.", min=1)] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder of worlds and runs; localise-out, or its quick/.")] = None,
) -> None:
    """Measure localisation."""
    epochs = 12 if quick else EPOCHS
    plan = Benchmark(
        out=(out or Path("localise-out", *(["quick"] if quick else []))).resolve(),
        worlds=("a",) if quick else tuple(words("--worlds", worlds)),
        seeds=(0,) if quick else tuple(numbers("--seeds", seeds)),
        variants=chosen(list(NAMES)),
        size=WorldConfig(num_train_videos=120 if quick else 240, num_test_videos=60),
        epochs=epochs, views=10, curve_every=epochs, is_cached=True, quick=quick,
    )  # fmt: skip
    run_benchmark(plan, processes)
    figures.show(localise_all(plan), as_json, "Localisation", "mean -+ one std")


def localise_all(plan: Benchmark) -> list[Figure]:
    """Localise the test videos of every run."""
    found: dict[str, list[float]] = defaultdict(list)
    for job in plan.jobs():
        scores = localised(job, plan.out)
        name = f"localise.map_at_tiou.{job.world}.{NAMES[job.variant]}"
        found[name].append(100 * scores["thumos14_ious"]["average"])
        found[f"{name}.at_0.5"].append(100 * scores["thumos14_ious"]["at_iou"]["0.5"])
        found[f"{name}.activitynet"].append(100 * scores["activitynet"]["average"])
        found[f"{name}.per_frame"].append(100 * scores["per_frame_map"])
    return [figures.mean_and_std(name, values, "%") for name, values in found.items()]


def localised(job: RunJob, out: Path) -> dict:
    """The scores of a run on the test videos of its world."""
    say(f"localising {job.title}")
    place = out / "localised" / f"{job.world}-{job.seed}" / job.variant
    scores = run_localisation(job.config.url, [job.test_index], str(place), tracks=False, engine="local").scores
    assert scores is not None, "worlds have intervals"
    return scores


if __name__ == "__main__":
    try:
        typer.run(main)
    except AdaptFocusError as error:
        say(f"error: {error}")
        sys.exit(2)
