"""Settings from a recipe, a file and key=value words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.settings.recipes import recipe

if TYPE_CHECKING:
    from adaptfocus.trainers.settings.run import TrainConfig  # imports torch, which help does not need: 3 s of a core


def settings_from(name: str, overrides: list[str] | None, config_url: str | None) -> TrainConfig:
    """The settings of a run, from a recipe, a file and `key=value` words; the later override the earlier."""
    from adaptfocus.pipelines.settings import make
    from adaptfocus.trainers.settings.run import TrainConfig

    values = recipe(name)
    if config_url:
        values = _merged(values, settings_file(config_url))
    return make(TrainConfig, values, overrides or [])


def settings_file(config_url: str) -> dict:
    """The keys of a YAML file and their values as texts; `make` converts each to its setting's type."""
    from adaptfocus.pipelines import store
    from adaptfocus.pipelines.setting_values import read_yaml

    given = read_yaml(store.read_bytes(config_url), config_url) or {}
    if not isinstance(given, dict):
        kind = "a list" if isinstance(given, list) else "text"
        raise ConfigError(f"{config_url} holds {kind}; write one setting a line, such as epochs: 8")
    return given


def with_placement(config: TrainConfig, overrides: list[str] | None) -> TrainConfig:
    """The settings of a run, with other settings of where it runs.

    Raises:
        ConfigError: an override changes anything else, which would make it another run.
    """
    from adaptfocus.pipelines.settings import make
    from adaptfocus.trainers.settings.run import TrainConfig

    strange = [each for each in overrides or [] if not each.startswith("placement.")]
    if strange:
        raise ConfigError(f"--set {strange[0]}: only settings under placement may differ from the run's")
    return make(TrainConfig, config.model_dump(), overrides or [])


OF_WINDOWS = ("clip.", "decode.", "input.motion=", "read.", "placement.")


def without_run(
    backbone: str, weights: str | None, index: str, out_url: str, overrides: list[str] | None
) -> TrainConfig:
    """The settings of an extraction by a backbone that no run has trained. Their `name` and `runs` mean nothing.

    Without `weights` they are those of an installed package, if one has some.

    Raises:
        ConfigError: there are no such weights; a setting does not exist, or is about training; or the backbone does
            not take such windows.
    """
    from adaptfocus.pipelines.settings import make
    from adaptfocus.trainers.backbones.specs import PACKAGED, entry_of
    from adaptfocus.trainers.settings.run import TrainConfig

    entry = entry_of(backbone)
    if weights is None and entry.packaged is None:
        raise ConfigError(
            f"--backbone {backbone} gives no features without weights; give --weights URL (public ones: "
            f"{entry.weights}; docs/backbones.md)"
        )
    if strange := [each for each in overrides or [] if not each.startswith(OF_WINDOWS)]:
        raise ConfigError(
            f"--set {strange[0]}: nothing is trained here; only clip, decode, input.motion, read and placement can be "
            "set"
        )
    given = {"name": "extraction", "runs": out_url, "index": index, "backbone": backbone}
    config = make(TrainConfig, given | {"weights": weights or PACKAGED}, overrides or [])
    entry.spec.check(config.clip.frames, config.clip.size_pixels)
    config.decode.frame_shape(config.clip.size_pixels)
    return config


def _merged(below: dict, above: dict) -> dict:
    both = {k: _merged(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return below | above | both
