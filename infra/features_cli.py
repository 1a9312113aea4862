"""`adaptfocus extract | export | verify`: features of whole videos, out and into the layouts of other projects.

Input: arguments. Does: hands them to `trainers.extract` and `pipelines.feature_layouts`.
Output: a line or a table a command.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from infra.progress import counted
from infra.running import check_ray, cpus_of
from trainers.evaluate import load_config

out = Console()


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command()(extract)


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
) -> None:
    """Features of whole videos by a run's backbone, a window every --stride-seconds; given again, it goes on."""
    from trainers.extract import Extraction, classes_of, make_here
    from trainers.extract import extract as extract_features
    from trainers.feature_model import weights_of

    config = load_config(run)
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
    if facts["refused"]:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(facts["refused"].items()))
        out.print(f"  refused (rows in refused/): {kinds}")
