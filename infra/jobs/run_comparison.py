"""Runs side by side: the settings in which they differ, their scores and what they cost.

More is read than for the list: the whole log of each run, because every commit says how long it took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from adaptfocus.infra.jobs.run_list import THREADS, RunState
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.settings import differences, value_at
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.evaluation.saved import names_of, read_scores
from adaptfocus.trainers.runs.log import RESTORE, Commit, Run

# Settings that say where and how, but not what is trained.
NOT_COMPARED = ("name", "runs", "from_scratch", "follow_index", "placement", "checkpoint", "read")
SCORES = ("map_max", "map_mean", "per_time_map")
COSTS = ("clips_trained", "worker_hours")


@dataclass(frozen=True)
class ComparedRun:
    """A run with its costs and scores; fractions in [0, 1], or None where they are not known."""

    name: str
    url: str
    state: str
    settings: dict[str, Any] = field(default_factory=dict)  # dotted key -> value, of those in which the runs differ
    map_max: float | None = None
    map_mean: float | None = None
    per_time_map: float | None = None
    clips_trained: int = 0
    worker_hours: float | None = None  # of training steps and of waiting for clips, over all workers


def compare_runs(runs: Sequence[RunState], evaluation: str = "test") -> list[ComparedRun]:
    """The runs of a list side by side. Those that cannot be read are left to the list, which says why."""
    readable = [each for each in runs if each.state != "unreadable"]
    with ThreadPoolExecutor(THREADS) as threads:
        read = [each for each in threads.map(lambda run: _read(run, evaluation), readable) if each]
    configs = [config for _, config in read]
    keys = {key for other in configs[1:] for key in differences(configs[0], other)}
    own = [{key: value_at(config, key) for key in sorted(keys)} for config in configs]
    return [ComparedRun(**values, settings=settings) for (values, _), settings in zip(read, own, strict=True)]


def sort_runs(runs: Sequence[ComparedRun], by: str) -> list[ComparedRun]:
    """Runs by a score (the best first), or by a cost, a setting, `name` or `state` (the least first); those without
    it last.

    Raises:
        ConfigError: there is nothing of that name to sort by.
    """
    names = ["name", "state", *SCORES, *COSTS, *dict.fromkeys(key for each in runs for key in each.settings)]
    if by not in names:
        raise ConfigError(f"--sort {by}: the runs have no such column; take one of {', '.join(names)}")

    def place(run: ComparedRun) -> tuple[bool, bool, Any]:
        value = run.settings[by] if by in run.settings else getattr(run, by)
        is_number = isinstance(value, int | float)
        ordered = (-value if by in SCORES else value) if is_number else str(value)
        return value is None, not is_number, ordered

    return sorted(runs, key=place)


def worker_hours(checkpoints: Iterable[Commit]) -> float | None:
    """The hours of all workers; None if no commit has recorded its seconds."""
    spent = [each.metrics["seconds"] * each.workers for each in checkpoints if "seconds" in each.metrics]
    return sum(spent) / 3600 if spent else None


def _read(run: RunState, evaluation: str) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
    try:
        config = strict_json.read(Run(run.url).at("config.json"), RESTORE)
        entries = [each for each in Run(run.url).entries() if each.kind == "checkpoint"]
        scores = read_scores(run.url, evaluation) if evaluation in names_of(run.url) else {}
    except (AdaptFocusError, ValueError, KeyError, TypeError):  # it has gone, or was damaged, since it was listed
        return None
    values = {
        "name": run.name, "url": run.url, "state": run.state, "clips_trained": run.clips_trained,
        "worker_hours": worker_hours(entries), **{name: scores.get(name) for name in SCORES},
    }  # fmt: skip
    return values, {key: value for key, value in config.items() if key not in NOT_COMPARED}
