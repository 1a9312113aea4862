"""A backbone without its head, which turns windows into features: one vector or one map for each window. With its head,
it gives the probabilities of all classes.

Windows are prepared as training prepares clips.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.trainers.backbones import build, load_pretrained, place_of_weights
from adaptfocus.trainers.inputs.model_input import adapt_backbone, build_adapted, to_model_input
from adaptfocus.trainers.runs.growth import weights_of_classes
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.on_features import refuse
from adaptfocus.trainers.settings.run import TrainConfig

Kind = Literal["pooled", "maps", "scores"]


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint, or those of a file; its URL may be "packaged"."""

    sha256: str
    commit: Commit | None = None
    url: str | None = None

    @property
    def facts(self) -> dict[str, object]:
        """What identifies them."""
        if self.commit is None:
            return {"checkpoint": None, "epoch": None, "weights": self.url, "weights_sha256": self.sha256}
        named = {"checkpoint": self.commit.number, "epoch": self.commit.epoch}
        return {**named, "weights": None, "weights_sha256": self.sha256}


def weights_of(
    config: TrainConfig, epoch: int | None = None, start: bool = False, weights_url: str | None = None
) -> Weights:
    """The newest checkpoint of a run, that at the end of an epoch, the run's pre-trained start, or a file of your own.

    Raises:
        ConfigError: more than one of them is asked for, or the run had no pre-trained start, or it has no backbone.
        InputError: the run has no such checkpoint.
    """
    refuse(config, "extract from")
    if (epoch is not None) + start + (weights_url is not None) > 1:
        raise ConfigError("--epoch, --start and --weights exclude each other; give only one of them")
    url = weights_url or (config.weights if start else None)
    if start and url is None:
        raise ConfigError(f"{config.url} began from fresh weights, which give no features; name a file with --weights")
    if url is not None:
        data = store.read_bytes(place_of_weights(config.backbone, url))
        return Weights(hashlib.sha256(data).hexdigest(), url=url)
    run = Run(config.url)
    commit = run.newest()[1] if epoch is None else run.end_of_epoch(epoch)
    if commit is None:
        raise InputError(f"{config.url} has no checkpoint yet; train it first, or use its start (--start)")
    state_url = run.at(commit.folder or "", "state.pt")
    sha256 = commit.state_sha256 or hashlib.sha256(store.read_bytes(state_url)).hexdigest()
    return Weights(sha256, commit=commit)


class FeatureModel:
    """A backbone, ready for windows.

    Raises:
        AdaptFocusError: the weights are not those of the run's backbone.
    """

    def __init__(self, config: TrainConfig, num_classes: int, weights: Weights, kind: Kind) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.input, self.kind = config.input, kind
        self.model: nn.Module = _loaded(config, num_classes, weights).to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Windows as the decoder writes them, uint8 [B, T, C, H, W] -> float32 [B, D], or maps [B, H', W', D].

        Scores are probabilities [B, K]. Maps are the mean over the time of a window. The features of a window do not
        depend on other windows.
        """
        clips = to_model_input(torch.from_numpy(frames).to(self.device), self.model, self.input)
        if self.kind == "scores":
            found = torch.sigmoid(self.model(clips))
        elif self.kind == "pooled":
            found = self.model.pooled(clips)  # type: ignore[operator]
        else:
            found = self.model.feature_maps(clips).mean(dim=2).movedim(1, 3)  # type: ignore[operator]
        return found.float().cpu().numpy()


def _loaded(config: TrainConfig, num_classes: int, weights: Weights) -> nn.Module:
    if weights.commit is not None:
        model = build_adapted(config.backbone, num_classes, config.input)
        model.load_state_dict(weights_of_classes(Run(config.url), weights.commit, num_classes))
        return model
    model = build(config.backbone, num_classes)
    load_pretrained(model, place_of_weights(config.backbone, weights.url or ""))
    return adapt_backbone(model, config.input)
