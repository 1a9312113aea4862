"""An epoch of only one window, merged: partitions that it does not touch keep their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import publish
from adaptfocus.pipelines.plan.windows import windows_in_order
from adaptfocus.trainers.epochs.merging import merge_epoch
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import write_manifest
from benchmarks.scaling import steps
from benchmarks.scaling.corpus import SHORT

PARTITION_ROWS, PARTITIONS = 64, 400  # a window of 8 is 2 % of them


def rewritten_share(folder: Path, cache: Path) -> tuple[int, int, int]:
    """(partitions touched, files written, files of the snapshot) in an epoch of one window."""
    config = steps.settings(folder, "run", folder / "index", "plan.lead_batches=0")
    steps.deal(config.index, PARTITION_ROWS * PARTITIONS, SHORT, cache, 0, Sizes(partition_rows=PARTITION_ROWS))
    steps.publish(config, 0)
    steps.trained(config, 0)
    run, corpus = Run(config.url), Corpus.of(config)
    whole = corpus.partitions, corpus.classes
    manifest, _ = merge_epoch(run, config, *whole, 0, run.newest()[1], in_this_process)
    write_manifest(run, 1, manifest)
    uids = windows_in_order({uid: each.rows for uid, each in corpus.partitions.items()}, config.seed, 1, 1)[0]
    window = replace(corpus, partitions={uid: corpus.partitions[uid] for uid in uids})
    publish(EpochPlanner(config, window, manifest, in_this_process).draw(1, ()))
    steps.trained(config, 1)
    after, _ = merge_epoch(run, config, *whole, 1, run.newest()[1], in_this_process)
    written = [*Path(run.epoch_url(2, "saliency")).iterdir(), *Path(run.epoch_url(2)).glob("excluded/*")]
    return len(uids), len(written), sum(bool(each.saliency) for each in after.values())
