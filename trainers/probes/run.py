"""Runs a probe: reads annotations and features, then trains and scores the task's head (or heads) for each seed.

All seeds have the same schedule. Annotated videos without features are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.tasks import (
    ACTIVITY,
    GROUNDING,
    SEGMENTATION,
    read_activities,
    read_grounding,
    read_segmentation,
)
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.trainers.probes import (
    activity,
    grounding,
    probe_activity,
    probe_grounding,
    probe_segmentation,
    segmentation,
)
from adaptfocus.trainers.probes.inputs import TEST, TRAIN, ProbeFeatures, read_features
from adaptfocus.trainers.probes.results import ProbeResult, SeedOutcome
from adaptfocus.trainers.probes.training import Progress, Schedule

Run = Callable[[Sequence[Any], Sequence[Any], ProbeFeatures, int, Schedule, Progress | None], SeedOutcome]
Stage = Callable[[str], Progress]  # makes a progress bar with that title


@dataclass(frozen=True)
class Task:
    """What differs from one probe to another."""

    file: str  # name of the annotations, where a folder is given
    read: Callable[[str], Sequence[Any]]  # rows with video_id and split
    run: Run
    schedule: Schedule
    headline: tuple[str, ...]


TASKS = {
    "segmentation": Task(
        SEGMENTATION, read_segmentation, probe_segmentation.run_seed, segmentation.SCHEDULE,
        probe_segmentation.HEADLINE,
    ),
    "activity": Task(ACTIVITY, read_activities, probe_activity.run_seed, activity.SCHEDULE, probe_activity.HEADLINE),
    "grounding": Task(
        GROUNDING, read_grounding, probe_grounding.run_seed, grounding.SCHEDULE, probe_grounding.HEADLINE,
    ),
}  # fmt: skip


def run_probe(
    task_name: str,
    features: Sequence[str],
    annotations: str,
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    stage: Stage | None = None,
) -> ProbeResult:
    """Train and score the heads of one task.

    Args:
        task_name: a key of TASKS.
        features: URLs of feature sets, which together have the training and the test videos.
        annotations: the task's JSON-lines file, or its folder.
        seeds: of the heads' weights and the order of items; each seed trains one head (of each kind).
        epochs: overrides the task's own number.
        stage: makes a progress function for each stage.

    Raises:
        ConfigError: no such task, no seeds, or no epochs.
        InputError: annotations or features cannot be used; the message says which and why.
        StorageError: they cannot be read.
    """
    if task_name not in TASKS:
        raise ConfigError(f"there is no probe {task_name!r}; choose one of {', '.join(TASKS)}")
    if not seeds or not features:
        raise ConfigError("a probe needs at least one feature set and one seed")
    task = TASKS[task_name]
    schedule = task.schedule if epochs is None else replace(task.schedule, epochs=epochs)
    url = annotations if annotations.endswith(".jsonl") else store.join(annotations, task.file)
    rows = _by_split(task.read(url), url)
    wanted = {split: list(dict.fromkeys(row.video_id for row in of_split)) for split, of_split in rows.items()}
    found = read_features(features, wanted, stage("reading features") if stage else None)
    train, test = ([row for row in rows[split] if row.video_id in found.features] for split in (TRAIN, TEST))
    outcomes = [
        task.run(train, test, found, seed, schedule, stage(f"{task_name}, seed {seed}") if stage else None)
        for seed in seeds
    ]
    items = {
        split: {"videos": len({row.video_id for row in used}), "annotations": len(used)}
        for split, used in ((TRAIN, train), (TEST, test))
    }
    return ProbeResult(
        task_name, tuple(features), url, found.dim, found.stride_seconds, items, found.missing, asdict(schedule),
        task.headline, outcomes,
    )  # fmt: skip


def _by_split(rows: Sequence[Any], url: str) -> dict[str, list[Any]]:
    """Rows by split; rows of splits that a probe does not use are left out.

    Raises:
        InputError: a split that a probe needs is not there.
    """
    found = {split: [row for row in rows if row.split == split] for split in (TRAIN, TEST)}
    for split, of_split in found.items():
        if not of_split:
            there = sorted({str(row.split) for row in rows})
            raise InputError(
                f"{url} has no rows of split '{split}' (there are: {', '.join(there)}); a probe trains on '{TRAIN}' "
                f"and scores '{TEST}'"
            )
    return found
