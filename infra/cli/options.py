"""Arguments that several commands share, and the settings of a run.

Settings come from a recipe, a YAML file and `key=value` words. The later of these override the earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adaptfocus.trainers.settings.recipes import RECIPES

if TYPE_CHECKING:
    pass  # imports torch, which help does not need: 3 s of a core


RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help=f"One of: {', '.join(sorted(RECIPES))}.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as key=value, such as epochs=20 or focus.delta=0.2.")
]
Classes = Annotated[str | None, typer.Option(help="URL of a class list, one name a line.")]
RunUrl = Annotated[str, typer.Argument(metavar="RUN", help="URL of a run's folder.")]
MaybeRunUrl = Annotated[str | None, typer.Argument(metavar="[RUN]", help="URL of a run's folder.")]
Epoch = Annotated[
    int | None, typer.Option(help="Use the checkpoint from the end of this epoch. Default: the newest.", min=1)
]
Engine = Annotated[
    Literal["auto", "ray", "local"], typer.Option(help="ray: a cluster; local: this process; auto: as in training.")
]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Train even if another process trains the run; that process stops.")
]
Address = Annotated[str | None, typer.Option(help="Address of a Ray cluster. Default: start one on this machine.")]
Processes = Annotated[int | None, typer.Option(help="Number of processes. Default: one per core.", min=1)]
ConfigFile = Annotated[str | None, typer.Option("--config", help="URL of a YAML file with settings.")]
