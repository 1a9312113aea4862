"""Trains Full, Noisy and Ours on the benchmark worlds, and measures what each part of Ours gains.

    python -m benchmarks.regimes [--quick] [--json] [--worlds a,b] [--seeds 0,1,2] [--variants main] [--markdown FILE]

The worlds are made first. Every variant is trained on every seed through the real pipeline (H.264 in tars, index,
planned range reads, decoding, training, merged saliency). Checkpoints along the way are scored, and compared seed by
seed. Runs that are finished in --out are not run again: after a change of the code, choose another --out.

Figures: method.WORLD.VARIANT (mAP, max over views, in per cent), method.WORLD.gap_closed, .hit_rate, .budget_to_noisy
(shares), method.imprecise.ours_over_full (mAP of `focused` minus that of `full_imprecise`, which is trained on
intervals as people mark them); `low` and `high` are one standard deviation over seeds below and above the mean.
"""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/regimes.py`

from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.worlds.config import KINDS, TRIMMED, WorldConfig
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.studies import regime_report
from benchmarks.studies.imprecision import Imprecision
from benchmarks.studies.regime_figures import Outcome, curves_of, figures_of, outcome_of
from benchmarks.studies.regime_runs import RunJob, finish
from benchmarks.studies.regime_worlds import (
    annotated_url,
    has_annotations,
    has_start,
    index_url,
    is_made,
    make_start,
    make_world_and_annotations,
    start_url,
    world_name,
)
from benchmarks.studies.variants import GROUPS, Variant, chosen


class Usual(NamedTuple):
    """What is measured by default."""

    worlds: str
    seeds: str
    train_videos: int
    test_videos: int
    curve_every: int
    variants: str


USUAL = Usual("a,b", "0,1,2", 240, 100, 1, "main")
# Fewer videos or epochs are not enough: over these seeds `resampled` leads `ours` by 4.8 with 240 videos, and by 0.3
# with 200.
QUICK = Usual("a", "0,1", 240, 60, 3, "full,noisy,ours,resampled,best,noisy_faded,full_faded")


@dataclass(frozen=True)
class Benchmark:
    """Everything that decides the figures."""

    out: Path  # absolute, because indexes hold the URLs of shards
    worlds: tuple[str, ...]
    seeds: tuple[int, ...]
    variants: dict[str, Variant]
    size: WorldConfig  # kind and seed are filled in
    epochs: int = 30
    views: int = 20
    curve_every: int = 1  # epochs between two points of a curve
    overrides: tuple[str, ...] = ()  # of all variants; those of a variant come after them
    engine: Literal["local", "ray"] = "local"
    is_cached: bool = False
    from_scratch: bool = False
    quick: bool = False

    def world(self, kind: str, seed: int) -> WorldConfig:
        return replace(self.size, kind=kind, seed=seed)

    @property
    def every_world(self) -> list[WorldConfig]:
        return [self.world(kind, seed) for seed in self.seeds for kind in self.worlds]

    @property
    def curve(self) -> tuple[int, ...]:
        """Numbers of epochs after which runs are scored."""
        return tuple(sorted({*range(self.curve_every, self.epochs, self.curve_every), self.epochs}))

    @property
    def annotations(self) -> list[Imprecision]:
        """The imprecise annotations that variants are trained on, each once."""
        return list(dict.fromkeys(each.annotation for each in self.variants.values() if each.annotation))

    def jobs(self) -> list[RunJob]:
        """Every run, seed by seed, so that a benchmark that is stopped early has complete pairs."""
        return [self._job(world, name) for world in self.every_world for name in self.variants]

    def cache_folder(self, world: WorldConfig) -> Path:
        return self.out / "frames" / world_name(world)

    def _job(self, world: WorldConfig, name: str) -> RunJob:
        variant, place = self.variants[name], world_name(world)
        kind = ["scratch"] * self.from_scratch + ["cached"] * self.is_cached + ["runs"]
        runs = self.out / "-".join(kind) / place
        true_index, how = index_url(self.out, world, "train"), variant.annotation
        index = annotated_url(self.out, world, how) if how else true_index
        given = [
            f"name={name}", f"runs={runs}", f"index={index}", f"seed={world.seed}",
            f"epochs={self.epochs}",
            f"placement.engine={self.engine}",
            # One commit for each epoch, and all are kept, because curves are scored from them.
            "checkpoint.every_batches=1000000", f"checkpoint.keep={self.epochs}",
        ]  # fmt: skip
        start = [] if self.from_scratch else [f"weights={start_url(self.out, world.seed)}"]
        config = make(TrainConfig, recipe(variant.recipe), [*self.overrides, *variant.overrides, *given, *start])
        cache = str(self.cache_folder(world)) if self.is_cached else None
        test = index_url(self.out, world, "test")
        true = true_index if how else None
        return RunJob(world.kind, world.seed, name, config, test, self.views, self.curve, cache, true)


def run_benchmark(plan: Benchmark, processes: int) -> list[Outcome]:
    """Make what is missing, run what is not finished -> the outcome of every run.

    Raises:
        ConfigError: --out holds other worlds or runs. AdaptFocusError: runs failed; the others are finished.
    """
    jobs = plan.jobs()
    finish(jobs, _makings(plan), plan.out, processes)
    return [outcome_of(job) for job in jobs]


def _makings(plan: Benchmark) -> dict[str, tuple[Callable[..., None], tuple]]:
    """The worlds and starts that are missing, as calls by title."""
    annotations = plan.annotations
    worlds = {
        f"world {world.kind}, seed {world.seed}": (make_world_and_annotations, (plan.out, world, annotations))
        for world in plan.every_world
        if not (is_made(plan.out, world) and has_annotations(plan.out, world, annotations))
    }
    starts = {
        f"start of seed {seed}": (make_start, (plan.out, seed))
        for seed in plan.seeds
        if not plan.from_scratch and not has_start(plan.out, seed)
    }
    return worlds | starts


def write_files(plan: Benchmark, outcomes: Sequence[Outcome], found: Sequence[Figure], markdown: Path | None) -> None:
    """Write curves.json, charts and results.md to --out; with `markdown`, also the page and its charts there."""
    curves = {kind: curves_of(outcomes, kind) for kind in plan.worlds}
    (plan.out / "curves.json").write_text(json.dumps(curves, indent=1))
    (plan.out / "runs.json").write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
    size = plan.size
    facts = regime_report.Facts(
        command=shlex.join(["python", "-m", "benchmarks.regimes", *_what_is_measured(sys.argv[1:])]),
        date=datetime.date.today().isoformat(),
        machine=regime_report.machine(),
        commit=regime_report.commit(),
        quick=plan.quick,
        runs=len(outcomes),
        seeds=len(plan.seeds),
        train_videos=size.num_train_videos,
        test_videos=size.num_test_videos,
        min_seconds=size.min_seconds,
        max_seconds=size.max_seconds,
        epochs=plan.epochs,
        views=plan.views,
        overrides=plan.overrides,
    )
    for page in [plan.out / "results.md", *([markdown] if markdown else [])]:
        (page.parent / "images").mkdir(parents=True, exist_ok=True)
        charts = {kind: f"images/regimes-{kind}.svg" for kind in plan.worlds}
        for kind, place in charts.items():
            (page.parent / place).write_text(regime_report.chart(outcomes, kind))
        page.write_text(regime_report.markdown(outcomes, found, facts, charts))


def main(
    worlds: Annotated[
        str | None, typer.Option(help=f"Some of {', '.join(k for k in KINDS if k != TRIMMED)}, with commas between.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Numbers, with commas between; at least three.")] = None,
    variants: Annotated[
        str | None, typer.Option(help=f"Names of benchmarks/studies/variants.py, or {', '.join(GROUPS)}.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value for all variants; repeatable.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of every run.", min=1)] = 30,
    views: Annotated[int, typer.Option(help="Uniform views a test video.", min=1, max=255)] = 20,
    curve_every: Annotated[int | None, typer.Option(help="Epochs between two points of a curve.", min=1)] = None,
    train_videos: Annotated[int | None, typer.Option(help="Training videos of a world.", min=10)] = None,
    test_videos: Annotated[int | None, typer.Option(help="Test videos of a world.", min=1)] = None,
    processes: Annotated[int, typer.Option(help="Runs in parallel, of one thread each.", min=1)] = 2,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Of training; ray: one run at a time.")] = "local",
    cached: Annotated[bool, typer.Option(help="Decode each frame once: only for ablations, not published.")] = False,
    long_tail: Annotated[bool, typer.Option(help="Training labels as rare as 1 / rank.")] = False,
    scratch: Annotated[bool, typer.Option(help="No pre-trained start.")] = False,
    quick: Annotated[bool, typer.Option(help="World a, two seeds: 15 minutes of two cores.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Also write the page of results there.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of worlds and runs; regimes-out, or its quick/.")] = None,
) -> None:
    """Measure the method."""
    if markdown and cached:
        raise ConfigError(
            "--markdown writes figures to be published, which come from the real pipeline: leave --cached out"
        )
    if engine == "ray" and cached:
        raise ConfigError("--cached trains in one process: leave out either --cached or --engine ray")
    usual = QUICK if quick else USUAL
    plan = Benchmark(
        out=(out or Path("regimes-out", *(["quick"] if quick else []))).resolve(),
        worlds=tuple(words("--worlds", worlds or usual.worlds)),
        seeds=tuple(numbers("--seeds", seeds or usual.seeds)),
        variants=chosen(words("--variants", variants or usual.variants)),
        size=WorldConfig(
            num_train_videos=train_videos or usual.train_videos,
            num_test_videos=test_videos or usual.test_videos,
            long_tail=long_tail,
        ),
        epochs=epochs,
        views=views,
        curve_every=curve_every or usual.curve_every,
        overrides=tuple(settings or ()),
        engine=engine,
        is_cached=cached,
        from_scratch=scratch,
        quick=quick,
    )
    outcomes = run_benchmark(plan, 1 if engine == "ray" else processes)
    found = figures_of(outcomes, say)
    write_files(plan, outcomes, found, markdown)
    say(f"tables, curves and charts: {plan.out / 'results.md'}")
    figures.show(found, as_json, "Regimes", "mean -+ one std")


def _what_is_measured(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line without those that only say where files go and how figures are printed."""
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument in ("--out", "--markdown"):
            next(left, None)
        elif argument != "--json" and not argument.startswith(("--out=", "--markdown=")):
            kept.append(argument)
    return kept


def words(option: str, text: str) -> list[str]:
    """The names that an option gives, with commas between; each once. Raises ConfigError: there are none."""
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise ConfigError(f"{option} '{text}' names nothing; give names with commas between, or leave the option out")
    return found


def numbers(option: str, text: str) -> list[int]:
    """The seeds that an option gives. Raises ConfigError: one is not a whole number."""
    wrong = [word for word in words(option, text) if not word.isdigit()]
    if wrong:
        raise ConfigError(f"{option} {text}: '{wrong[0]}' is not a seed; give whole numbers from 0, such as 0,1,2")
    return [int(word) for word in words(option, text)]


if __name__ == "__main__":
    try:
        typer.run(main)
    except AdaptFocusError as error:
        say(f"error: {error}")
        sys.exit(2)
