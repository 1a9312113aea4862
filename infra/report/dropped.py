"""What a run left out on its way from tars to scores: counts, reasons, an example of each.

Input: runs, their configs and scores. Does: reads what indexing refused, training excluded, evaluation could not
decode. Output: rows of the report, stage by stage. A video that several runs left out counts once.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from adaptfocus.infra.report.data import Dropped
from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.parts import part_urls, read_part
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.evaluation.scoring import PREDICTIONS_SCHEMA
from adaptfocus.trainers.runs.epochs import read_excluded
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.run import TrainConfig


def count_dropped(runs: Sequence[tuple[Run, str, TrainConfig, dict]], evaluation: str) -> list[Dropped]:
    """What (run, name on the page, config, scores) left out."""
    indexes = dict.fromkeys(config.index for _, _, config, _ in runs)
    refused = [_told(row) for index in indexes for row in refused_rows(index)]
    excluded = [row for run, _, config, _ in runs for row in _excluded(run, config)]
    unscored = [row for run, _, _, scores in runs if scores.get("undecodable") for row in _unscored(run, evaluation)]
    return [*_counted("indexing", refused), *_counted("training", excluded), *_counted("evaluation", unscored)]


def _counted(stage: str, rows: Sequence[tuple[str, str, str]]) -> list[Dropped]:
    """(kind, what, why) of each thing left out, things that come up again counted once -> a row for each kind."""
    kinds: dict[str, dict[str, str]] = {}
    for kind, what, why in rows:
        kinds.setdefault(kind, {})[what] = f"{what}: {why}" if why else what
    return [Dropped(kind, len(found), next(iter(found.values())), stage) for kind, found in kinds.items()]


def refused_rows(index_url: str) -> list[dict]:
    """REFUSED_SCHEMA: what the index was made without. Only parts that refused something are read."""
    entry = strict_json.read(store.join(index_url, "index.json"), "run `adaptfocus index` again")
    urls = [part_urls(index_url, part["name"])[1] for part in entry["parts"] if part["facts"]["refused"]]
    return [row for url in urls for row in read_part(url).to_pylist()]


def _excluded(run: Run, config: TrainConfig) -> list[tuple[str, str, str]]:
    """The videos that training gave up, as of the newest epoch that was prepared."""
    for epoch in range(config.epochs, -1, -1):
        if store.exists(run.epoch_url(epoch, "excluded.parquet")):
            return [_told(row) for row in read_excluded(run, epoch).to_pylist()]
    return []


def _unscored(run: Run, evaluation: str) -> list[tuple[str, str, str]]:
    """The test videos whose views would not decode: they rank last for every class."""
    columns = pa.schema([PREDICTIONS_SCHEMA.field(name) for name in ("video_id", "ok")])
    rows = read_table(run.at("evaluations", evaluation, "predictions.parquet"), columns).to_pylist()
    return [("not_decoded", row["video_id"], "ranks last for every class") for row in rows if not row["ok"]]


def _told(row: dict) -> tuple[str, str, str]:
    """A row of REFUSED_SCHEMA or EXCLUDED_SCHEMA."""
    return row["kind"], f"{row['shard_url']} {row['member_name'] or ''}".strip(), row["message"]
