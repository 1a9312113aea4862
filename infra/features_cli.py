"""`adaptfocus extract | export | verify`: features of whole videos, out and into the layouts of other projects.

Input: arguments. Does: hands them to `trainers.extract` and `pipelines.feature_layouts`.
Output: a line or a table a command.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from infra.options import counts_line, placed
from infra.progress import counted
from infra.running import check_ray, cpus_of
from pipelines.datasets.annotations import check_split
from pipelines.errors import InputError
from trainers.evaluate import load_config

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command()(extract)
    app.command()(export)
    app.command()(verify)


def extract(
    run: Annotated[str, typer.Argument(help="URL of the run's folder.")],
    index: Annotated[str, typer.Option(help="URL of the index whose videos are wanted.")],
    out_url: Annotated[str, typer.Option("--out", help="Folder of the features.")],
    epoch: Annotated[int | None, typer.Option(help="Its end, counted from 0; the newest checkpoint without.")] = None,
    start: Annotated[
        bool, typer.Option("--start", help="The run's pre-trained start instead of a checkpoint.")
    ] = False,
    weights: Annotated[str | None, typer.Option(help="URL of weights of the run's backbone instead.")] = None,
    stride_seconds: Annotated[float, typer.Option(help="From one window to the next.")] = 1.0,
    maps: Annotated[bool, typer.Option("--maps/--pooled", help="Maps [H, W, C] of each window, or a vector.")] = False,
    split: Annotated[str | None, typer.Option(help="What these videos are: train, test; for exports.")] = None,
    engine: Annotated[Literal["ray", "local"], typer.Option(help="A cluster, or this process.")] = "ray",
    address: Annotated[str | None, typer.Option(help="Ray cluster to use; a local one is started without it.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A placement setting, as placement.decode_workers=8.")
    ] = None,
) -> None:
    """Features of whole videos by a run's backbone, a window every --stride-seconds; given again, it goes on."""
    from trainers.extract import Extraction, classes_of, make_here
    from trainers.extract import extract as extract_features
    from trainers.feature_model import weights_of

    config = placed(load_config(run), overrides)
    split = check_split(split, "--split")
    job = Extraction(
        config, len(classes_of(config)), weights_of(config, epoch, start, weights), index,
        "maps" if maps else "pooled", stride_seconds, split,
    )  # fmt: skip
    with counted("extracting videos") as progress:
        if engine == "local":
            facts = extract_features(job, out_url, make_here, progress)
        else:
            check_ray()
            from infra.cluster import connected
            from trainers.ray_extract import make_on_cluster

            with connected(address, cpus=cpus_of(config)):
                facts = extract_features(job, out_url, make_on_cluster, progress)
    _say(facts, out_url)


def _say(facts: dict[str, Any], out_url: str) -> None:
    shape = " x ".join(map(str, facts["feature_shape"] or []))
    out.print(
        f"{facts['videos']} videos, {facts['steps']} windows every {facts['stride_seconds']:g} s, each "
        f"{shape or 'nothing'} of {facts['backbone']} -> {out_url}"
    )
    out.print(
        f"  decoded {facts['packets_decoded']} packets, converted {facts['frames_converted']} frames, read "
        f"{facts['read_bytes'] / 1e6:,.1f} MB"
    )
    counts_line(out, "refused (rows in refused/)", facts["refused"])


Features = Annotated[list[str], typer.Argument(metavar="URL...", help="Feature sets, such as those of train and test.")]
LayoutName = Annotated[str, typer.Option("--as", help="mstcn, asformer, ltcontext, poc, cpl, mmn, d3g, timeception or "
                                         "opentad.")]  # fmt: skip
Fps = Annotated[float, typer.Option(help="Frames a second of labels and frame-aligned features.")]
Align = Annotated[Literal["linear", "nearest"], typer.Option(help="Between the steps around a frame, or the nearest.")]
Steps = Annotated[int | None, typer.Option(help="Steps of each video, where a layout has as many of all.")]


def export(
    features: Features,
    layout: LayoutName,
    out_url: Annotated[str, typer.Option("--out", help="Folder to write to.")],
    fps: Fps = 15.0,
    align: Align = "linear",
    steps: Steps = None,
    segmentation: Annotated[
        str | None, typer.Option(help="segmentation.jsonl; the index's intervals without it.")
    ] = None,
    grounding: Annotated[str | None, typer.Option(help="grounding.jsonl, for cpl, mmn and d3g.")] = None,
    activities: Annotated[str | None, typer.Option(help="activity.jsonl: the recipes, for poc.")] = None,
    background: Annotated[str, typer.Option(help="The label where no interval is.")] = "background",
    split_number: Annotated[int, typer.Option(help="N of train.splitN.bundle.", min=1)] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Features in exactly the layout that another project reads."""
    from pipelines.feature_store import open_features
    from pipelines.layouts import export as write
    from pipelines.layouts.given import Given

    given = Given(
        tuple(map(open_features, features)), fps, align, steps, split_number, background, segmentation, grounding,
        activities,
    )  # fmt: skip
    done = write(layout, given, out_url, overwrite)
    out.print(f"{done.pop('videos')} videos as {layout} -> {out_url}")
    for what, count in done.items():
        out.print(f"  {what}: {count}")


def verify(
    path: Annotated[str, typer.Argument(help="Folder that was exported to, or made by somebody else.")],
    layout: LayoutName,
    features: Annotated[list[str] | None, typer.Option(help="Feature sets to compare with; repeatable.")] = None,
    fps: Fps = 15.0,
    align: Align = "linear",
    steps: Steps = None,
    activities: Annotated[str | None, typer.Option(help="activity.jsonl that poc's names were made with.")] = None,
) -> None:
    """Read a folder back through the rules of the project that is to read it; exit code 2 if it would read it wrong."""
    from pipelines.feature_store import open_features
    from pipelines.layouts import layout_of
    from pipelines.layouts import verify as look
    from pipelines.layouts.given import Given

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
