"""What a run's epoch summaries warn of, with reasons, and what to change.

The report, the last lines of a training and `adaptfocus watch` show this list. docs/method.md says what it rests on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Any

from adaptfocus.infra.running.advice import MORE_VIDEOS, advice, patience
from adaptfocus.infra.running.found import (
    BEYOND_CHANCE,
    EPOCHS,
    NAMED,
    Findings,
    can_be_judged,
    count_found,
    findings,
    listed,
)
from adaptfocus.pipelines import store
from adaptfocus.trainers.runs.log import SUMMARY, Run
from adaptfocus.trainers.settings.run import TrainConfig

SLOW = 40  # epochs; so long, good runs may show nothing (docs/method.md)
FEW_POSITIVES = 0.05  # share of positives left unmasked
TOP_WEIGHT = 3.0  # the weight that AF and CF give the moments of their choice (docs/method.md, The trap)


@dataclass(frozen=True)
class RunWarning:
    """One warning. `kind` is a stable word, for programs."""

    kind: str  # locked_onto_chance, at_chance, not_found, too_few_videos, few_positives
    says: str
    reasons: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()  # the first is what helps most


def warnings_of(summaries: Sequence[Mapping[str, Any]], config: TrainConfig) -> list[RunWarning]:
    """The warnings of a run after its newest epoch; none before EPOCHS epochs with focusing.

    Args:
        summaries: of the epochs in order, the newest last; the last EPOCHS of them are enough.
    """
    recent = [told for summary in summaries[-EPOCHS:] if (told := count_found(summary))]
    if config.task != "labels" or not recent or recent[-1].epoch != summaries[-1]["epoch"] + 1:
        return []
    if not can_be_judged(config, recent[-1].epoch):
        return []
    told = recent[-1]
    about = [
        _of_classes(recent, summaries[-EPOCHS:], config) if told.not_found else None,
        _of_positives(summaries[-1], config),
    ]
    return [*(each for each in about if each), *([_of_too_few(told)] if told.too_few else [])]


def describe_at_end(config: TrainConfig) -> list[str]:
    """What the terminal says about the classes when a run ends; empty if no class was ranked."""
    run = Run(config.url)
    urls = [run.epoch_url(epoch, SUMMARY) for epoch in range(max(0, config.epochs - EPOCHS), config.epochs)]
    summaries = [json.loads(store.read_bytes(url)) for url in urls if store.exists(url)]
    told = findings(summaries[-1], config) if summaries else None
    if told is None:
        return []
    return [told.sentence, *(line for warning in warnings_of(summaries, config) for line in lines_of(warning))]


def lines_of(warning: RunWarning) -> list[str]:
    """A warning as lines of text: what it says, why, and what to change."""
    said = [f"warning: {warning.says}", *(f"  {reason}" for reason in warning.reasons)]
    return said + [f"  {'what to change: ' if not n else '  '}{each}" for n, each in enumerate(warning.changes)]


def _of_classes(recent: Sequence[Findings], summaries: Sequence[Mapping[str, Any]], config: TrainConfig) -> RunWarning:
    """The warning about classes that are not found in the newest epoch: at chance, or not found yet."""
    told, summary = recent[-1], summaries[-1]
    changes = advice(summary, config)
    not_found = f"{len(told.not_found)} of {told.judged} classes are not found."
    (all_z, best), (rest_z, _) = (
        _together(recent, names) for names in ([*told.found, *told.not_found], told.not_found)
    )
    facts = (*_trend(recent, all_z >= BEYOND_CHANCE), *_by_class(told), *_of_truth(summary))
    if best / 2 < BEYOND_CHANCE:  # for a ranking half as good as a perfect one
        few = "There are so few videos that even a good ranking of them would hardly show."
        return RunWarning("not_found", not_found, (few, *facts), (MORE_VIDEOS, *changes[:-1]))
    if config.focus.regime != "ours":
        return RunWarning("not_found", not_found, facts, changes)
    if rest_z >= BEYOND_CHANCE:
        learnt = f"Together these stand out against chance ({_z_of(rest_z, recent)}): some of them are being learnt."
        return RunWarning("not_found", not_found, (learnt, *facts), patience(config))
    facts += _of_recency(told, summary, config)
    if all_z >= BEYOND_CHANCE:
        chance = f"Together these stand out no more than by chance ({_z_of(rest_z, recent)})."
        says = f"Nothing shows that focusing has found {len(told.not_found)} of {told.judged} classes."
        return RunWarning("at_chance", says, (chance, *facts), changes)
    chance = f"All {told.judged} classes together stand out no more than by chance ({_z_of(all_z, recent)})."
    if sure := _sureness(summaries):
        says = "Focusing has locked onto chance: it trains on moments of its own choice, not on the actions."
        return RunWarning("locked_onto_chance", says, (chance, sure, *facts), changes)
    slow = "The test is cautious: on real people, a run that ended well showed no more for 30 epochs."
    says = "Nothing shows yet that focusing has found any class."
    return RunWarning("at_chance", says, (chance, *([slow] if told.epoch <= SLOW else []), *facts), changes)


def _together(recent: Sequence[Findings], names: Sequence[str]) -> tuple[float, float]:
    """(z, z of perfect rankings) of these classes together, each the mean of these epochs."""
    found = [both for each in recent if (both := each.together(names))]
    return (fmean(z for z, _ in found), fmean(best for _, best in found)) if found else (0.0, 0.0)


def _z_of(z: float, recent: Sequence[Findings]) -> str:
    epochs = f"epochs {recent[0].epoch} to {recent[-1].epoch}"
    return f"z = {z:.1f} over {epochs}; {BEYOND_CHANCE:.1f} would be beyond chance"


def _trend(recent: Sequence[Findings], beyond_chance: bool) -> tuple[str, ...]:
    """How the number of found classes has gone; a change means nothing if all classes together are at chance."""
    counts = [len(each.found) for each in recent]
    if len(set(counts)) < 2:
        return ()
    rising = " The number rises: wait." if beyond_chance and counts == sorted(counts) else ""
    return (f"Classes found in the last {len(counts)} epochs: {', '.join(map(str, counts))}.{rising}",)


def _by_class(told: Findings) -> tuple[str, ...]:
    """The evidence of each class that is not found."""
    missing = [c for c in told.classes if c.is_found is False][:NAMED]
    each = ", ".join(f"{c.name} {_percent(c.above_untagged)} (needs {_percent(c.needed)})" for c in missing)
    more = ", ..." if len(told.not_found) > NAMED else ""
    return (f"A video with the tag exceeds this share of the videos without it; chance gives 50 %: {each}{more}.",)


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.0f} %"


def _of_truth(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What the index's intervals say; nothing if it has none."""
    rate = summary.get("hit_rate")
    return () if rate is None else (f"By the index's intervals, {_percent(rate)} of all salient times are right.",)


