"""The command line: `adaptfocus pack | index | plan | train | submit | runs | evaluate | quarantine | report | ...`.

Each command prints a line or a table. An error that a user can fix becomes one message and exit code 2, never a
traceback.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from adaptfocus.infra.cli import features as features_cli
from adaptfocus.infra.cli import help_pages, jobs, probe
from adaptfocus.infra.cli.clips import clips
from adaptfocus.infra.cli.gc import gc
from adaptfocus.infra.cli.index import index
from adaptfocus.infra.cli.localise import localise
from adaptfocus.infra.cli.options import (
    Address,
    ConfigFile,
    Engine,
    Epoch,
    Overrides,
    Processes,
    RecipeName,
    RunUrl,
    TakeOver,
)
from adaptfocus.infra.cli.pack import pack
from adaptfocus.infra.cli.pretrain import pretrain
from adaptfocus.infra.cli.quarantine import app as quarantine
from adaptfocus.infra.cli.show import show as show_clip
from adaptfocus.infra.running.settings import settings_from
from adaptfocus.infra.running.tables import show
from adaptfocus.infra.running.wording import counts_line, many
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.url_secrets import redact_secrets
from adaptfocus.pipelines.worlds.config import WORLDS, world_of

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    help="Train action recognisers on long videos that carry only video-level tags. Every place is a URL: a path, "
    "s3://bucket/key (standard AWS variables and AWS_ENDPOINT_URL), or anything else fsspec knows.",
)
app.add_typer(quarantine, name="quarantine")
jobs.add_to(app)
features_cli.add_to(app)
probe.add_to(app)
out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL
DEMO_MODULES = ("ray", "s3fs", "moto", "werkzeug", "psutil")


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"adaptfocus {version('adaptfocus')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before any command."""


app.command()(pack)
app.command()(index)


@app.command()
def plan(
    name: RecipeName,
    overrides: Overrides = None,
    config_url: ConfigFile = None,
    out_url: Annotated[str | None, typer.Option("--out", help="URL of a folder to write the plan to.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="Estimate from this many windows, with the spread. Default: count all.", min=2)
    ] = None,
    workers: Processes = None,
) -> None:
    """Preview what the first epoch would read and decode."""
    from adaptfocus.infra.running.planning import left_out_line, preview, summary_of
    from adaptfocus.infra.running.progress import progress_bar
    from adaptfocus.pipelines.over import in_processes

    if sample and out_url:
        raise ConfigError("--out writes the whole plan, and --sample draws a part of it; give one of them")
    config = settings_from(name, overrides, config_url)
    table = Table("epoch 1 would", "", show_header=True, box=None)
    with progress_bar("windows drawn") as progress:
        found = preview(config, out_url, sample, in_processes(workers), progress)
    for key, value in summary_of(found, config).items():
        table.add_row(key, value)
    show(out, table)
    if left_out := left_out_line(config):
        out.print(left_out, highlight=False, soft_wrap=True)
    if out_url:
        out.print(f"written to {out_url}")


@app.command()
def train(
    name: RecipeName,
    overrides: Overrides = None,
    config_url: ConfigFile = None,
    address: Address = None,
    take_over: TakeOver = False,
    follow_index: Annotated[
        bool,
        typer.Option(
            "--follow-index", help="Plan each epoch from what the index holds then (the setting follow_index=true)."
        ),
    ] = False,
) -> None:
    """Start or resume a training run.

    Give the same command again to resume. The number of workers must divide plan.bags_per_batch.
    """
    from adaptfocus.infra.running.run import run_training

    overrides = [*(overrides or ()), *(["follow_index=true"] if follow_index else [])]
    run_training(settings_from(name, overrides, config_url), address, take_over)


app.command()(pretrain)
app.command()(gc)


@app.command()
def evaluate(
    run: RunUrl,
    index: Annotated[str, typer.Option(help="URL of the index of test videos.")],
    views: Annotated[int, typer.Option(help="Views of each video, evenly spaced.", min=1, max=255)] = 20,
    crops: Annotated[int, typer.Option(help="Crops of each view: 1 (centred) or 3 (from end to end).")] = 1,
    size_pixels: Annotated[
        int | None, typer.Option(help="Crop size in pixels. Default: as in training.", min=2)
    ] = None,
    epoch: Epoch = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the evaluation. Default: test, or test-epoch-E with --epoch E."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an evaluation of that name that was made with other settings.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(help="URL of features of the test index, made as those that the run was trained on."),
    ] = None,
    engine: Engine = "auto",
    address: Address = None,
) -> None:
    """Score a run on test videos: video-level and per-time mAP."""
    from adaptfocus.infra.cli.tables.score_table import conditions_of_scores, table_of_scores
    from adaptfocus.infra.running.run import run_evaluation

    # A report shows "test": the score of an earlier epoch replaces it only on request.
    name = name or ("test" if epoch is None else f"test-epoch-{epoch}")
    end_of = None if epoch is None else epoch - 1
    how = (end_of, crops, size_pixels, overwrite, features)
    scores = run_evaluation(run, index, views, name, engine, address, *how)
    show(out, table_of_scores(scores))
    out.print(conditions_of_scores(name, scores), markup=False, highlight=False)


