"""Settings from a recipe, a file and key=value words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.settings.recipes import recipe

if TYPE_CHECKING:
    from adaptfocus.trainers.settings.run import TrainConfig  # brings torch, which help does not need: 3 s of a core


def settings_from(name: str, overrides: list[str] | None, config_url: str | None) -> TrainConfig:
    """The settings of a run: recipe, file, `key=value`."""
    from adaptfocus.pipelines.settings import make
    from adaptfocus.trainers.settings.run import TrainConfig

    values = recipe(name)
    if config_url:
        values = _merged(values, settings_file(config_url))
    return make(TrainConfig, values, overrides or [])


def settings_file(config_url: str) -> dict:
    """The keys of a YAML file, and their values as texts, which `make` reads as each setting's type says."""
    from adaptfocus.pipelines import store
    from adaptfocus.pipelines.setting_values import read_yaml

    given = read_yaml(store.read_bytes(config_url), config_url) or {}
    if not isinstance(given, dict):
        kind = "a list" if isinstance(given, list) else "text"
        raise ConfigError(f"{config_url} holds {kind}; wanted settings, one a line, such as epochs: 8")
    return given


def with_placement(config: TrainConfig, overrides: list[str] | None) -> TrainConfig:
    """The settings of a run, with others of where things run.

    Raises:
        ConfigError: an override is of anything else: that would be another run.
    """
    from adaptfocus.pipelines.settings import make
    from adaptfocus.trainers.settings.run import TrainConfig

    strange = [each for each in overrides or [] if not each.startswith("placement.")]
    if strange:
        raise ConfigError(f"--set {strange[0]}: only settings under placement may differ from the run's")
    return make(TrainConfig, config.model_dump(), overrides or [])


def _merged(below: dict, above: dict) -> dict:
    both = {k: _merged(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return below | above | both
