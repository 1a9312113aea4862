"""The weights of a run before its first step: from `weights` (a file) or `start_from` (a finished run).

A run to start from must be finished, and must have this run's model and classes. Its last weights are loaded. A digest
identifies the start, whatever its URL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import nn

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.runs.growth import classes_of_run, weights_of_classes
from adaptfocus.trainers.runs.log import RESTORE, SALIENCY, Commit, Run
from adaptfocus.trainers.settings.run import TrainConfig


def digest(config: TrainConfig) -> str | None:
    """The SHA-256 of the weights that a run begins with; None if they are drawn."""
    if url := config.weights_url:
        return hashlib.sha256(store.read_bytes(url)).hexdigest()
    return _end_of(config.start_from)[1].state_sha256 if config.start_from else None


def check(config: TrainConfig, classes: Sequence[str], model: nn.Module) -> None:
    """Check that this run can start from the run that `start_from` names.

    Raises:
        ConfigError: that run is not finished, or has another backbone, other classes or weights of other shapes.
    """
    if not config.start_from:
        return
    settings, _ = _end_of(config.start_from)
    theirs = classes_of_run(Run(config.start_from))
    instead = (
        f"Export its weights (`adaptfocus export-model {config.start_from} --out weights.pt`) and begin with "
        "weights=weights.pt: then the head is a new one"
    )
    if settings.backbone != config.backbone:
        raise ConfigError(
            f"start_from={config.start_from} has backbone={settings.backbone}, and this run has "
            f"backbone={config.backbone}; give backbone={settings.backbone}"
        )
    if theirs != list(classes):
        first = next((c for c in [*theirs, *classes] if (c in theirs) != (c in classes)), "their order")
        raise ConfigError(
            f"start_from={config.start_from} was trained on {len(theirs)} classes, and {config.index} has "
            f"{len(classes)}; they differ, first in: {first}. Index these videos with that run's class list "
            f"(--classes). {instead}"
        )
    load(config, model)


def load(config: TrainConfig, model: nn.Module) -> None:
    """Load the last weights of the run that `start_from` names into `model`, head included.

    Raises:
        ConfigError: they have other shapes, for example because settings under `input` differ.
        DamagedStateError: they differ from what was committed.
    """
    assert config.start_from
    run, (_, commit) = Run(config.start_from), _end_of(config.start_from)
    try:
        state, own = weights_of_classes(run, commit, len(classes_of_run(run))), model.state_dict()
        for name in (name for name in state if name.startswith("head.")):  # room for more classes stays new
            state[name] = torch.cat([state[name], own[name][len(state[name]) :].to(state[name])])
        model.load_state_dict(state)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"the weights of start_from={config.start_from} do not fit this run's model ({why}); use that run's "
            "settings of `input` and `backbone`"
        ) from None


def _end_of(url: str) -> tuple[TrainConfig, Commit]:
    run = Run(url)
    if not store.exists(run.at("config.json")):
        raise ConfigError(f"start_from={url} is not a run: it has no config.json; give the URL of a run's folder")
    settings = make(TrainConfig, strict_json.read(run.at("config.json"), RESTORE))
    _, commit = run.newest()
    if commit is None or not store.exists(run.epoch_url(settings.epochs, SALIENCY)):
        where = f"at epoch {commit.epoch + 1} of {settings.epochs}" if commit else "not begun"
        raise ConfigError(f"start_from={url} is not finished ({where}); give its command again to finish it first")
    return settings, commit
