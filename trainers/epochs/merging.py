"""Between two epochs: the ledger of the last one becomes the snapshot that the next one is planned from.

A window is merged as one task, from store to store: scores into the saliency of its partitions, failures into the
videos left out of them. Any process may do it, and twice: it is a pure function of what has been committed, so the same
bytes come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.partitions import Partition, source_of
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, read_plan
from adaptfocus.pipelines.saliency.scores import Seen, rarity_of
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge
from adaptfocus.pipelines.saliency.weights import weigh_videos
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.trainers.diagnosis.summary import sum_up, summarise
from adaptfocus.trainers.diagnosis.sums import EpochSums
from adaptfocus.trainers.epochs.basis import usable_of
from adaptfocus.trainers.inputs.run_index import read_videos
from adaptfocus.trainers.inputs.unused_videos import find_unused
from adaptfocus.trainers.runs import releases
from adaptfocus.trainers.runs.ledger_files import LedgerFile, overlapping, read_ledger
from adaptfocus.trainers.runs.log import RESTORE, SUMMARY, Commit, Run
from adaptfocus.trainers.runs.snapshots import (
    NAMES,
    ROW_BITS,
    Manifest,
    PartitionFiles,
    add_failed,
    count_excluded,
    read_excluded_of,
    read_left_out,
    read_manifest,
    read_priority,
    read_saliency_of,
    take_back,
    write_excluded,
    write_priority,
    write_saliency,
)
from adaptfocus.trainers.settings.run import TrainConfig

_COLUMNS = [*NAMES, "labels", "intervals", "duration_seconds"]
# Partitions at once that are in no window of an epoch, as some of its lead are.
PARTITIONS_AT_ONCE = 8


@dataclass(frozen=True)
class MergeTask:
    """Some partitions, and the slots that the bags of their videos have."""

    config: TrainConfig
    classes: tuple[str, ...]
    epoch: int  # that was trained
    partitions: tuple[Partition, ...]
    files: Mapping[int, PartitionFiles]  # of the epoch's snapshot, by uid, where there are any
    ledger: tuple[LedgerFile, ...]  # those that hold any of the slots
    slots: tuple[tuple[int, int], ...]  # [first, end) of the lead and of the window; other partitions may have some too
    rarity: np.ndarray | None = None  # [C], as `Seen.rarity`; None: nothing is drawn by priority
    max_labels: int | None = None  # that a bag carries, if its video has more

    def own_rows(self) -> pa.Table:
        """The ledger rows of the bags of these partitions."""
        uids, own = [each.uid for each in self.partitions], [LEDGER_SCHEMA.empty_table()]
        for slots in self.slots:  # a small index of a mixture has some bags in each window of an epoch
            rows = read_ledger(self.config.url, self.ledger, *slots)
            own.append(rows.filter(pa.array(np.isin(rows["video_row"].to_numpy() >> ROW_BITS, uids))))
        return pa.concat_tables(own)


class MergedWindow(NamedTuple):
    """What a task has made: files that differ from the task's, and the figures of its partitions."""

    files: dict[int, PartitionFiles]
    sums: EpochSums
    bags: Counter[int]  # of each index, by its number


def merge_window(task: MergeTask) -> MergedWindow:
    """Merge the ledger rows of some partitions and write the files of those that have any."""
    config, ledger = task.config, task.own_rows()
    owner = ledger["video_row"].to_numpy() >> ROW_BITS
    made, sums = {}, EpochSums.none(len(task.classes))
    for partition in task.partitions:  # one after the other: their saliency is most of what a task holds
        before = task.files.get(partition.uid, PartitionFiles(partition.uid))
        rows = ledger.filter(pa.array(owner == partition.uid))
        if not rows.num_rows and not before.saliency:
            continue  # nobody has visited it, now or earlier: it adds nothing to any figure
        planner = Planner.of(read_videos(config, [partition], _COLUMNS), task.classes)
        saliency = read_saliency_of(Run(config.url), {partition.uid: before}, planner, config.saliency)
        merged = merge(saliency, rows, task.epoch, config.saliency, task.max_labels)
        if rows.num_rows:
            made[partition.uid] = _written(task, before, rows, merged, planner)
        sums += sum_up(config, planner, saliency, merged, rows, task.epoch)
    return MergedWindow(made, sums, Counter(source_of(uid) for uid in owner.tolist()))


