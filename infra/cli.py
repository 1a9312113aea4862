"""The command line: `adaptfocus pack | index | plan | train | submit | runs | evaluate | quarantine | report | ...`.

Input: arguments. Does: hands them to the functions that do the work. Output: a line or a table a command; an error a
user can mend is one message and exit code 2, never a traceback.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from infra import features_cli, jobs_cli, probe_cli
from infra.index_cli import index
from infra.options import ConfigFile, Overrides, RecipeName, counts_line, settings_from
from infra.pack_cli import pack
from infra.progress import console
from infra.quarantine_cli import app as quarantine
from infra.tables import show
from pipelines.errors import AdaptFocusError, ConfigError
from pipelines.url_secrets import scrubbed
from pipelines.world_config import WORLDS, world_of

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    help="Weakly supervised training on long videos at web scale. Every place is a URL: a path, s3://bucket/key "
    "(standard AWS variables and AWS_ENDPOINT_URL), or anything fsspec knows.",
)
app.add_typer(quarantine, name="quarantine")
jobs_cli.add_to(app)
features_cli.add_to(app)
probe_cli.add_to(app)
out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL
DEMO_MODULES = ("ray", "s3fs", "moto", "werkzeug", "psutil")

Address = Annotated[str | None, typer.Option(help="Ray cluster to use; a local one is started without it.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"adaptfocus {version('adaptfocus')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print it and end.")]
    = False,
) -> None:  # fmt: skip
    """What stands before any command."""


app.command()(pack)
app.command()(index)


@app.command()
def plan(
    name: RecipeName,
    overrides: Overrides = None,
    config_url: ConfigFile = None,
    out_url: Annotated[str | None, typer.Option("--out", help="Also write the plan there.")] = None,
) -> None:
    """What the first epoch of a run would read and decode, before anything is spent."""
    from infra.planning import first_plan, left_out_line, summary_of

    config = settings_from(name, overrides, config_url)
    drawn = first_plan(config)
    table = Table("epoch 0 would", "", show_header=True, box=None)
    for key, value in summary_of(drawn, config).items():
        table.add_row(key, value)
    show(out, table)
    if left_out := left_out_line(config):
        out.print(left_out, highlight=False, soft_wrap=True)
    if out_url:
        from pipelines.plan_store import write_plan

        write_plan(drawn, out_url, 0, config.plan.bags_per_batch)
        out.print(f"written to {out_url}")


@app.command()
def train(
    name: RecipeName,
    overrides: Overrides = None,
    config_url: ConfigFile = None,
    address: Address = None,
) -> None:
    """Train a run; given again with the same name it resumes, on any number of workers that divides the batch."""
    from infra.running import run_training

    run_training(settings_from(name, overrides, config_url), address)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="URL of the run's folder.")],
    index: Annotated[str, typer.Option(help="URL of the test index.")],
    views: Annotated[int, typer.Option(help="Uniform views a video.", min=1, max=255)] = 20,
    crops: Annotated[int, typer.Option(help="Of each view: 1, centred, or 3, from end to end.")] = 1,
    size_pixels: Annotated[int | None, typer.Option(help="Of a crop; that of training without.", min=2)] = None,
    epoch: Annotated[int | None, typer.Option(help="Its end, counted from 0; the newest checkpoint without.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Folder of the result, in the run's evaluations/; test, or test-epoch-E with --epoch E."),
    ] = None,
    engine: Annotated[Literal["ray", "local"], typer.Option(help="A cluster, or this process.")] = "ray",
    address: Address = None,
) -> None:
    """Score a run's newest checkpoint, or that of an epoch, on a test index: video-level and per-time mAP."""
    from infra.running import run_evaluation

    # A report shows "test": the score of an earlier epoch does not take its place unasked.
    name = name or ("test" if epoch is None else f"test-epoch-{epoch}")
    scores = run_evaluation(run, index, views, name, engine, address, epoch, crops, size_pixels)
    table = Table(box=None)
    for title in (
        "videos",
        "views x crops",
        "mAP, max over views",
        "mAP, mean over views",
        "per-time mAP",
        "undecodable",
    ):
        table.add_column(title, justify="right")
    table.add_row(
        str(scores.videos), f"{scores.views} x {scores.crops}", percent(scores.map_max), percent(scores.map_mean),
        percent(scores.per_time_map), str(scores.undecodable),
    )  # fmt: skip
    show(out, table)


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(help="URLs of run folders to compare.")],
    out_url: Annotated[str, typer.Option("--out", help="URL of the HTML file.")],
    evaluation: Annotated[str, typer.Option(help="Name of the evaluation to show.")] = "test",
    samples: Annotated[int, typer.Option(help="Sample videos.", min=0, max=50)] = 4,
) -> None:
    """One self-contained HTML page about one or several runs."""
    from infra.gather import gather
    from infra.report import write_report

    write_report(gather(runs, evaluation, samples, command=scrubbed(" ".join(["adaptfocus", *sys.argv[1:]]))), out_url)
    out.print(f"report: {out_url}")


