"""Between two epochs: the ledger of the last epoch becomes the snapshot and the plan of the next.

Scores are merged into the snapshot. Videos that did not decode are left out, and released ones are taken back
(`runs.releases`). Then the next plan is drawn and published; it never changes. Everything here is a pure function of
what has been committed, so doing it twice, or in two processes at once, gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa

from adaptfocus.pipelines.index.partitions import read_partitions
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.draw import plan_clips
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, read_plan, write_plan
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import PLAN_SCHEMA, EpochPlan
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.inputs.time_order import training_index
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.merging import merge_epoch
from adaptfocus.trainers.runs.snapshots import read_left_out, read_saliency_of, write_manifest
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
    manifest, carried = {}, ()
    if epoch > 0:
        partitions = {each.uid: each for each in read_partitions(config.index)}
        manifest, carried = merge_epoch(run, config, partitions, planner.classes, epoch - 1, last, in_this_process)
    write_manifest(run, epoch, manifest)
    if epoch >= config.epochs:
        return None
    saliency, left_out = read_saliency_of(run, manifest, planner, config.saliency), sorted(read_left_out(run, manifest))
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