def _sureness(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Evidence that a choice confirms itself: spikes near the p that the trap predicts. Empty if they are not.

    A moment that every video has gets p = pi from tags alone, pi the share of videos with a tag. Chosen as a positive
    with the weight TOP_WEIGHT, it gets TOP_WEIGHT pi / (TOP_WEIGHT pi + 1 - pi).
    """
    spike = max(each.get("mean_spike_actionness") or 0.0 for each in summaries)
    evidence = summaries[-1]["evidence"].values()
    videos = (summaries[-1].get("bags_trained") or 0) * len(evidence)
    pi = sum(max(e["bags"], e["salient"] or 0) for e in evidence) / videos if videos else 0.0
    trap = TOP_WEIGHT * pi / (TOP_WEIGHT * pi + 1 - pi) if 0 < pi < 1 else 1.0
    if spike < (pi + trap) / 2:
        return ""
    return (
        f"Yet the model is sure of its moments: mean spike {spike:.2f}, where any moment has {pi:.2f} by the tags. A "
        "choice that confirms itself looks like this (docs/method.md, The trap)."
    )


def _of_recency(told: Findings, summary: Mapping[str, Any], config: TrainConfig) -> tuple[str, ...]:
    """Whether salient times follow when a moment was last visited more than what was seen there."""
    if config.plan.resample:  # which returns to salient times on purpose
        return ()
    excess = recency_excess(summary, told.not_found)
    if excess is None or excess[2] < BEYOND_CHANCE:
        return ()
    return (
        f"Their salient times favour the newest visits: {_percent(excess[0])} were last visited in epoch {told.epoch}; "
        f"of all visited moments, {_percent(excess[1])} were. When the model looked counts, and not only what it saw.",
    )


def recency_excess(summary: Mapping[str, Any], names: Sequence[str]) -> tuple[float, float, float] | None:
    """(share of these classes' salient times last visited in this epoch, share of all visited moments, z of the
    difference); None if nothing can be compared."""
    evidence = [summary["evidence"][name] for name in names]
    keys = ("salient", "salient_new", "salient_new_by_chance", "salient_new_variance")
    pairs, new, by_chance, variance = (sum(e[key] or 0.0 for e in evidence) for key in keys)
    return (new / pairs, by_chance / pairs, (new - by_chance) / sqrt(variance)) if variance else None


def _of_too_few(told: Findings) -> RunWarning:
    return RunWarning(
        "too_few_videos",
        f"Too few videos with the tag, or without it, to tell: {listed(told.too_few)}.",
        changes=("More videos with these classes, or without them where nearly all videos have them.",),
    )


def _of_positives(summary: Mapping[str, Any], config: TrainConfig) -> RunWarning | None:
    share = summary.get("share_unmasked")
    if share is None or share >= FEW_POSITIVES:
        return None
    key, now = ("delta", config.focus.delta) if config.focus.delta_seconds is None else (
        "delta_seconds", config.focus.delta_seconds)  # fmt: skip
    return RunWarning(
        "few_positives",
        f"Focusing masks nearly all positives: {100 * share:.1f} % of them are left to train on.",
        changes=(f"A larger focus.{key} (now {now:g}), or more clips a video (plan.clips_per_bag).",),
    )