@app.command()
def backbones() -> None:
    """The backbones: their size, cost and clips, where public weights come from, what they need."""
    from infra.models import table_of_backbones

    show(out, table_of_backbones())


@app.command("export-model")
def export_model(
    run: Annotated[str, typer.Argument(help="URL of the run's folder.")],
    out_url: Annotated[str, typer.Option("--out", help="URL of the file.")],
    file_format: Annotated[
        str, typer.Option("--format", help="torch (weights under upstream's names), torch.export or onnx.")
    ] = "torch",
    epoch: Annotated[int | None, typer.Option(help="Its end, counted from 0; the newest checkpoint without.")] = None,
) -> None:
    """A run's trained recogniser for others to use, with its classes and its clips' shape; compared after writing."""
    from trainers.export import export_model as export

    facts = export(run, out_url, file_format, epoch)
    out.print(f"{facts['backbone']}, {len(facts['classes'])} classes, checkpoint {facts['checkpoint']} -> {out_url}")
    out.print(f"  {file_format}; its probabilities are within {facts['largest_difference']:.0e} of the model's")


@app.command()
def world(
    kind: Annotated[str, typer.Option(help=f"One of: {', '.join(WORLDS)}.")],
    out_url: Annotated[str, typer.Option("--out", help="Folder of its shards and indexes.")],
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", min=0)] = 0,
    train_videos: Annotated[int | None, typer.Option(help="The kind's own number by default.", min=1)] = None,
    test_videos: Annotated[int | None, typer.Option(help="The kind's own number by default.", min=1)] = None,
    long_tail: Annotated[bool, typer.Option("--long-tail", help="Training labels with frequencies of 1/rank.")] = False,
    processes: Annotated[int | None, typer.Option(help="As many as cores by default.", min=1)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a world that is there.")] = False,
) -> None:
    """A benchmark world: synthetic videos whose actions are known to the frame, encoded, packed and indexed."""
    from infra.worlds import make_world

    config = world_of(kind, seed=seed, num_train_videos=train_videos, num_test_videos=test_videos, long_tail=long_tail)
    done = make_world(config, out_url, processes or os.cpu_count() or 1, overwrite)
    out.print(f"world {kind}, seed {seed}: {done['train'].videos} training and {done['test'].videos} test videos of "
              f"{len(config.classes)} classes -> {out_url}")  # fmt: skip
    for split, summary in done.items():
        counts_line(out, f"refused of {split}", summary.refused)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's files go.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Of the world and of the runs.", min=0)] = 0,
) -> None:
    """The whole idea in some minutes: a world of videos, S3, Ray, Noisy and Ours, a kill, a resume, a report."""
    missing = [name for name in DEMO_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the demo needs {', '.join(missing)}, which is not installed; pip install 'adaptfocus[demo]'"
        )
    from infra.demo import run_demo

    run_demo(folder, seed)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    """The console command."""
    try:
        app(standalone_mode=False)
    except AdaptFocusError as error:
        console.print("[bold red]error:[/] ", end="")
        console.print(scrubbed(str(error)), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # a usage error of the command line
            error.message = scrubbed(str(getattr(error, "message", "")))  # type: ignore[attr-defined]
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        raise