app.command()(localise)
app.command()(clips)


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="URLs of the folders of one or more runs.")],
    out_url: Annotated[str, typer.Option("--out", help="URL of the HTML file.")],
    evaluation: Annotated[str, typer.Option(help="Name of the evaluation to show.")] = "test",
    samples: Annotated[
        int, typer.Option(help="Number of sample videos: confident misses first, then the least sure.", min=0, max=50)
    ] = 4,
    videos: Annotated[
        list[str] | None, typer.Option("--video", help="Id of a video to show instead; may be given again.")
    ] = None,
) -> None:
    """Write one HTML page about one run, or to compare several. It needs no network."""
    from adaptfocus.infra.report.gather import gather
    from adaptfocus.infra.report.page import write_report
    from adaptfocus.infra.running.progress import with_bar
    from adaptfocus.pipelines.over import in_processes

    command = redact_secrets(shlex.join(["adaptfocus", *sys.argv[1:]]))
    over = with_bar("counting clips", in_processes(None))
    write_report(gather(runs, evaluation, samples, command, videos or [], over), out_url)
    out.print(f"report: {out_url}")


app.command("show")(show_clip)


@app.command()
def backbones() -> None:
    """List the backbones: size, cost, clip shape, public weights, required packages."""
    from adaptfocus.infra.cli.tables.models import table_of_backbones

    show(out, table_of_backbones())


@app.command("export-model")
def export_model(
    run: RunUrl,
    out_url: Annotated[str, typer.Option("--out", help="URL of the file to write.")],
    file_format: Annotated[
        str, typer.Option("--format", help="torch (weights under the original project's names), torch.export or onnx.")
    ] = "torch",
    epoch: Epoch = None,
) -> None:
    """Export a run's trained model, with its class names and input shape.

    The file is read back, and its output is compared with the model's.
    """
    from adaptfocus.trainers.evaluation.export import export_model as export

    facts = export(run, out_url, file_format, None if epoch is None else epoch - 1)
    out.print(f"{facts['backbone']}, {many(len(facts['classes']), 'class')}, "
              f"checkpoint {facts['checkpoint']} -> {out_url}")  # fmt: skip
    out.print(f"  {file_format}; its probabilities are within {facts['largest_difference']:.0e} of the model's")


@app.command()
def world(
    kind: Annotated[str, typer.Option(help=f"Kind of world: {', '.join(WORLDS)}.")],
    out_url: Annotated[str, typer.Option("--out", help="URL of the folder for its shards and indexes.")],
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    train_videos: Annotated[
        int | None, typer.Option(help="Number of training videos. Default: the kind's.", min=1)
    ] = None,
    test_videos: Annotated[int | None, typer.Option(help="Number of test videos. Default: the kind's.", min=1)] = None,
    long_tail: Annotated[
        bool, typer.Option("--long-tail", help="Make some classes rare: class frequencies of 1/rank.")
    ] = False,
    processes: Processes = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing world.")] = False,
) -> None:
    """Make a synthetic benchmark: H.264 videos whose actions are known to the frame, packed and indexed."""
    from adaptfocus.infra.running.worlds import make_world

    config = world_of(kind, seed=seed, num_train_videos=train_videos, num_test_videos=test_videos, long_tail=long_tail)
    done = make_world(config, out_url, processes or os.cpu_count() or 1, overwrite)
    out.print(f"world {kind}, seed {seed}: {done['train'].videos} training and "
              f"{many(done['test'].videos, 'test video')} of {many(len(config.classes), 'class')} -> "
              f"{out_url}")  # fmt: skip
    for split, summary in done.items():
        counts_line(out, f"refused of {split}", summary.refused)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the demo's files.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Random seed of videos and training.", min=0)] = 0,
) -> None:
    """See it work in minutes: synthetic videos, S3, Ray, training, a kill, a resume, a report."""
    missing = [name for name in DEMO_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the demo needs {', '.join(missing)}, which is not installed; pip install 'adaptfocus[demo]'"
        )
    from adaptfocus.infra.demo.demo import run_demo

    run_demo(folder, seed)


help_pages.arrange(app)


def main() -> None:
    """The console command."""
    try:
        code = app(standalone_mode=False)
        if isinstance(code, int):  # typer returns 130 after Ctrl-C
            sys.exit(code)
    except AdaptFocusError as error:
        from adaptfocus.infra.running.progress import console

        console.print("[bold red]error:[/] ", end="")
        console.print(redact_secrets(str(error)), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # a usage error of the command line
            error.message = redact_secrets(str(getattr(error, "message", "")))  # type: ignore[attr-defined]
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        raise
