"""`adaptfocus pretrain`: a start for a backbone, from one's own videos.

Input: an index; a task: labels of trimmed clips, or the order of frames, which needs no label.
Does: trains a run beside the file, by the recipe `pretrain_labels` or `pretrain_order`, and exports its weights.
Output: a file for `weights=`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from adaptfocus.infra.cli.options import Address, Overrides, TakeOver
from adaptfocus.pipelines.errors import ConfigError

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL


def pretrain(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="URL of an index, of any videos or clips.")],
    out_url: Annotated[str, typer.Option("--out", help="URL of the weights file. The run lies in OUT.run.")],
    overrides: Overrides = None,
    task: Annotated[
        Literal["order", "labels"],
        typer.Option(help="order: tell how a clip is played; no labels. labels: of trimmed clips."),
    ] = "order",
    backbone: Annotated[str, typer.Option(help="One of `adaptfocus backbones`.")] = "r2plus1d_tiny",
    epochs: Annotated[int | None, typer.Option(help="Number of epochs. Default: the recipe's.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Random seed of weights, clips and orders.", min=0)] = 0,
    address: Address = None,
    take_over: TakeOver = False,
) -> None:
    """Make a start for weights=, from your own videos.

    Give the same command again to resume.
    """
    from adaptfocus.infra.running.run import run_training
    from adaptfocus.pipelines.settings import make
    from adaptfocus.trainers.evaluation.export import export_model
    from adaptfocus.trainers.settings.recipes import recipe
    from adaptfocus.trainers.settings.run import TrainConfig

    folder, _, name = out_url.rpartition("/")
    if not name:
        raise ConfigError(f"--out {out_url} is a folder; give the name of a file, such as {out_url}start.pt")
    place = [f"name={name}.run", f"runs={folder or ('/' if out_url.startswith('/') else '.')}", f"index={index}"]
    given = [f"task={task}", f"backbone={backbone}", f"seed={seed}", *([f"epochs={epochs}"] if epochs else [])]
    config = make(TrainConfig, recipe(f"pretrain_{task}"), [*place, *given, *(overrides or [])])
    run_training(config, address, take_over)
    export_model(config.url, out_url, "torch")
    out.print(f"{out_url}: {config.backbone}, {config.epochs} epochs of {index}, task {config.task}", highlight=False)
    motion = f" input.motion={config.input.motion}"
    out.print(f"  train on it with weights={out_url} backbone={config.backbone}{motion}", highlight=False)
