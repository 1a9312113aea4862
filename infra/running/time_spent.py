"""Where training spent its time, and which setting to change: the verdict that the report and `adaptfocus watch` give.

It rests on what commits have measured, so it needs only entries of the run's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptfocus.trainers.runs.log import Commit
from adaptfocus.trainers.runs.measured import READING, RETRIES
from adaptfocus.trainers.settings.run import TrainConfig

LITTLE = 0.1  # share of the time; a smaller share is not worth a change
MOSTLY = 0.7  # share of the waiting
MANY_RETRIES = 0.05  # a request; each costs a wait


@dataclass(frozen=True)
class TimeSpent:
    """How training spent its time; shares are in [0, 1]."""

    waiting: float  # share of the time in which training waited for clips
    at_epoch_starts: float  # share of that waiting before the first commit of an epoch
    decode_seconds: float  # per clip
    store_seconds: float  # per clip, in which its decoder waited for the store
    decode_workers: int | None = None  # None: training decodes in its own process
    stall: float = 0.0  # share of the time in which training stood still for commits
    commit_seconds: float = 0.0  # that writing a commit took
    commits_apart: str = ""  # the settings that say how often there is one
    retries: float = 0.0  # of a request to the store
    retried_for: str = ""  # the most common reason
    on_gpus: bool = False
    lead_batches: int | None = None


@dataclass(frozen=True)
class Bottleneck:
    """What limits the speed. `kind` is a stable word, for programs: model, decode, store, commit or epoch_starts."""

    kind: str
    says: str


def time_spent(entries: Sequence[Commit], config: TrainConfig) -> TimeSpent | None:
    """How a run spent its time by some entries of its log, in order; None if they measured nothing."""
    entries = [e for e in entries if e.kind == "checkpoint" and e.metrics.get("seconds")]
    names = (
        *READING,
        *RETRIES,
        "seconds",
        "input_wait_seconds",
        "commit_stall_seconds",
        "commit_write_seconds",
        "clips",
    )
    total = {name: sum(e.metrics.get(name, 0.0) for e in entries) for name in names}
    if not total["seconds"]:
        return None
    first = [now for before, now in zip([None, *entries], entries, strict=False) if begins_epoch(before, now)]
    waited, stalled = total["input_wait_seconds"], total["commit_stall_seconds"]
    at_starts = sum(e.metrics.get("input_wait_seconds", 0.0) for e in first) if len(first) < len(entries) else 0.0
    clips, place = max(total["clips"], 1), config.placement
    return TimeSpent(
        waiting=min(1.0, waited / total["seconds"]),
        at_epoch_starts=at_starts / waited if waited else 0.0,
        decode_seconds=total["decode_seconds"] / clips,
        store_seconds=total["wait_seconds"] / clips,
        decode_workers=None if place.engine == "local" else place.decode_workers,
        stall=stalled / (total["seconds"] + stalled),  # `seconds` ends where a commit begins
        commit_seconds=total["commit_write_seconds"] / len(entries),
        commits_apart=_commits_apart(config),
        retries=total["read_retries"] / max(total["read_requests"], 1),
        retried_for=max(RETRIES, key=lambda name: total[name]).removeprefix("read_retries_").replace("_", " "),
        on_gpus=place.gpus_per_worker > 0,
        lead_batches=config.plan.lead_batches,
    )


def begins_epoch(before: Commit | None, now: Commit) -> bool:
    """Whether an entry is the first of its epoch. The oldest one that is known counts only if nothing came before."""
    return now.previous is None if before is None else now.epoch != before.epoch


def bottleneck_of(spent: TimeSpent) -> Bottleneck:
    """What limits a run's speed, in a sentence with its evidence, and what to change."""
    if max(spent.waiting, spent.stall) < LITTLE:
        return _by_model(spent)
    if spent.stall >= spent.waiting:
        return Bottleneck(
            "commit",
            f"commit-bound: training stood still for commits {_percent(spent.stall)} of the time (writing one takes "
            f"{spent.commit_seconds:.1f} s). Commit less often (now {spent.commits_apart}), or to a faster store, and "
            "resume with the same command.",
        )
    waited = f"training waited for clips {_percent(spent.waiting)} of the time"
    if spent.at_epoch_starts > MOSTLY:
        now = "" if spent.lead_batches is None else f" (now {spent.lead_batches})"
        return Bottleneck(
            "epoch_starts",
            f"bound by the starts of epochs: {waited}, nearly all of it there. Raise plan.lead_batches{now}, in a new "
            "run; where an epoch has fewer than four batches, only more videos help.",
        )
    costs = (
        f"({1000 * spent.decode_seconds:.0f} ms of decoding a clip, {1000 * spent.store_seconds:.0f} ms of waiting for "
        "the store)"
    )
    kind = "store" if spent.store_seconds > spent.decode_seconds else "decode"
    return Bottleneck(kind, f"{kind}-bound: {waited} {costs}. {_change(kind, spent)}")


def _by_model(spent: TimeSpent) -> Bottleneck:
    what = "GPU-bound" if spent.on_gpus else "model-bound"
    faster = "placement.workers, step.compile=true or step.channels_last=true"
    return Bottleneck(
        "model",
        f"{what}: training waited for clips {_percent(spent.waiting)} of the time; the model takes most of it. Reading "
        f"needs no change. For faster steps, try {faster}.",
    )


def _change(kind: str, spent: TimeSpent) -> str:
    if kind == "store" and spent.retries >= MANY_RETRIES:
        return (
            f"{_percent(spent.retries)} of the requests were sent again, mostly because of: {spent.retried_for}. "
            "Take a store that allows more requests, or spread the shards over more prefixes."
        )
    if spent.decode_workers is None:
        return (
            "Store and decoder work in the training process itself. Train with placement.engine=ray and "
            "placement.decode_workers to read and decode in other processes."
        )
    if kind == "store":
        return (
            "Take a nearer or faster store, or raise placement.decode_workers "
            f"(now {spent.decode_workers}): more of them ask it for more at a time."
        )
    return (
        f"Raise placement.decode_workers (now {spent.decode_workers}), if there are free cores, and resume with the "
        "same command."
    )


def _commits_apart(config: TrainConfig) -> str:
    """`checkpoint.every_batches=100`: the limits that are set."""
    limits = {f"every_{name}": getattr(config.checkpoint, f"every_{name}") for name in ("batches", "clips", "seconds")}
    said = [f"checkpoint.{name}={value:g}" for name, value in limits.items() if value is not None]
    return ", ".join(said) or "only at the ends of epochs"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
