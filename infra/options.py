"""What several commands take and print: their arguments, settings that are put together from them, lines of counts.

Input: a recipe's name, a YAML file, `key=value` words. Does: lays them over each other, later over earlier.
Output: one checked TrainConfig.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.recipes import RECIPES, recipe

if TYPE_CHECKING:
    from adaptfocus.trainers.config import TrainConfig  # brings torch, which help does not need: 3 s of a core

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help=f"One of: {', '.join(sorted(RECIPES))}.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as key=value, such as epochs=20 or focus.delta=0.2.")
]
Classes = Annotated[str | None, typer.Option(help="URL of a class list, one name a line.")]
RunUrl = Annotated[str, typer.Argument(metavar="RUN", help="URL of a run's folder.")]
Epoch = Annotated[
    int | None, typer.Option(help="Use the checkpoint from the end of this epoch. Default: the newest.", min=1)
]
Engine = Annotated[
    Literal["auto", "ray", "local"], typer.Option(help="ray: a cluster; local: this process; auto: as in training.")
]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Also where another process trains the run; that one stops.")
]
Address = Annotated[str | None, typer.Option(help="Address of a Ray cluster. Default: start one on this machine.")]
Processes = Annotated[int | None, typer.Option(help="Number of processes. Default: one per core.", min=1)]
ConfigFile = Annotated[str | None, typer.Option("--config", help="URL of a YAML file with settings.")]


def settings_from(name: str, overrides: list[str] | None, config_url: str | None) -> TrainConfig:
    """The settings of a run: recipe, file, `key=value`."""
    from adaptfocus.pipelines.config import make
    from adaptfocus.trainers.config import TrainConfig

    values = recipe(name)
    if config_url:
        values = _merged(values, settings_file(config_url))
    return make(TrainConfig, values, overrides or [])


def settings_file(config_url: str) -> dict:
    """The keys of a YAML file, and their values as texts, which `make` reads as each setting's type says."""
    from adaptfocus.pipelines import storage
    from adaptfocus.pipelines.setting_values import read_yaml

    given = read_yaml(storage.read_bytes(config_url), config_url) or {}
    if not isinstance(given, dict):
        kind = "a list" if isinstance(given, list) else "text"
        raise ConfigError(f"{config_url} holds {kind}; wanted settings, one a line, such as epochs: 8")
    return given


def placed(config: TrainConfig, overrides: list[str] | None) -> TrainConfig:
    """The settings of a run, with others of where things run.

    Raises:
        ConfigError: an override is of anything else: that would be another run.
    """
    from adaptfocus.pipelines.config import make
    from adaptfocus.trainers.config import TrainConfig

    strange = [each for each in overrides or [] if not each.startswith("placement.")]
    if strange:
        raise ConfigError(f"--set {strange[0]}: only settings under placement may differ from the run's")
    return make(TrainConfig, config.model_dump(), overrides or [])


def counts_line(out: Console, title: str, counts: dict[str, int], examples: list[str] | None = None) -> None:
    """One line of counts by kind, and the first examples; nothing if there are none."""
    if not counts:
        return
    out.print(f"  {title}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))
    for example in (examples or [])[:3]:
        out.print(f"    {example}", markup=False, highlight=False, soft_wrap=True)


def many(count: int, noun: str) -> str:
    """``1 video``, ``2 videos``, ``3 classes``, ``4 batches``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


def _merged(below: dict, above: dict) -> dict:
    both = {k: _merged(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return below | above | both
