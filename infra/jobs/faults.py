"""What has gone wrong in a run so far, counted from the newest entries of its log, its newest summary and its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adaptfocus.infra.running.wording import many
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.index.snapshots import newest_snapshot
from adaptfocus.pipelines.video.table import NOTES
from adaptfocus.trainers.runs.log import Commit
from adaptfocus.trainers.runs.measured import RETRIES
from adaptfocus.trainers.settings.run import TrainConfig

NAMED = 3  # reasons in a sentence


@dataclass(frozen=True)
class Faults:
    """Counts; None: not known."""

    resumed: int | None = None  # how often a process took the run up again
    commits: int = 0  # over which retries are counted: the newest ones
    requests: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)  # by reason
    clips_not_decoded: int | None = None  # of the whole run, by its newest commit
    excluded: int | None = None  # videos left out after the newest merged epoch, because they do not decode
    refused: Mapping[str, int] | None = None  # by kind: what never got into the run's own index


def faults_of(
    entries: Sequence[Commit], config: TrainConfig, summary: Mapping[str, Any] | None, refused: Mapping[str, int] | None
) -> Faults:
    """The faults of a run.

    Args:
        entries: the newest of its log, oldest first.
        summary: that of its newest merged epoch.
    """
    commits = [e for e in entries if e.kind == "checkpoint"]
    newest, claims = (commits[-1] if commits else None), (entries[-1].claims if entries else None)
    lost = None
    if newest and newest.bags is not None and newest.clips is not None:
        lost = max(0, newest.bags * config.plan.clips_per_bag - newest.clips)
    by_reason = {name.removeprefix("read_retries_"): _sum(commits, name) for name in RETRIES}
    return Faults(
        resumed=None if claims is None else max(0, claims - 1),
        commits=len(commits),
        requests=_sum(commits, "read_requests"),
        retries={reason: n for reason, n in by_reason.items() if n},
        clips_not_decoded=lost,
        excluded=summary.get("excluded") if summary else None,
        refused=refused,
    )


def refused_by_index(config: TrainConfig) -> dict[str, int] | None:
    """What the run's own index has refused, by kind; None if it cannot be read from here."""
    try:
        snapshot = newest_snapshot(config.index)
    except AdaptFocusError:
        return None
    if snapshot is None:
        return None
    return {
        kind: n for kind, n in snapshot.refused.items() if n and not kind.startswith("interval_") and kind not in NOTES
    }


def describe(faults: Faults, run_url: str, index_url: str) -> str:
    """All faults in a line, with the command that shows each of them."""
    said = [f"resumed {many(faults.resumed, 'time')}"] if faults.resumed else []
    if faults.retries:
        reasons = _by_number(faults.retries)
        said.append(
            f"{sum(faults.retries.values()):,} retries of {faults.requests:,} requests in the last "
            f"{many(faults.commits, 'commit')} ({reasons})"
        )
    if faults.clips_not_decoded:
        said.append(f"{many(faults.clips_not_decoded, 'clip')} did not decode")
    if faults.excluded:
        said.append(f"{many(faults.excluded, 'video')} left out (adaptfocus quarantine list {run_url})")
    if faults.refused:
        command = f"adaptfocus index {index_url} --show-refused"
        said.append(f"{sum(faults.refused.values()):,} refused by the index: {_by_number(faults.refused)} ({command})")
    return "; ".join(said) or "none"


def _by_number(counts: Mapping[str, int]) -> str:
    """`throttled 8, reset 4`: the most common first."""
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    more = ", ..." if len(ordered) > NAMED else ""
    return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in ordered[:NAMED]) + more


def _sum(commits: Sequence[Commit], name: str) -> int:
    return round(sum(each.metrics.get(name, 0.0) for each in commits))
