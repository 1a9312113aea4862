"""Which classes a run has found, in words, and what to change: judged against chance, within a few epochs.

Each class's spikes are tested against those of the videos without the tag: a spike is the highest bin of an action's
saliency over a video. The error rate is 5 % over all classes together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.trainers.runs.epochs import SUMMARY
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.run import TrainConfig

BY_CHANCE = 0.05  # probability that any class of a run is called found by chance
NAMED = 8  # classes in a sentence
LONG = 60  # epochs, of the longest runs of docs/results.md


@dataclass(frozen=True)
class ClassFound:
    """One class tested against chance; `is_found` is None if there are too few videos to tell."""

    name: str
    bags: int
    above_untagged: float | None  # mean share of the videos without the tag that a video with the tag exceeds
    needed: float | None  # the share from which the class counts as found
    is_found: bool | None


@dataclass(frozen=True)
class Findings:
    """What is known about a run's classes after an epoch (counted from 1), with advice."""

    epoch: int
    classes: Sequence[ClassFound]
    sentence: str = ""
    notes: Sequence[str] = ()
    advice: Sequence[str] = ()

    @property
    def found(self) -> list[str]:
        return [c.name for c in self.classes if c.is_found]

    @property
    def not_found(self) -> list[str]:
        return [c.name for c in self.classes if c.is_found is False]

    @property
    def too_few(self) -> list[str]:
        return [c.name for c in self.classes if c.is_found is None]

    @property
    def judged(self) -> int:
        return len(self.classes) - len(self.too_few)

    @property
    def short(self) -> str:
        """`5 of 8 classes found`; classes with too few videos are not counted."""
        return f"{len(self.found)} of {self.judged} classes found"


def count_found(summary: Mapping[str, Any]) -> Findings | None:
    """The classes of a summary, tested against chance, without words; None if no class was ranked."""
    evidence = summary.get("evidence") or {}
    ranked = sorted((n for n, e in evidence.items() if e["z"] is not None), key=lambda n: -evidence[n]["z_at_most"])
    if not ranked:
        return None
    # One-sided, with Bonferroni's correction. Classes too rare for any ranking to find them do not count.
    judged = next((n for n in range(len(ranked), 0, -1) if evidence[ranked[n - 1]]["z_at_most"] >= _needed(n)), 0)
    can, needed = set(ranked[:judged]), _needed(max(judged, 1))
    return Findings(summary["epoch"] + 1, [_class(name, e, name in can, needed) for name, e in evidence.items()])


def newest_found(run: Run, epoch: int) -> Findings | None:
    """The classes by a run's newest summary: that of `epoch`, the current one, if it is merged, or the one before."""
    for number in (epoch, epoch - 1):
        if number >= 0 and store.exists(url := run.epoch_url(number, SUMMARY)):
            return count_found(json.loads(store.read_bytes(url)))
    return None


def findings(summary: Mapping[str, Any], config: TrainConfig) -> Findings | None:
    """The findings after the epoch of a summary, in words; None if no class was ranked."""
    told = count_found(summary)
    if told is None:
        return None
    focusing = config.focus.active(told.epoch - 1)
    early = config.focus.regime == "ours" and not focusing
    who = "Focusing" if focusing else "The warm-up" if early else "Training"
    sentence = f"{who} has found {len(told.found)} of {told.judged} classes after epoch {told.epoch}"
    if not told.judged:
        sentence = f"After epoch {told.epoch} it cannot be told whether classes are found"
    if told.not_found:
        sentence += f"; not found: {_listed(told.not_found)} (spikes stand out no more than in videos without the tag)"
    notes = []
    if told.not_found and focusing:
        notes.append("Nothing shows that focusing trains on the action there, and not on random moments.")
    if told.not_found and not (focusing and config.plan.resample):  # plan.resample returns to salient times on purpose
        notes += _of_recency([summary["evidence"][name] for name in told.not_found], told.epoch)
    if told.too_few:
        notes.append(f"Too few videos with the tag, or without it, to tell: {_listed(told.too_few)}.")
    if early and told.not_found:
        notes.append(f"It is too early to judge: focusing begins after epoch {config.focus.warmup_epochs}.")
    advice = _advice(config) if told.not_found and not early else []
    return Findings(told.epoch, told.classes, sentence + ".", notes, advice)


def describe_at_end(config: TrainConfig) -> list[str]:
    """What the terminal says about the classes when a run ends; empty if no class was ranked."""
    url = Run(config.url).epoch_url(config.epochs - 1, SUMMARY)
    told = findings(json.loads(store.read_bytes(url)), config) if store.exists(url) else None
    if told is None:
        return []
    change = [f"what to change: {told.advice[0]}", *(f"  {said}" for said in told.advice[1:])] if told.advice else []
    return [told.sentence, *told.notes, *change]


def _needed(classes: int) -> float:
    """The z that one class must reach, so that any of `classes` reaches it by chance in at most 5 % of cases."""
    return NormalDist().inv_cdf(1 - BY_CHANCE / classes)


def _class(name: str, evidence: Mapping[str, Any], can_tell: bool, needed: float) -> ClassFound:
    above, z = evidence["above_untagged"], evidence["z"]
    share = 0.5 + 0.5 * needed / evidence["z_at_most"] if can_tell else None
    return ClassFound(name, evidence["bags"], above, share, z >= needed if can_tell else None)


def _of_recency(evidence: Sequence[Mapping[str, Any]], epoch: int) -> list[str]:
    """A note if salient times follow when a moment was last visited more than what was seen there."""
    names = ("salient", "salient_new", "salient_new_by_chance", "salient_new_variance")
    pairs, new, by_chance, variance = (sum(e[name] for e in evidence) for name in names)
    if not variance or new - by_chance < NormalDist().inv_cdf(1 - BY_CHANCE) * sqrt(variance):
        return []
    share, chance = (f"{100 * number / pairs:.0f} %" for number in (new, by_chance))
    return [
        f"Their salient times favour the newest visits: {share} were last visited in epoch {epoch}; of all visited "
        f"moments, {chance} were. When the model looked counts, and not only what it saw."
    ]


def _advice(config: TrainConfig) -> list[str]:
    """What helps by the measurements in docs/results.md and docs/method.md, and the run does not use yet."""
    focus, told = config.focus, []
    if focus.regime == "ours" and not (focus.negative_focus and focus.noisy_or):
        told.append(
            "Free focusing from its trap: the recipe focused, or focus.negative_focus=0.7 focus.rivalry=1 "
            "focus.noisy_or=1 (docs/method.md, The trap)."
        )
    if config.backbone == "small3d" and config.input.motion == "rgb" and not (config.weights or config.start_from):
        told.append("input.motion=auto: from scratch on RGB, small3d learnt nothing of real people.")
    if not (config.weights or config.start_from or config.features):
        told.append("Pre-trained weights: weights=URL, of a backbone that was trained on other clips.")
    if config.epochs < LONG:
        told.append(
            f"More epochs (now {config.epochs}): on real people a quarter of the salient times were right after 20, "
            "two thirds after 60."
        )
    if focus.regime == "ours":
        told.append("As a check, the same run with focus.regime=noisy: if that finds them, focusing is what lost them.")
    return [*told, "More videos of these classes, by more people."]


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