def _written(
    task: MergeTask, files: PartitionFiles, ledger: pa.Table, saliency: SaliencyTable, planner: Planner
) -> PartitionFiles:
    run, epoch, sources = Run(task.config.url), task.epoch + 1, [each.path for each in task.ledger]
    made, ok = files, ledger["ok"].to_numpy()
    if ok.any():
        made = write_saliency(run, epoch, made, saliency, sources)
    if not ok.all():
        earlier = read_excluded_of(run, {files.uid: files})
        excluded = add_failed(planner.table, earlier, ledger, task.epoch)
        if excluded.num_rows > earlier.num_rows:
            made = write_excluded(run, epoch, made, excluded, sources)
    if task.rarity is None:
        return made
    seen = Seen(planner.video_rows, planner.labels, saliency, ledger, task.rarity)
    left_out = read_left_out(run, {made.uid: made})
    unused = np.isin(planner.video_rows, list(left_out))
    unused[find_unused(task.config, planner.table)] = True
    before = read_priority(run, files, planner.video_rows)
    weights = weigh_videos(task.config.plan.priority, seen, before, task.epoch, ~unused)
    written = write_priority(run, epoch, made, weights.table, sources)
    return written._replace(weight=weights.weight, slope=weights.slope)


def merge_epoch(
    run: Run,
    config: TrainConfig,
    partitions: Mapping[int, Partition],
    classes: tuple[str, ...],
    epoch: int,
    last: Commit | None,
    over: Over,
    videos_of_label: np.ndarray | None = None,
) -> tuple[Manifest, PlanFacts]:
    """Merge a finished epoch, window by window, and write its summary.

    Args:
        partitions: all of the index, by uid.
        classes: those that are trained.
        last: the checkpoint at the end of the epoch.
        videos_of_label: [C], of the corpus; only needed if some bags are drawn by priority.

    Returns:
        The manifest of the next epoch's snapshot, whose files are written, and the plan of the finished epoch.

    Raises:
        InputError: more videos failed to decode than `max_bad_share` allows, or the epoch is not trained to its end.
    """
    plan = read_plan(run.epoch_url(epoch, "plan"))
    if plan is None or last is None or (last.epoch, last.cursor) != (epoch, plan.num_bags):
        raise InputError(f"{run.url}: epoch {epoch + 1} has no final checkpoint, but epoch {epoch + 2} was asked for")
    if lost := {uid for window in plan.windows for uid in window.uids} - partitions.keys():
        raise InputError(
            f"the plan of epoch {epoch + 1} of {run.url} names partition {min(lost)}, which the snapshot of the index "
            f"that it is of does not have: the index.json of an epoch is missing, or not its own; {RESTORE}"
        )
    manifest, sums, bags = read_manifest(run, epoch), EpochSums.none(len(classes)), Counter[int]()
    rarity = rarity_of(videos_of_label) if config.plan.priority_share and videos_of_label is not None else None
    tasks = [
        MergeTask(
            config, classes, epoch, tuple(partitions[uid] for uid in uids),
            {uid: manifest[uid] for uid in uids if uid in manifest}, tuple(files), slots, rarity, plan.max_labels,
        )
        for uids, slots, files in _groups(plan, sorted(partitions), run.ledger_files(last))
    ]  # fmt: skip
    for merged in over(tasks, merge_window):
        manifest |= merged.files
        sums += merged.sums
        bags += merged.bags
    manifest = _with_releases(run, config, partitions, epoch + 1, manifest)
    summary = summarise(config, classes, sums, epoch) | {"excluded": count_excluded(manifest)}
    if config.mixture.more:
        summary["bags_of_index"] = [bags[number] for number in range(len(config.index_urls))]
    store.write_bytes(run.epoch_url(epoch, SUMMARY), json_text(summary).encode())
    return manifest, plan


