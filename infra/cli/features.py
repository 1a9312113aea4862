"""`adaptfocus extract | export | verify`: features of whole videos, and their layouts in other projects.

The work is done by `trainers.evaluation.extraction` and `pipelines.features.layouts`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from adaptfocus.infra.cli.options import Address, Engine, Epoch, MaybeRunUrl
from adaptfocus.infra.running.settings import with_placement, without_run
from adaptfocus.infra.running.wording import counts_line, many
from adaptfocus.pipelines.errors import ConfigError, InputError

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the app."""
    app.command()(extract)
    app.command()(export)
    app.command()(verify)


def extract(
    *,
    run: MaybeRunUrl = None,
    index: Annotated[str, typer.Option(help="URL of the index of the videos.")],
    out_url: Annotated[str, typer.Option("--out", help="URL of the folder to write the features to.")],
    backbone: Annotated[
        str | None, typer.Option(help="Without a run: the backbone that makes them (`adaptfocus backbones`).")
    ] = None,
    epoch: Epoch = None,
    start: Annotated[bool, typer.Option("--start", help="Use the weights that the run began with.")] = False,
    weights: Annotated[
        str | None, typer.Option(help="Use these weights: URL of a file, or `packaged` (in an installed package).")
    ] = None,
    stride_seconds: Annotated[float, typer.Option(help="Seconds from one window to the next.")] = 1.0,
    maps: Annotated[bool, typer.Option("--maps/--pooled", help="Per window: a map [H, W, C], or one vector.")] = False,
    split: Annotated[
        str | None, typer.Option(help="Name of the split (train or test), which some exports need.")
    ] = None,
    engine: Engine = "auto",
    address: Address = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of placement; without a run, of windows too (clip.fps=4)."),
    ] = None,
) -> None:
    """Compute features of whole videos with a run's backbone, or with one that no run has trained.

    Give the same command again to resume.
    """
    from adaptfocus.infra.running.placement import check_this_machine, cpus_of
    from adaptfocus.infra.running.progress import progress_bar
    from adaptfocus.infra.running.run import OWN, check_ray, engine_of, shown_as
    from adaptfocus.pipelines import store
    from adaptfocus.pipelines.annotations.rows import check_split
    from adaptfocus.pipelines.index.load import notes_of
    from adaptfocus.pipelines.store.urls import absolute
    from adaptfocus.trainers.backbones.specs import PACKAGED
    from adaptfocus.trainers.evaluation.extraction import Extraction, make_here
    from adaptfocus.trainers.evaluation.extraction import extract as extract_features
    from adaptfocus.trainers.evaluation.feature_model import weights_of
    from adaptfocus.trainers.runs.open import classes_of, load_config

    if (run is None) == (backbone is None) or (run is None and (epoch is not None or start)):
        raise ConfigError("give a RUN, or --backbone with its --weights; --epoch and --start are of a RUN")
    index, out_url, split = absolute(index), absolute(out_url), check_split(split, "--split")
    weights = weights if weights in (None, PACKAGED) else absolute(weights)
    if run is not None:
        config = with_placement(load_config(absolute(run)), overrides)
        found = weights_of(config, None if epoch is None else epoch - 1, start, weights)
    else:
        config = without_run(backbone or "", weights, index, out_url, overrides)
        found = weights_of(config, weights_url=config.weights)
    job = Extraction(
        config, len(classes_of(config)) if run else 1, found, index, "maps" if maps else "pooled", stride_seconds,
        split, has_run=run is not None,
    )  # fmt: skip
    if line := shown_as(config):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    with progress_bar("extracting videos") as progress:
        if engine_of(config, engine, address) == "local":
            facts = extract_features(job, out_url, make_here, progress)
        else:
            check_ray()
            from adaptfocus.infra.running.cluster import check_seen, connect
            from adaptfocus.trainers.on_ray.extraction import make_on_cluster
            from adaptfocus.trainers.on_ray.over import tasks_beside_decoding

            if address in OWN:  # it takes all GPUs of this machine
                check_this_machine(config.placement.model_copy(update={"worker_resources": {}, "gpus_per_worker": 0}))
            with connect(address, cpus=cpus_of(config)):
                of_run = {"the run": store.join(config.url, "config.json")} if job.has_run else {}
                check_seen(of_run | {"the index": store.join(index, "snapshots")})
                facts = extract_features(job, out_url, make_on_cluster, progress, tasks_beside_decoding(config))
    _say(facts, out_url)
    counts_line(out, "indexed with changes (rows in refused/ of the index)", notes_of(index))


