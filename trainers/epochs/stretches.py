"""An epoch that is a stretch of the sequence of passes over a corpus (`plan.bags_per_epoch`): its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

from adaptfocus.pipelines.plan import windows as plan_windows
from adaptfocus.pipelines.plan.passes import Cursor, Key, PassWindow, cursor_after, windows_from
from adaptfocus.pipelines.plan.priority import pick_partitions, ticks_and_bags
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.plan.windows import Lead, check_fits
from adaptfocus.pipelines.saliency.scores import BUILT_IN, function_at
from adaptfocus.trainers.epochs.basis import Basis
from adaptfocus.trainers.epochs.window_tasks import WindowTask, count_bags


class OfPasses(NamedTuple):
    """The windows that an epoch has bags of, of the passes over one index."""

    cursor: Cursor  # where the epoch begins
    tasks: list[WindowTask]
    sizes: list[int]  # bags of each, with those by priority
    windows: list[tuple[PassWindow, int, int]]  # from the cursor on, with the first slot and the bags of each
    end: int  # of the slots of passes

    def after(self, last: Key | None, seed: int) -> Cursor:
        """The place behind the epoch. `last`: of the videos that its newest window has drawn, the last in its pass."""
        return cursor_after(self.cursor, self.windows, self.end, last, seed)


def find_stretch(basis: Basis, epoch: int, cursor: Cursor, lead: Lead, bags: int) -> OfPasses:
    """The windows of the next bags of the sequence of passes.

    Args:
        lead: bags that the epoch has before the first window.
        bags: of the epoch, with the lead's. The windows that the next epoch's head needs are fixed with them.
    """
    picked = _picked(basis, epoch, int(basis.config.plan.priority_share * bags))
    of_passes = bags - sum(picked.values())
    tasks, sizes = windows_of_stretch(basis, epoch, cursor, lead, of_passes + basis.head_bags(bags))
    windows = [
        (task.of_pass, first, n)
        for task, first, n in zip(tasks, accumulate(sizes, initial=lead.bags), sizes, strict=False)
        if task.of_pass
    ]
    used, own = _with_picked(basis, tasks, windows, of_passes, picked)
    return OfPasses(cursor, used, own, windows, of_passes)


def windows_of_stretch(
    basis: Basis, epoch: int, cursor: Cursor, lead: Lead, bags: int
) -> tuple[list[WindowTask], list[int]]:
    """Windows from a place in the sequence on, which with the lead have so many bags; and the bags of each."""
    check_fits(sum(basis.usable.values()), 0, basis.config.plan.bags_per_batch)
    videos = {uid: each.rows for uid, each in basis.corpus.partitions.items()}
    taken = _taken_of_begun(basis, epoch, lead)
    begins = (*cursor.begun, cursor)[0].number
    tasks, sizes = [], []
    for window in windows_from(cursor, videos, basis.config.seed, *_least_of_window(basis)):
        head = taken[len(tasks)] if len(tasks) < len(taken) else {}
        task = replace(basis.task(epoch, window.uids), of_pass=window, occurrence=window.number - begins, taken=head)
        is_counted = window.after is not None or head
        usable = sum(basis.usable[uid] for uid in window.uids)
        sizes.append(next(iter(basis.over([task], count_bags))) if is_counted else usable)
        tasks.append(task)
        if lead.bags + sum(sizes) >= bags and len(tasks) >= len(cursor.begun):
            break
    return tasks, sizes


def _taken_of_begun(basis: Basis, epoch: int, lead: Lead) -> list[dict[int, int]]:
    """Of each window that had begun before an epoch: row -> 1 for the videos that the epoch's head has of it."""
    facts = read_plan(basis.run.epoch_url(epoch, "head")) if lead.head else None
    ranges = [(each.first_slot, each.first_slot + each.bags) for each in facts.windows[1:]] if facts else []
    return [{row: 1 for row in lead.head[first:end] if row in lead.taken} for first, end in ranges]


def _picked(basis: Basis, epoch: int, wanted: int) -> dict[int, int]:
    """uid -> bags by priority, about as many as wanted, of the partitions that are chosen."""
    if wanted and basis.config.plan.priority not in BUILT_IN:
        function_at(basis.config.plan.priority)  # better now than after an epoch
    weights = {uid: basis.weight_of(uid, epoch) for uid in basis.corpus.partitions} if wanted else {}
    ticks, bags = ticks_and_bags(wanted, sum(weight > 0 for weight in weights.values()))
    picked = pick_partitions(weights, ticks, basis.config.seed, epoch)
    return {uid: times * bags for uid, times in picked.items()}


def _with_picked(
    basis: Basis, tasks: Sequence[WindowTask], windows: Sequence[tuple[PassWindow, int, int]], end: int,
    picked: Mapping[int, int],
) -> tuple[list[WindowTask], list[int]]:  # fmt: skip
    """The windows that a stretch has slots of, and their bags: those of passes up to slot `end`, and by priority.

    The chosen partitions are spread over the windows.
    """
    used = [(task, min(end - first, n)) for task, (_, first, n) in zip(tasks, windows, strict=True) if first < end]
    found, sizes = [], []
    for number, (task, of_pass) in enumerate(used):
        begin, stop = (len(picked) * at // len(used) for at in (number, number + 1))
        own = dict(list(picked.items())[begin:stop])
        uids = sorted({*(each.uid for each in task.partitions), *own})
        more = replace(basis.task(task.epoch, uids), of_pass=task.of_pass, occurrence=task.occurrence)
        found.append(replace(more, taken=task.taken, pass_bags=of_pass, picked=own))
        sizes.append(of_pass + sum(own.values()))
    return found, sizes


def _least_of_window(basis: Basis) -> tuple[int, int]:
    """The least number of videos and of partitions of a window. With several indexes, one of each is in memory."""
    indexes = len(basis.config.index_urls)
    return max(basis.config.plan.window_videos // indexes, 1), max(plan_windows.PARTITIONS_PER_WINDOW // indexes, 1)
