"""Weak-FEAT: how good features of a weakly trained backbone are for a few tasks, compared with two references.

    python -m benchmarks.weak_feat [--quick] [--json] [--seeds 0,1,2] [--out FOLDER]
    python -m benchmarks.weak_feat --source FOLDER [--hold-out PERSON,...] [--background CLASS,...] [--quick]
    python -m benchmarks.weak_feat --corpora FILE.json [--seeds 0,1,2] [--json]

World d has activities, which are actions in an order, and sentences about them. With --corpora or --source, the videos
are those of `benchmarks/people.py`: real people, with sentences from templates, and without activities. The backbone is
trained from the same start once with only video tags and once with annotated intervals; frames are decoded once
(`benchmarks/studies/frame_cache.py`). Both backbones and the start itself give features of all videos. The same small
heads are trained on each (`adaptfocus probe`), and compared seed by seed. Work that is finished in --out is not done
again.

Figures, in per cent: weakfeat.TASK.full, .pretrained, .weak; .weak_over_pretrained, the paired difference; .gap_closed,
the share of the way from pretrained to full that weak covers. Those of people are weakfeat.people.CORPUS.TASK... `low`
and `high` are one standard deviation over seeds below and above the mean.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/weak_feat.py`

from adaptfocus.pipelines.annotations.tasks import ANNOTATIONS
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.worlds.config import SPLITS, WORLDS, WorldConfig, world_of
from adaptfocus.trainers.settings.parts import InputConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, mean_and_std, say
from benchmarks.people import Study, given_corpora, run_study
from benchmarks.regimes import Benchmark, run_benchmark
from benchmarks.studies import weak_feat_people
from benchmarks.studies.people_videos import Corpus
from benchmarks.studies.regime_worlds import index_url, world_folder, world_name
from benchmarks.studies.variants import chosen
from benchmarks.studies.weak_feat_runs import KINDS, Material, make_probes

WORLD = "d"
FULL, WEAK = "full_moving", "best_moving"  # of `variants.py`: the same input, schedule and clips
# The score that is each task's figure; other scores are in OUT/probes.
METRICS = {"segmentation": "F1@50", "activity": "temporal: mAP", "grounding": "R@1,IoU>=0.5"}


def plan_of(out: Path, seeds: Sequence[int], epochs: int, size: WorldConfig = WORLDS[WORLD]) -> Benchmark:
    """The runs on world d whose backbones give the features."""
    variants = chosen([FULL, WEAK])
    return Benchmark(out, (WORLD,), tuple(seeds), variants, size, epochs=epochs, curve_every=epochs, is_cached=True)


def run(plan: Benchmark, processes: int) -> list[Figure]:
    """Make what is missing -> the figures of world d.

    Raises:
        ConfigError: --out holds other worlds or runs. AdaptFocusError: a run or a probe failed.
    """
    run_benchmark(plan, processes)
    runs = {(job.seed, job.variant): job.config.url for job in plan.jobs()}
    materials = [
        Material(
            plan.out,
            world_name(world),
            world.seed,
            {split: index_url(plan.out, world, split) for split in SPLITS},
            str(world_folder(plan.out, world) / ANNOTATIONS),
            runs[world.seed, FULL],
            runs[world.seed, WEAK],
            start_input=InputConfig(),  # the start was trained on plain clips
        )
        for world in plan.every_world
    ]
    make_probes(materials, tuple(METRICS), plan.out, processes)
    return [figure for task in METRICS for figure in figures_of(materials, task, "weakfeat")]


def study_of(out: Path, corpora: Sequence[Corpus], seeds: Sequence[int], epochs: int) -> Study:
    """The runs on people whose backbones give the features. The start has seen the training videos, and no label."""
    variants = chosen([weak_feat_people.FULL, weak_feat_people.WEAK])
    return Study(
        out, tuple(corpora), tuple(seeds), variants, epochs=epochs, curve_every=epochs, is_cached=True, start="order"
    )


def run_people(study: Study, processes: int) -> list[Figure]:
    """Make what is missing -> the figures of all corpora. Raises as `run`."""
    run_study(study, processes)
    materials = weak_feat_people.materials_of(study)
    make_probes(materials, weak_feat_people.TASKS, study.out, processes)
    of = {c.name: [m for m, (other, _) in zip(materials, study.stitched(), strict=True) if other.name == c.name]
          for c in study.corpora}  # fmt: skip
    return [
        figure
        for corpus, own in of.items()
        for task in weak_feat_people.TASKS
        for figure in figures_of(own, task, f"weakfeat.people.{corpus}")
    ]


def figures_of(materials: Sequence[Material], task: str, prefix: str) -> list[Figure]:
    """The figures of one task, from the files of its probes; `materials` differ only in their seed."""
    metric, name = METRICS[task], f"{prefix}.{task}"
    scores = {kind: [100 * each.score(kind, task, metric) for each in materials] for kind in KINDS}
    found = [mean_and_std(f"{name}.{kind}", values, metric) for kind, values in scores.items()]
    pairs = list(zip(scores["full"], scores["pretrained"], scores["weak"], strict=True))
    over = [weak - pretrained for _, pretrained, weak in pairs]
    found.append(mean_and_std(f"{name}.weak_over_pretrained", over, "points"))
    shares = [(weak - pretrained) / (full - pretrained) for full, pretrained, weak in pairs if full > pretrained]
    if len(shares) == len(pairs):
        found.append(mean_and_std(f"{name}.gap_closed", shares, "share"))
    else:
        say(f"{name}: pretrained is not below full on each seed, so there is no gap to close")
    return found


def main(
    source: Annotated[str | None, typer.Option(help="People: as of benchmarks.people.")] = None,
    hold_out: Annotated[str, typer.Option(help="People: groups of the test videos.")] = "",
    background: Annotated[str, typer.Option(help="People: classes that are not labels.")] = "",
    corpora: Annotated[Path | None, typer.Option(help="People: JSON file of several corpora.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Numbers, with commas between; at least three.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of both runs.", min=1)] = 60,
    train_videos: Annotated[int | None, typer.Option(help="The world's own number by default.", min=10)] = None,
    test_videos: Annotated[int | None, typer.Option(help="The world's own number by default.", min=1)] = None,
    processes: Annotated[int, typer.Option(help="Processes in parallel, of one thread each.", min=1)] = 2,
    quick: Annotated[bool, typer.Option(help="One seed, and one corpus: no spread.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of all files; weak-feat-out by default.")] = None,
) -> None:
    """Measure how good features are."""
    words = (seeds or ("0" if quick else "0,1,2")).split(",")
    if not all(word.strip().isdigit() for word in words):
        raise ConfigError(f"--seeds '{seeds}': give whole numbers of at least 0, separated by commas, such as 0,1,2")
    place, drawn = (out or Path("weak-feat-out")).resolve(), [int(word) for word in words]
    if source or corpora:
        if train_videos or test_videos:
            raise ConfigError("--train-videos and --test-videos are for world d; put them into the file of --corpora")
        given = given_corpora(source, hold_out, background, corpora)
        found: list[Any] = run_people(study_of(place, given[:1] if quick else given, drawn, epochs), processes)
    else:
        size = world_of(WORLD, num_train_videos=train_videos, num_test_videos=test_videos)
        found = run(plan_of(place, drawn, epochs, size), processes)
    figures.show(found, as_json, "Weak-FEAT", "mean -+ one std")


if __name__ == "__main__":
    try:
        typer.run(main)
    except AdaptFocusError as error:
        say(f"error: {error}")
        sys.exit(2)
