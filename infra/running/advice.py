"""What to change in a run that has not found some classes: settings, in the order in which they helped.

The measurements are in docs/results.md and docs/method.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptfocus.trainers.backbones.specs import BACKBONES, HEAD
from adaptfocus.trainers.settings.run import TrainConfig

LONG = 60  # epochs, of the longest runs of docs/results.md
MORE_VIDEOS = "More videos of these classes, by more people."
HIGH_RATE = {"small3d": 7e-3, "r2plus1d_tiny": 3e-3}  # peak rates that held; twice these broke the discovery
FREES = {"negative_focus": 0.7, "rivalry": 1, "noisy_or": 1}  # what the recipes focused and small have


def advice(summary: Mapping[str, Any], config: TrainConfig) -> tuple[str, ...]:
    """What helps by the measurements, and the run does not use yet; then how to check where the fault lies;
    last, more videos."""
    told = [_free(config), *_start(config), _rate(config), _longer(config), _bigger(config), *_checks(summary, config)]
    return (*(said for said in told if said), MORE_VIDEOS)


def patience(config: TrainConfig) -> tuple[str, ...]:
    """What helps a run that is learning."""
    return (*(said for said in [_longer(config)] if said), MORE_VIDEOS)


def _free(config: TrainConfig) -> str:
    missing = [f"focus.{key}={value:g}" for key, value in FREES.items() if not getattr(config.focus, key)]
    if config.focus.regime != "ours" or not missing:
        return ""
    return f"Free focusing from its trap: {' '.join(missing)}, as in the recipes focused and small."


def _start(config: TrainConfig) -> list[str]:
    """An input that learns from scratch, and weights to start from."""
    if config.weights or config.start_from or config.features:
        return []
    told = []
    if not BACKBONES[config.backbone].has_public_weights:
        if config.input.motion == "rgb" and config.backbone == "small3d":
            told.append("input.motion=auto: from scratch on RGB, small3d learnt nothing of real people.")
        elif config.input.motion == "rgb":
            told.append(
                "input.motion=zero_mean_kernels, if movement tells the actions apart: from scratch on RGB, nothing was "
                "learnt of real people."
            )
    told.append(
        f"A start: `adaptfocus pretrain {config.index} --out start.pt --backbone {config.backbone}`, then "
        "weights=start.pt. In one measurement it took right salient times from 40 to 77 %."
    )
    return told


def _rate(config: TrainConfig) -> str:
    rate, held = config.optim.learning_rate, HIGH_RATE.get(config.backbone)
    if held is None or rate <= held:
        return ""
    return f"A lower optim.learning_rate (now {rate:g}): {held:g} held for {config.backbone}; higher rates find less."


def _longer(config: TrainConfig) -> str:
    if stretch := config.plan.bags_per_epoch:
        return (
            f"More epochs (now {config.epochs} of {stretch} bags): on real people a quarter of the salient times were "
            "right after 20 passes over the corpus, two thirds after 60."
        )
    if config.epochs >= LONG:
        return ""
    return (
        f"More epochs (now {config.epochs}): on real people a quarter of the salient times were right after 20, two "
        "thirds after 60."
    )


def _bigger(config: TrainConfig) -> str:
    if config.backbone == HEAD:
        return "Features of another backbone: a head can find only what its features tell apart."
    if config.backbone == "small3d":
        return "A bigger backbone: backbone=r2plus1d_tiny optim.learning_rate=3e-3, as in the recipe small."
    if not BACKBONES[config.backbone].has_public_weights:
        return (
            "A bigger backbone with public weights, such as backbone=x3d_s weights=URL (`adaptfocus backbones` lists "
            "them)."
        )
    return ""


def _checks(summary: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """Other regimes that tell whether focusing, or backbone and input, are at fault."""
    told = []
    if config.focus.regime == "ours":
        told.append("As a check, the same run with focus.regime=noisy: if that finds them, focusing is what lost them.")
    if config.focus.regime != "full" and not config.features:
        where = "this index has intervals" if summary.get("hit_rate") is not None else "on videos with intervals"
        told.append(
            f"To check backbone and input, the same run with focus.regime=full ({where}): if that does not find them "
            "either, change these first."
        )
    return told
