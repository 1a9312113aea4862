"""What a run left out on its way from tars to scores: counts, reasons, and an example of each.

The stages are indexing (refused videos), training (excluded videos) and evaluation (videos that do not decode). A
video that several runs left out counts once.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from adaptfocus.infra.report.data import Dropped
from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import refused_of
from adaptfocus.trainers.evaluation import predictions
from adaptfocus.trainers.runs.log import SALIENCY, Run
from adaptfocus.trainers.runs.snapshots import read_excluded
from adaptfocus.trainers.settings.run import TrainConfig


def count_dropped(runs: Sequence[tuple[Run, str, TrainConfig, dict]], evaluation: str) -> list[Dropped]:
    """What each (run, name on the page, config, scores) left out, stage by stage."""
    indexes = dict.fromkeys(config.index for _, _, config, _ in runs)
    refused = [_told(row) for index in indexes for row in refused_of(index)]
    excluded = [row for run, _, config, _ in runs for row in _excluded(run, config)]
    unscored = [
        row
        for run, _, _, scores in runs
        if scores.get("undecodable")
        for row in _unscored(run, evaluation, scores["videos"])
    ]
    return [*_counted("indexing", refused), *_counted("training", excluded), *_counted("evaluation", unscored)]


def _counted(stage: str, rows: Sequence[tuple[str, str, str]]) -> list[Dropped]:
    """(kind, what, why) of each thing left out -> a row for each kind. Repeated things count once."""
    kinds: dict[str, dict[str, str]] = {}
    for kind, what, why in rows:
        kinds.setdefault(kind, {})[what] = f"{what}: {why}" if why else what
    return [Dropped(kind, len(found), next(iter(found.values())), stage) for kind, found in kinds.items()]


def _excluded(run: Run, config: TrainConfig) -> list[tuple[str, str, str]]:
    """The videos that training excludes, as of the newest epoch that was prepared."""
    for epoch in range(config.epochs, -1, -1):
        if store.exists(run.epoch_url(epoch, SALIENCY)):
            return [_told(row) for row in read_excluded(run, epoch).to_pylist()]
    return []


def _unscored(run: Run, evaluation: str, videos: int) -> list[tuple[str, str, str]]:
    """The test videos whose views did not decode: they rank last for every class."""
    tables = predictions.read(run, evaluation, videos, ["video_id", "ok"])
    lost = [video_id for table in tables for video_id in table.filter(~pc.field("ok"))["video_id"].to_pylist()]
    return [("not_decoded", video_id, "ranks last for every class") for video_id in lost]


def _told(row: dict) -> tuple[str, str, str]:
    """A row of REFUSED_SCHEMA or EXCLUDED_SCHEMA."""
    return row["kind"], f"{row['shard_url']} {row['member_name'] or ''}".strip(), row["message"]
