"""Trains Full, Noisy and Ours on long videos of real people, stitched from your own trimmed clips.

    python -m benchmarks.people --source FOLDER [--hold-out PERSON,...] [--background CLASS,...] [--quick] [--cached]
    python -m benchmarks.people --corpora FILE.json [--seeds 0,1,2] [--variants full,noisy,focused] [--json]
    python -m benchmarks.people --corpora FILE.json --start order --epochs 30

FOLDER holds CLASS/PERSON_*.mp4, or a clips.csv of path, class and group. FILE.json holds a list of objects, each with
the fields of `people_videos.Corpus`: name, source, held_out, background, ... Every group (a person, a room, a film) is
either in the training videos or in the test videos. Videos, index, training and scores go through the real pipeline;
with --cached, frames are decoded only once. With --start, every run begins from a start that was pre-trained on the
training side (`benchmarks/studies/people_starts.py`). Runs that are finished in --out are not run again: after a change
of the code, choose another --out.

Figures: people.CORPUS.VARIANT (mAP, max over views, in per cent), people.CORPUS.gap_closed.VARIANT and
people.gap_closed.VARIANT (shares of the way from noisy to full; the latter is the mean over corpora); `low` and `high`
are one standard deviation over seeds, or over corpora, below and above the mean.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/people.py`

from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.regimes import numbers, words
from benchmarks.studies import people_report
from benchmarks.studies.people_starts import Start, StartTask, is_all_made, make_corpus_and_start
from benchmarks.studies.people_videos import Corpus
from benchmarks.studies.regime_figures import Outcome, curves_of, outcome_of, share_of_gap
from benchmarks.studies.regime_runs import RunJob, finish
from benchmarks.studies.variants import Variant, chosen

# The same in every regime. Twice the rate, which suits small3d, breaks discovery with this backbone (docs/results.md).
SETTINGS = ("backbone=r2plus1d_tiny", "clip.fps=4", "input.motion=auto", "optim.learning_rate=3e-3")
QUICK_VARIANTS, QUICK_SEEDS = "full,noisy,focused", "0,1"


@dataclass(frozen=True)
class Study:
    """Everything that decides the figures."""

    out: Path  # absolute, because indexes hold the URLs of shards
    corpora: tuple[Corpus, ...]
    seeds: tuple[int, ...]
    variants: dict[str, Variant]
    epochs: int = 60
    views: int = 20
    curve_every: int = 5  # epochs between two points of a curve
    overrides: tuple[str, ...] = ()
    is_cached: bool = False
    start: StartTask | None = None  # what the start of all runs has learnt; None: from scratch
    start_epochs: int = 30

    @property
    def curve(self) -> tuple[int, ...]:
        return tuple(sorted({*range(self.curve_every, self.epochs, self.curve_every), self.epochs}))

    def folder(self, corpus: Corpus, seed: int) -> Path:
        return self.out / "corpora" / f"{corpus.name}-{seed}"

    def stitched(self) -> list[tuple[Corpus, Path]]:
        """The corpora of every seed. A seed decides what the videos show, the weights and the clips."""
        return [(replace(c, seed=seed), self.folder(c, seed)) for seed in self.seeds for c in self.corpora]

    def jobs(self) -> list[RunJob]:
        """Every run, seed by seed, so that a study that is stopped early has complete pairs."""
        return [self._job(corpus, folder, name) for corpus, folder in self.stitched() for name in self.variants]

    def _job(self, corpus: Corpus, folder: Path, name: str) -> RunJob:
        variant, start = self.variants[name], self.start_of(corpus, folder)
        kind = [f"from-{self.start}"] * bool(self.start) + ["cached"] * self.is_cached + ["runs"]
        runs = self.out / "-".join(kind) / folder.name
        given = [
            f"name={name}", f"runs={runs}", f"index={folder / 'index' / 'train'}", f"seed={corpus.seed}",
            f"epochs={self.epochs}", "placement.engine=local", *([f"weights={start.url}"] if start else []),
            # One commit for each epoch, and all are kept, because curves are scored from them.
            "checkpoint.every_batches=1000000", f"checkpoint.keep={self.epochs}",
        ]  # fmt: skip
        config = make(TrainConfig, recipe(variant.recipe), [*SETTINGS, *self.overrides, *variant.overrides, *given])
        test = str(folder / "index" / "test")
        return RunJob(corpus.name, corpus.seed, name, config, test, self.views, self.curve, self._cache(folder))

    def start_of(self, corpus: Corpus, folder: Path) -> Start | None:
        """The start of a corpus and seed: the recipe of its task, with the backbone, clips and rate of all runs."""
        if self.start is None:
            return None
        trimmed = self.out / "trimmed" / folder.name / "index"
        index = trimmed if self.start == "labels" else folder / "index" / "train"
        # The number of epochs is in the name, so that runs from another start are told apart by their settings.
        file = f"{folder.name}-{self.start}-{self.start_epochs}.pt"
        given = [
            f"name={file}.run", f"runs={self.out / 'starts'}", f"index={index}", f"seed={corpus.seed}",
            f"epochs={self.start_epochs}", "placement.engine=local",
        ]  # fmt: skip
        config = make(TrainConfig, recipe(f"pretrain_{self.start}"), [*SETTINGS, *self.overrides, *given])
        return Start(str(self.out / "starts" / file), config, self._cache(folder))

    def _cache(self, folder: Path) -> str | None:
        return str(self.out / "frames" / folder.name) if self.is_cached else None


def run_study(study: Study, processes: int) -> list[Outcome]:
    """Make what is missing, run what is not finished -> the outcome of every run.

    Raises:
        ConfigError: --out holds other corpora or runs. AdaptFocusError: runs failed; the others are finished.
    """
    jobs = study.jobs()
    stitched = [(corpus, folder, study.start_of(corpus, folder)) for corpus, folder in study.stitched()]
    makings = {
        f"videos and start of {each[0].name}, seed {each[0].seed}": (make_corpus_and_start, each)
        for each in stitched
        if not is_all_made(*each)
    }
    finish(jobs, makings, study.out, processes)
    return [outcome_of(job) for job in jobs]


def figures_of(outcomes: Sequence[Outcome]) -> list[Figure]:
    """The figures `people.*`. A seed on which full does not exceed noisy has no gap, and counts in no share."""
    found, closed = [], {}
    for corpus in dict.fromkeys(each.world for each in outcomes):
        own = [each for each in outcomes if each.world == corpus]
        for variant in dict.fromkeys(each.variant for each in own):
            values = [each.map_max for each in own if each.variant == variant]
            found.append(figures.mean_and_std(f"people.{corpus}.{variant}", values, "mAP"))
            shares = [] if variant in ("full", "noisy") else share_of_gap(own, corpus, variant, "noisy", "full")
            if shares:
                found.append(figures.mean_and_std(f"people.{corpus}.gap_closed.{variant}", shares, "share"))
                closed.setdefault(variant, []).append(float(np.mean(shares)))
    return found + [figures.mean_and_std(f"people.gap_closed.{name}", each, "share") for name, each in closed.items()]


def write_files(study: Study, outcomes: Sequence[Outcome], found: Sequence[Figure]) -> None:
    """Write curves.json, runs.json, charts and results.md to --out."""
    names = [corpus.name for corpus in study.corpora]
    (study.out / "curves.json").write_text(json.dumps({name: curves_of(outcomes, name) for name in names}, indent=1))
    (study.out / "runs.json").write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
    (study.out / "images").mkdir(exist_ok=True)
    for name in names:
        (study.out / "images" / f"people-{name}.svg").write_text(people_report.chart(outcomes, name))
    (study.out / "results.md").write_text(people_report.markdown(outcomes, found, study.epochs, study.views))


def read_corpora(path: Path) -> list[Corpus]:
    """The corpora of a JSON file. Relative paths of sources are relative to the folder of the file.

    Raises:
        ConfigError: it is not a list of objects with the fields of Corpus.
    """
    try:
        found = pydantic.TypeAdapter(list[Corpus]).validate_json(path.read_bytes())
    except (pydantic.ValidationError, OSError) as error:
        raise ConfigError(f"{path} is not a list of corpora: {error}") from error
    return [replace(corpus, source=str((path.parent / corpus.source).resolve())) for corpus in found]


def given_corpora(source: str | None, hold_out: str, background: str, corpora: Path | None) -> list[Corpus]:
    """The corpora that the options of a command name.

    Raises:
        ConfigError: neither or both of --source and --corpora are given, or the file holds no corpora.
    """
    if (source is None) == (corpora is None):
        raise ConfigError("give either --source, for one corpus, or --corpora, for several")
    if corpora:
        return read_corpora(corpora)
    place = Path(source or "").resolve()
    return [
        Corpus(
            place.stem,
            str(place),
            held_out=tuple(words("--hold-out", hold_out)) if hold_out else (),
            background=tuple(words("--background", background)) if background else (),
        )
    ]


def main(
    source: Annotated[
        str | None, typer.Option(help="Folder of CLASS/PERSON_*.mp4, or a CSV: path, class, group.")
    ] = None,
    hold_out: Annotated[str, typer.Option(help="Groups of the test videos; a third of the clips if none.")] = "",
    background: Annotated[str, typer.Option(help="Classes that are not labels; a quarter of them if none.")] = "",
    corpora: Annotated[Path | None, typer.Option(help="JSON file of several corpora, instead of --source.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Numbers, with commas between; at least three.")] = None,
    variants: Annotated[str | None, typer.Option(help="Names of benchmarks/studies/variants.py, or people.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value for all variants; repeatable.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of every run.", min=1)] = 60,
    views: Annotated[int, typer.Option(help="Uniform views a test video.", min=1, max=255)] = 20,
    curve_every: Annotated[int, typer.Option(help="Epochs between two points of a curve.", min=1)] = 5,
    start: Annotated[StartTask | None, typer.Option(help="Pre-train a start of all runs by this task.")] = None,
    start_epochs: Annotated[int, typer.Option(help="Epochs of the start.", min=1)] = 30,
    processes: Annotated[int, typer.Option(help="Runs in parallel, of one thread each.", min=1)] = 2,
    cached: Annotated[bool, typer.Option(help="Decode each frame once.")] = False,
    quick: Annotated[bool, typer.Option(help="The first corpus, two seeds, cached: under 15 minutes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of videos and runs.")] = Path("people-out"),
) -> None:
    """Find out whether the method helps on videos of real people."""
    given = given_corpora(source, hold_out, background, corpora)
    study = Study(
        out=out.resolve(),
        corpora=tuple(given[:1] if quick else given),
        seeds=tuple(numbers("--seeds", seeds or (QUICK_SEEDS if quick else "0,1,2"))),
        variants=chosen(words("--variants", variants or (QUICK_VARIANTS if quick else "people"))),
        epochs=epochs,
        views=views,
        curve_every=curve_every,
        overrides=tuple(settings or ()),
        is_cached=cached or quick,
        start=start,
        start_epochs=start_epochs,
    )
    outcomes = run_study(study, processes)
    found = figures_of(outcomes)
    write_files(study, outcomes, found)
    say(f"tables, curves and charts: {study.out / 'results.md'}")
    figures.show(found, as_json, "People", "mean -+ one std")


if __name__ == "__main__":
    try:
        typer.run(main)
    except AdaptFocusError as error:
        say(f"error: {error}")
        sys.exit(2)
