"""Training on features that were extracted beforehand, instead of frames.

The features of a run must be complete and of its index. Those of an evaluation must also be made like the ones that the
run was trained on. This module checks that, gives the stream its source of clips (`pipelines.features.clips`), and
gives the head the right width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features.clips import FeatureSource
from adaptfocus.pipelines.features.store import FeatureSet, open_features
from adaptfocus.pipelines.index.load import IndexFacts
from adaptfocus.pipelines.settings import differences
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.backbones import Backbone, build
from adaptfocus.trainers.runs.log import RESTORE, Run
from adaptfocus.trainers.settings.run import TrainConfig

# Keys of features.json that say how a feature was made. Features of two indexes that agree in them may be compared.
MADE_BY = ("kind", "backbone", "weights_sha256", "window", "decode", "motion", "stride_seconds", "feature_shape")
NAMED = 3  # the most videos that a message names


def model_of(config: TrainConfig, num_classes: int) -> nn.Module:
    """A new model of the run. The input of a head on features has the width of these features."""
    model = build(config.backbone, num_classes)
    if config.features and isinstance(model, Backbone):
        model.take_form({"norm.weight": torch.Size([open_features(config.features).dim])})
    return model


def source_of(config: TrainConfig) -> FeatureSource | None:
    """The features from which training reads its clips; None: clips are decoded."""
    return FeatureSource.of(open_features(config.features), config.index, config.clip) if config.features else None


def made_by(config: TrainConfig) -> dict[str, Any] | None:
    """How the features of a run were made, whatever their URL; None for a run on pixels."""
    return _made_by(open_features(config.features)) if config.features else None


def check(config: TrainConfig, index: IndexFacts) -> list[str]:
    """Check that the run's features fit its index -> lines for the user about missing videos and repeated steps.

    Raises:
        InputError: there are no features, or they are not complete.
        ConfigError: they belong to another index, or are maps; or too many videos have none.
    """
    if not config.features:
        return []
    found = _of_index(config.features, config.index, index.fingerprint)
    videos = index.videos
    missing = _missing(found, videos)
    if len(missing) > config.max_bad_share * videos:
        raise ConfigError(
            f"{_without(missing, videos, config.features)}; that is more than max_bad_share = "
            f"{config.max_bad_share:g} allows. Extract again what can be read now, or raise max_bad_share"
        )
    said = [f"{_without(missing, videos, config.features)}: left out after epoch 1"] if missing else []
    step = config.clip.stride_seconds(25.0)
    if config.clip.fps and step < 0.99 * found.stride_seconds:
        said.append(
            f"a clip takes a step of features every {step:g} s, and there is one every {found.stride_seconds:g} s: "
            f"some are taken twice. clip.fps={config.clip.frame_stride / found.stride_seconds:g} takes each once"
        )
    return said


def test_source(
    run: Run, config: TrainConfig, features_url: str | None, index_url: str, fingerprint: str
) -> FeatureSource | None:
    """The features from which an evaluation reads its clips; None: clips are decoded.

    Raises:
        ConfigError: a run on pixels got features, a run on features got none, or the features belong to another index
            or were made differently from those that the run was trained on.
        InputError: there are no features, or they are not complete.
    """
    if not config.features:
        if features_url:
            raise ConfigError(f"{run.url} was trained on pixels: leave --features out")
        return None
    trained_on = strict_json.read(run.at("index.json"), RESTORE)["features"]
    if not features_url:
        raise ConfigError(
            f"{run.url} was trained on features, and needs those of {index_url}: extract them with the same "
            f"weights ({trained_on['backbone']}) by `adaptfocus extract ... --index {index_url} "
            f"--stride-seconds {trained_on['stride_seconds']:g}`, and give --features"
        )
    found = _of_index(features_url, index_url, fingerprint)
    if changed := differences(trained_on, _made_by(found)):
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())
        raise ConfigError(
            f"the features at {features_url} were made differently from those that {run.url} was trained on "
            f"({listed}); extract them with the same weights and settings"
        )
    return FeatureSource.of(found, index_url, config.clip)


def refuse(config: TrainConfig, what: str) -> None:
    """Raise ConfigError if the run is a head on features, for which `what` is not possible."""
    if config.features:
        raise ConfigError(
            f"{config.url} is a head on the features at {config.features}, not a backbone: {what} the run that these "
            "were extracted from (`run` in their features.json; null if none trained their backbone)"
        )


def _of_index(url: str, index_url: str, fingerprint: str) -> FeatureSet:
    found = open_features(url)
    if found.facts["index_fingerprint"] != fingerprint:
        raise ConfigError(
            f"the features at {url} are not of the index {index_url}, but of {found.facts['index']} (or it has changed "
            "since); extract features of this index"
        )
    if found.kind != "pooled":
        raise ConfigError(f"the features at {url} are {found.kind}; training takes one vector a step: extract --pooled")
    if not len(found):
        raise InputError(f"the features at {url} hold no video at all; its refused/ says why")
    return found


def _made_by(found: FeatureSet) -> dict[str, Any]:
    return {key: found.facts[key] for key in MADE_BY}


def _missing(found: FeatureSet, videos: int) -> list[str]:
    """The videos of the index that have no features, each with its id, if that is known, and the reason."""
    refused = {row["video_row"]: f"{row['video_id']} ({row['kind']})" for row in found.refused()}
    there = set(found.described()["video_row"].to_pylist())
    return [refused.get(row, f"row {row} of the index (not among them)") for row in range(videos) if row not in there]


def _without(missing: Sequence[str], videos: int, url: str) -> str:
    more = ", ..." if len(missing) > NAMED else ""
    return f"{len(missing)} of {videos} videos have no features at {url}: {', '.join(missing[:NAMED])}{more}"
