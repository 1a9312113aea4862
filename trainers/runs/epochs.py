"""Between two epochs: the ledger of the last epoch becomes the snapshot and the plan of the next.

Scores are merged into the snapshot. Videos that did not decode are left out, and released ones are taken back
(`runs.releases`). Then the next plan is drawn and published; it never changes. Everything here is a pure function of
what has been committed, so doing it twice, or in two processes at once, gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan.draw import plan_clips
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, read_plan, write_plan
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA, PLAN_SCHEMA, SALIENCY_SCHEMA, EpochPlan
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.inputs.time_order import training_index
from adaptfocus.trainers.runs import releases
from adaptfocus.trainers.runs.diagnosis import diagnose
from adaptfocus.trainers.runs.log import EXCLUDED, SALIENCY, SUMMARY, Commit, Run
from adaptfocus.trainers.runs.unused_videos import find_unused
from adaptfocus.trainers.settings.run import TrainConfig


class Planning:
    """Publishes the plans of a run. Rank 0 does that, and no other rank reads rows of the index."""

    def __init__(self, run: Run, config: TrainConfig) -> None:
        self.run, self.config = run, config

    @cached_property
    def planner(self) -> Planner:
        """The index with its packets. It is read once, and only if a plan has to be drawn."""
        index = training_index(self.config)
        return Planner.of(index.table, index.classes)

    def publish(self, epoch: int, last: Commit | None) -> PlanFacts | None:
        """`publish_plan`; of a published plan only the facts are read."""
        done = read_plan(self.run.epoch_url(epoch, "plan"))
        return done or publish_plan(self.run, self.config, self.planner, epoch, last)


def publish_plan(run: Run, config: TrainConfig, planner: Planner, epoch: int, last: Commit | None) -> PlanFacts | None:
    """Make sure that the plan of `epoch` and the head of the next epoch are on the store; None once all are done.

    Args:
        last: the checkpoint at the end of epoch - 1; its ledger lists what has been trained.

    Raises:
        InputError: more videos failed to decode than `max_bad_share` allows.
        ConfigError: there are too few usable videos for one global batch.
    """
    done = read_plan(run.epoch_url(epoch, "plan"))
    if done:
        return done
    if epoch == 0:
        saliency, excluded, carried = planner.empty_saliency(config.saliency), EXCLUDED_SCHEMA.empty_table(), ()
    else:
        saliency, excluded, carried = _after_epoch(run, config, planner, epoch - 1, last)
    write_table(excluded, run.epoch_url(epoch, EXCLUDED))
    write_table(saliency.to_arrow(), run.epoch_url(epoch, SALIENCY))
    if epoch >= config.epochs:
        return None
    left_out = excluded.column("video_row").to_pylist()
    plan = draw_plan(config, planner, saliency, epoch, carried, left_out, read_head(run, epoch))
    early = config.plan.head_bags(plan.num_bags)
    if early and epoch + 1 < config.epochs:
        # The head goes first: a reader of the plan looks for the next epoch's head only once.
        head = draw_plan(config, planner, saliency, epoch + 1, plan.carried, left_out, only_bags=early)
        write_plan(head, run.epoch_url(epoch + 1, "head"), epoch + 1)
    return write_plan(plan, run.epoch_url(epoch, "plan"), epoch)


def read_head(run: Run, epoch: int) -> pa.Table | None:
    """The bags of an epoch that were drawn one epoch earlier; None if there are none."""
    head = read_plan(run.epoch_url(epoch, "head"))
    return pa.concat_tables([read_table(url, PLAN_SCHEMA, *rows) for url, *rows in head.slices(0)]) if head else None


def draw_plan(
    config: TrainConfig,
    planner: Planner,
    saliency: SaliencyTable,
    epoch: int,
    carried: Sequence[int] = (),
    excluded: Sequence[int] = (),
    head: pa.Table | None = None,
    only_bags: int | None = None,
) -> EpochPlan:
    """The plan of an epoch under a run's settings. `publish_plan` publishes it, and a dry run shows it.

    It leaves out the `excluded` videos, and those that the settings do not train on (`runs.unused_videos`).
    """
    excluded = [*excluded, *find_unused(config, planner.table).rows]
    return plan_clips(
        planner,
        saliency,
        seed=config.seed,
        epoch=epoch,
        clip=config.drawn_clip,
        rules=config.draw_rules,
        staleness=config.saliency.staleness,
        carried=carried,
        excluded=excluded,
        head=head,
        only_bags=only_bags,
    )


def read_saliency(run: Run, epoch: int) -> SaliencyTable:
    """The snapshot from which `epoch` is planned; for the number after the last epoch, the final snapshot."""
    return SaliencyTable.from_arrow(read_table(run.epoch_url(epoch, SALIENCY), SALIENCY_SCHEMA))


def read_excluded(run: Run, epoch: int) -> pa.Table:
    """The videos left out of `epoch` and later ones, with their reasons."""
    return read_table(run.epoch_url(epoch, EXCLUDED), EXCLUDED_SCHEMA)


def _after_epoch(
    run: Run, config: TrainConfig, planner: Planner, epoch: int, last: Commit | None
) -> tuple[SaliencyTable, pa.Table, tuple[int, ...]]:
    """The snapshot, exclusions and carried bags that follow from a finished epoch. It also writes the summary."""
    plan = read_plan(run.epoch_url(epoch, "plan"))
    if plan is None or last is None or (last.epoch, last.cursor) != (epoch, plan.num_bags):
        raise InputError(f"{run.url}: epoch {epoch + 1} has no final checkpoint, but epoch {epoch + 2} was asked for")
    ledger = run.ledger(last)
    before = read_saliency(run, epoch)
    saliency = merge(before, ledger, epoch, config.saliency)
    earlier = read_excluded(run, epoch)
    excluded = _with_releases(run, config, planner, epoch + 1, add_failed(planner.table, earlier, ledger, epoch))
    summary = diagnose(config, planner, before, saliency, ledger, epoch) | {"excluded": excluded.num_rows}
    store.write_bytes(run.epoch_url(epoch, SUMMARY), json_text(summary).encode())
    return saliency, excluded, plan.carried


def _with_releases(run: Run, config: TrainConfig, planner: Planner, epoch: int, left_out: pa.Table) -> pa.Table:
    """The videos left out of `epoch`, minus those whose release counts from this epoch.

    Which releases count is decided only after the share of bad videos has been checked. So a release can fix a run that
    ended at that check.
    """
    before = releases.read_decision(run, epoch - 1) or 0
    records = releases.read_decision(run, epoch)
    is_decided = records is not None
    records = releases.count(run) if records is None else records
    excluded = _without(left_out, releases.read_released(run, before, records))
    _check_share(run, config, planner.table.num_rows, excluded)
    if not is_decided:
        decided = releases.decide(run, epoch, records)
        excluded = _without(left_out, releases.read_released(run, before, decided))
        _check_share(run, config, planner.table.num_rows, excluded)
    return excluded


def _without(left_out: pa.Table, rows: set[int]) -> pa.Table:
    return left_out.filter(~pc.field("video_row").isin(sorted(rows))) if rows else left_out


def add_failed(videos: pa.Table, earlier: pa.Table, ledger: pa.Table, epoch: int) -> pa.Table:
    """EXCLUDED_SCHEMA: `earlier`, and one row for each further video that could not be decoded in this epoch.

    Args:
        videos: the index, with at least shard_url, member_name and video_id.
    """
    # A head is drawn an epoch early, so a video may fail once more after it was left out.
    known = set(earlier.column("video_row").to_pylist())
    bad = ledger.filter(~pc.field("ok")).sort_by("slot")
    last = {bag["video_row"]: bag for bag in bad.select(["video_row", "kind", "error"]).to_pylist()}
    names = ["shard_url", "member_name", "video_id"]
    rows = []
    for row, bag in last.items():
        if row in known:
            continue
        facts = videos.select(names).slice(row, 1).to_pylist()[0]
        rows.append(facts | {"video_row": row, "epoch": epoch, "kind": bag["kind"], "message": bag["error"]})
    return pa.concat_tables([earlier, pa.Table.from_pylist(rows, schema=EXCLUDED_SCHEMA)])


def _check_share(run: Run, config: TrainConfig, videos: int, excluded: pa.Table) -> None:
    bad = excluded.num_rows
    if bad > config.max_bad_share * videos:
        first = excluded.slice(bad - 1, 1).to_pylist()[0]
        raise InputError(
            f"{run.url}: {bad} of {videos} videos could not be decoded, more than max_bad_share = "
            f"{config.max_bad_share:g} allows; the last: {first['video_id']} ({first['kind']}: {first['message']}). "
            f"`adaptfocus quarantine list {run.url}` shows them, `adaptfocus quarantine retry` takes back those that "
            "decode now. Fix or leave out the others, or raise max_bad_share"
        )
