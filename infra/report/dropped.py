"""What a run left out on its way from tars to scores: counts, reasons, and an example of each.

The stages are indexing (refused videos), training (excluded videos) and evaluation (videos that do not decode). A
video that several runs left out counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow.compute as pc

from adaptfocus.infra.report.data import Dropped
from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import refused_of
from adaptfocus.trainers.evaluation import predictions
from adaptfocus.trainers.runs.log import SALIENCY, Run
from adaptfocus.trainers.runs.snapshots import read_excluded_parts
from adaptfocus.trainers.settings.run import TrainConfig

Told = tuple[str, str, str]  # kind, what, why


def count_dropped(runs: Sequence[tuple[Run, str, TrainConfig, dict]], evaluation: str) -> list[Dropped]:
    """What each (run, name on the page, config, scores) left out, stage by stage.

    Rows are read and passed over; a hash of each stays.
    """
    indexes = dict.fromkeys(url for _, _, config, _ in runs for url in config.index_urls)
    refused = (_told(row) for index in indexes for row in refused_of(index))
    excluded = (row for run, _, config, _ in runs for row in _excluded(run, config))
    unscored = (
        row
        for run, _, _, scores in runs
        if scores.get("undecodable")
        for row in _unscored(run, evaluation, scores["videos"])
    )
    return [*_counted("indexing", refused), *_counted("training", excluded), *_counted("evaluation", unscored)]


def _counted(stage: str, rows: Iterable[Told]) -> list[Dropped]:
    """A row for each kind. Repeated things count once; the example is the first thing, as it was told last."""
    things: dict[str, set[int]] = {}
    first: dict[str, tuple[str, str]] = {}
    for kind, what, why in rows:
        things.setdefault(kind, set()).add(hash(what))
        if first.setdefault(kind, (what, why))[0] == what:
            first[kind] = what, why
    told = {kind: f"{what}: {why}" if why else what for kind, (what, why) in first.items()}
    return [Dropped(kind, len(found), told[kind], stage) for kind, found in things.items()]


def _excluded(run: Run, config: TrainConfig) -> Iterator[Told]:
    """The videos that training excludes, as of the newest epoch that was prepared."""
    for epoch in range(config.epochs, -1, -1):
        if store.exists(run.epoch_url(epoch, SALIENCY)):
            for part in read_excluded_parts(run, epoch):
                yield from map(_told, part.to_pylist())
            return


def _unscored(run: Run, evaluation: str, videos: int) -> Iterator[Told]:
    """The test videos whose views did not decode: they rank last for every class."""
    for table in predictions.read(run, evaluation, videos, ["video_id", "ok"]):
        for video_id in table.filter(~pc.field("ok"))["video_id"].to_pylist():
            yield "not_decoded", video_id, "ranks last for every class"


def _told(row: dict) -> Told:
    """A row of REFUSED_SCHEMA or EXCLUDED_SCHEMA."""
    return row["kind"], f"{row['shard_url']} {row['member_name'] or ''}".strip(), row["message"]