def _groups(
    plan: PlanFacts, uids: list[int], files: list[LedgerFile]
) -> Iterator[tuple[tuple[int, ...], tuple[tuple[int, int], ...], list[LedgerFile]]]:
    """(uids, slots, ledger files) of each task: the partitions of a window that are in no other one.

    In a stretch that goes beyond the end of a pass, a partition may be in two windows, and its task needs the slots of
    both. The bags of the lead, windows[0], may be of any partition that it names; of all if it names none.
    """
    lead, *windows = plan.windows
    in_windows: dict[int, list[int]] = {}
    for number, window in enumerate(windows):
        for uid in window.uids:
            in_windows.setdefault(uid, []).append(number)
    alike: dict[tuple[int, ...], list[int]] = {}
    for uid, numbers in in_windows.items():
        alike.setdefault(tuple(numbers), []).append(uid)
    in_lead = set(lead.uids or uids) if lead.bags else set()
    rest = sorted(in_lead - in_windows.keys())
    tasks: list[tuple[list[int], tuple[int, ...]]] = [(own, numbers) for numbers, own in alike.items()]
    tasks += [(rest[first : first + PARTITIONS_AT_ONCE], ()) for first in range(0, len(rest), PARTITIONS_AT_ONCE)]
    for own, numbers in tasks:
        parts = [lead] * bool(in_lead.intersection(own)) + [windows[number] for number in numbers]
        slots = tuple((each.first_slot, each.first_slot + each.bags) for each in parts if each.bags)
        yield tuple(own), slots, [file for file in files if any(overlapping([file], *each) for each in slots)]


def _with_releases(
    run: Run, config: TrainConfig, partitions: Mapping[int, Partition], epoch: int, manifest: Manifest
) -> Manifest:
    """The manifest of `epoch`, without the left-out videos whose release counts from this epoch.

    Which releases count is decided only after the bad videos have been checked. So a release can fix a run that
    ended at that check.
    """
    before = releases.read_decision(run, epoch - 1) or 0
    records = releases.read_decision(run, epoch)
    is_decided = records is not None
    records = releases.count(run) if records is None else records
    found = take_back(run, epoch, manifest, releases.read_released(run, before, records))
    _check_bad(run, config, partitions, epoch, found)
    if not is_decided:
        decided = releases.decide(run, epoch, records)
        found = take_back(run, epoch, manifest, releases.read_released(run, before, decided))
        _check_bad(run, config, partitions, epoch, found)
    return found


def _check_bad(
    run: Run, config: TrainConfig, partitions: Mapping[int, Partition], epoch: int, manifest: Manifest
) -> None:
    """Check that few videos are bad, and that each index that `epoch` takes bags of has others."""
    videos, bad = sum(each.rows for each in partitions.values()), count_excluded(manifest)
    if bad > config.max_bad_share * videos:
        uid = max(uid for uid, files in manifest.items() if files.excluded)
        last = read_excluded_of(run, {uid: manifest[uid]}).to_pylist()[-1]
        raise InputError(
            f"{run.url}: {bad} of {videos} videos could not be decoded, more than max_bad_share = "
            f"{config.max_bad_share:g} allows; the last: {last['video_id']} ({last['kind']}: {last['message']}). "
            f"`adaptfocus quarantine list {run.url}` shows them, `adaptfocus quarantine retry` takes back those that "
            "decode now. Fix or leave out the others, or raise max_bad_share"
        )
    if config.mixture.more and epoch < config.epochs:
        _check_each_index(run, config, partitions, epoch, manifest)


def _check_each_index(
    run: Run, config: TrainConfig, partitions: Mapping[int, Partition], epoch: int, manifest: Manifest
) -> None:
    """Check that no index that `epoch` takes bags of has lost its last usable video."""
    left, lost = Counter[int](), Counter[int]()
    for uid, n in usable_of(config, partitions.values(), manifest).items():
        left[source_of(uid)] += n
        lost[source_of(uid)] += manifest[uid].excluded_rows if uid in manifest else 0
    weights = enumerate(config.mixture.weights(epoch))
    # One that never had any may have grown since, and is looked at when the epoch is drawn.
    empty = next((number for number, weight in weights if weight and lost[number] and not left[number]), None)
    if empty is not None:
        raise InputError(
            f"{run.url}: no usable video of {config.index_urls[empty]} is left, and epoch {epoch + 1} takes bags of "
            f"it; {lost[empty]} could not be decoded. `adaptfocus quarantine list {run.url}` shows them, `adaptfocus "
            "quarantine retry` takes back those that decode now. Fix them, or begin a new run without this index"
        )