def _say(facts: dict[str, Any], out_url: str) -> None:
    shape = " x ".join(map(str, facts["feature_shape"] or []))
    out.print(
        f"{many(facts['steps'], 'window')} from {many(facts['videos'], 'video')} (every "
        f"{facts['stride_seconds']:g} s), {shape or 'no'} {facts['backbone']} features each -> {out_url}"
    )
    out.print(
        f"  decoded {facts['packets_decoded']} packets, converted {facts['frames_converted']} frames, read "
        f"{facts['read_bytes'] / 1e6:,.1f} MB"
    )
    counts_line(out, "refused (rows in refused/)", facts["refused"])


Features = Annotated[
    list[str], typer.Argument(metavar="URL...", help="URLs of feature sets, such as those of train and test.")
]
LayoutName = Annotated[
    str,
    typer.Option("--as", help="Layout: mstcn, asformer, ltcontext, poc, cpl, mmn, d3g, timeception or opentad."),
]
Fps = Annotated[float, typer.Option(help="Frames per second of labels and of frame-aligned features.")]
Align = Annotated[
    Literal["linear", "nearest"],
    typer.Option(help="How a frame gets its feature: interpolated, or from the nearest window."),
]
Steps = Annotated[int | None, typer.Option(help="Steps per video, in layouts with the same number for all.")]


def export(
    features: Features,
    layout: LayoutName,
    out_url: Annotated[str, typer.Option("--out", help="Folder to write to.")],
    fps: Fps = 15.0,
    align: Align = "linear",
    steps: Steps = None,
    segmentation: Annotated[
        str | None, typer.Option(help="URL of segmentation.jsonl. Default: the index's intervals.")
    ] = None,
    grounding: Annotated[str | None, typer.Option(help="URL of grounding.jsonl, for cpl, mmn and d3g.")] = None,
    activities: Annotated[str | None, typer.Option(help="URL of activity.jsonl (the recipes), for poc.")] = None,
    background: Annotated[str, typer.Option(help="Label of frames outside every interval.")] = "background",
    split_number: Annotated[int, typer.Option(help="N of train.splitN.bundle.", min=1)] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write features in the layout that another project reads."""
    from adaptfocus.pipelines.features.layouts import export as write
    from adaptfocus.pipelines.features.layouts.given import Given
    from adaptfocus.pipelines.features.store import open_features

    given = Given(
        tuple(map(open_features, features)), fps, align, steps, split_number, background, segmentation, grounding,
        activities,
    )  # fmt: skip
    done = write(layout, given, out_url, overwrite)
    out.print(f"{done.pop('videos')} videos as {layout} -> {out_url}")
    for what, count in done.items():
        out.print(f"  {what}: {count}")


def verify(
    path: Annotated[str, typer.Argument(help="Folder to check.")],
    layout: LayoutName,
    features: Annotated[
        list[str] | None, typer.Option(help="URL of a feature set to compare with; may be given again.")
    ] = None,
    fps: Fps = 15.0,
    align: Align = "linear",
    steps: Steps = None,
    activities: Annotated[
        str | None, typer.Option(help="URL of the activity.jsonl that poc's names were made with.")
    ] = None,
) -> None:
    """Check that the target project would read this folder correctly.

    The exit code is 2 if it would not.
    """
    from adaptfocus.pipelines.features.layouts import layout_of
    from adaptfocus.pipelines.features.layouts import verify as look
    from adaptfocus.pipelines.features.layouts.given import Given
    from adaptfocus.pipelines.features.store import open_features

    given = Given(
        tuple(map(open_features, features or [])), fps, align, steps, activities_url=activities
    )  # fmt: skip
    videos, problems = look(layout, path, given)
    if problems:
        raise InputError(
            f"{path} is not as {layout_of(layout).reader} reads it; {videos} videos, {len(problems)} problems:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    against = f" and as {', '.join(features)} have them" if features else ""
    out.print(f"{videos} videos as {layout_of(layout).reader} reads them{against}: nothing is wrong")
