"""The videos that a run has left out because they did not decode: list them, retry them, release them.

A retry decodes exactly the clips that failed. Videos whose clips decode now are released by records for the next plan
(`runs.releases`). No plan and no ledger is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.plan.published import read_bags, read_plan
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA
from adaptfocus.pipelines.stream.clips import read_and_decode
from adaptfocus.trainers.inputs.run_index import read_videos, run_partitions
from adaptfocus.trainers.runs import releases
from adaptfocus.trainers.runs.ledger import last_commits
from adaptfocus.trainers.runs.ledger_files import read_failed
from adaptfocus.trainers.runs.log import SALIENCY, Run
from adaptfocus.trainers.runs.open import clip_shape, facts_of_run
from adaptfocus.trainers.runs.snapshots import NAMES, ROW_BITS, add_failed, read_excluded
from adaptfocus.trainers.settings.run import TrainConfig

# `state`: "quarantined" or "released". The next epoch that is planned gets a released video back.
QUARANTINE_SCHEMA = pa.schema([*EXCLUDED_SCHEMA, pa.field("state", pa.string())])


@dataclass(frozen=True)
class Retried:
    """The result of decoding one video's clips again."""

    row: dict  # of QUARANTINE_SCHEMA
    error: str | None  # None: they decode


def read_quarantine(run: Run, config: TrainConfig) -> pa.Table:
    """The quarantine (QUARANTINE_SCHEMA) as of the last commit, with the failures of the epoch under way.

    Raises:
        InputError: nothing of the run has been planned yet.
    """
    _, commit = run.newest()
    epoch = commit.epoch if commit else 0
    is_merged = store.exists(run.epoch_url(epoch + 1, SALIENCY))
    if not is_merged and not store.exists(run.epoch_url(epoch, SALIENCY)):
        raise InputError(f"{run.url} has no plan yet; train it first")
    excluded = read_excluded(run, epoch + is_merged)
    if commit and not is_merged:
        failed = read_failed(run.url, run.ledger_files(commit))
        excluded = add_failed(_names_of(run, config, failed["video_row"].to_pylist()), excluded, failed, epoch)
    counted = releases.read_decision(run, epoch + is_merged) or 0
    back = releases.read_released(run, counted, releases.count(run))
    states = ["released" if row in back else "quarantined" for row in excluded["video_row"].to_pylist()]
    return excluded.append_column(QUARANTINE_SCHEMA.field("state"), pa.array(states, pa.string()))


def _names_of(run: Run, config: TrainConfig, rows: Sequence[int]) -> pa.Table:
    """The NAMES of some videos, by `video_row`. One partition is in memory at a time."""
    uids = {row >> ROW_BITS for row in rows}
    known = run_partitions(config, facts_of_run(run, config).fingerprint) if uids else ()
    parts = (read_videos(config, [each], NAMES) for each in known if each.uid in uids)
    own = [part.filter(pc.field("video_row").isin(rows)) for part in parts]
    return pa.concat_tables(own) if own else read_videos(config, (), NAMES)


def choose_rows(table: pa.Table, ids: Sequence[str]) -> list[dict]:
    """The rows of these videos, or all if none is named, without those that are already released.

    Raises:
        InputError: a video is not in quarantine.
    """
    rows = table.to_pylist()
    strange = sorted(set(ids) - {row["video_id"] for row in rows})
    if strange:
        raise InputError(f"not in quarantine: {strange[:5]}; `adaptfocus quarantine list` shows what is")
    return [row for row in rows if row["state"] == "quarantined" and (not ids or row["video_id"] in ids)]


def retry(run: Run, config: TrainConfig, rows: Sequence[dict]) -> Iterator[Retried]:
    """Decode the failed clips of these videos again, one video after the other, under `config.placement`'s limits."""
    commits = last_commits(run.entries())
    # An epoch's ledger is read once, and not for each of its videos.
    failed_in = lru_cache(maxsize=1)(lambda epoch: read_failed(run.url, run.ledger_files(commits[epoch])))
    for row in sorted(rows, key=lambda row: row["epoch"]):
        try:
            error = _decoded_again(run, config, row, failed_in if row["epoch"] in commits else None)
        except StorageError as failure:
            error = f"not tried: {failure}"
        yield Retried(row, error)


def release_decoded(run: Run, tried: Sequence[Retried]) -> list[str]:
    """Release the videos that decode now, and return their ids."""
    videos = {each.row["video_row"]: each.row["video_id"] for each in tried if each.error is None}
    if videos:
        releases.release(run, videos)
    return [*videos.values()]


def _decoded_again(run: Run, config: TrainConfig, row: dict, failed_in: Callable[[int], pa.Table] | None) -> str | None:
    """The reason why the bags that failed in an epoch still do not decode; None if they do.

    Args:
        failed_in: epoch -> all of its failures; None: nothing of the epoch is committed.
    """
    if config.features:
        return "not tried: the run reads features; extract this video's features again, and begin a new run with them"
    plan = read_plan(run.epoch_url(row["epoch"], "plan"))
    if plan is None or failed_in is None:
        return f"not tried: the plan of epoch {row['epoch'] + 1}, which names its clips, has been removed"
    failed = failed_in(row["epoch"]).filter(pc.field("video_row") == row["video_row"])
    for slot in failed["slot"].to_pylist():
        for url, start, stop in plan.slices(slot, slot + 1):
            batch = read_and_decode(read_bags(url, start, stop, config.index_urls), clip_shape(config))
            if not batch.ok.all():
                return batch.reason(int((~batch.ok).argmax()))
    return None if failed.num_rows else "not tried: the ledger does not name its clips any more"
