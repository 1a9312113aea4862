"""Which classes a run has found, judged against chance within a few epochs.

Each class's spikes are tested against those of the videos without the tag: a spike is the highest bin of an action's
saliency over a video. The error rate is 5 % over all classes together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.trainers.runs.log import SUMMARY, Run
from adaptfocus.trainers.settings.run import TrainConfig

BY_CHANCE = 0.05  # probability that any class of a run is called found by chance
BEYOND_CHANCE = NormalDist().inv_cdf(1 - BY_CHANCE)  # the z that one test needs
NAMED = 8  # classes in a sentence
EPOCHS = 3  # with focusing, before it is judged


@dataclass(frozen=True)
class ClassFound:
    """One class tested against chance; `is_found` is None if there are too few videos to tell."""

    name: str
    bags: int
    above_untagged: float | None  # mean share of the videos without the tag that a video with the tag exceeds
    needed: float | None  # the share from which the class counts as found
    is_found: bool | None
    z: float | None = None  # standard deviations by which `above_untagged` exceeds .5
    z_at_most: float | None = None  # of a perfect ranking


@dataclass(frozen=True)
class Findings:
    """What is known about a run's classes after an epoch (counted from 1)."""

    epoch: int
    classes: Sequence[ClassFound]
    sentence: str = ""
    too_early: str = ""  # why it is too early to judge, as a sentence; it ends `sentence`

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

    def together(self, names: Iterable[str]) -> tuple[float, float] | None:
        """(z of these classes together, z of perfect rankings), by Stouffer's sum; None if none of them was ranked.

        It shows a little evidence in many classes, each of which is too weak to be called found.
        """
        wanted = set(names)
        ranked = [(c.z, c.z_at_most) for c in self.classes if c.name in wanted and c.z is not None]
        if not ranked:
            return None
        own, best = (sum(z or 0.0 for z in values) / sqrt(len(ranked)) for values in zip(*ranked, strict=True))
        return own, best


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
    """The findings after the epoch of a summary, with a sentence; None if no class was ranked."""
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
        sentence += f"; not found: {listed(told.not_found)} (spikes stand out no more than in videos without the tag)"
    too_early = ""
    if told.not_found and not can_be_judged(config, told.epoch):
        begins = f"focusing begins after epoch {config.focus.warmup_epochs}" if early else f"it takes {EPOCHS} epochs"
        too_early = f"It is too early to judge: {begins}."
    return Findings(told.epoch, told.classes, f"{sentence}. {too_early}".strip(), too_early)


def can_be_judged(config: TrainConfig, epoch: int) -> bool:
    """Whether EPOCHS epochs (of focusing, in the regime `ours`) have ended with this one, counted from 1."""
    first = config.focus.warmup_epochs if config.focus.regime == "ours" else 0
    return epoch - first >= EPOCHS


def listed(names: Sequence[str]) -> str:
    """`left, tick, wave and 3 more`."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _needed(classes: int) -> float:
    """The z that one class must reach, so that any of `classes` reaches it by chance in at most 5 % of cases."""
    return NormalDist().inv_cdf(1 - BY_CHANCE / classes)


def _class(name: str, evidence: Mapping[str, Any], can_tell: bool, needed: float) -> ClassFound:
    above, z, at_most = evidence["above_untagged"], evidence["z"], evidence["z_at_most"]
    share = 0.5 + 0.5 * needed / at_most if can_tell else None
    return ClassFound(name, evidence["bags"], above, share, z >= needed if can_tell else None, z, at_most)
