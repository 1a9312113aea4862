"""The plan of an epoch, from windows that are drawn each on its own (`epochs.window_tasks`).

Rank 0 knows counts: of the partitions' videos from the index's manifests, of those left out from the run's. They say
which slots each window has before anything is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.order import shares
from adaptfocus.pipelines.plan.passes import START, Cursor
from adaptfocus.pipelines.plan.published import BAGS_PER_PART, PlanFacts, Window, publish
from adaptfocus.pipelines.plan.windows import (
    Layout,
    Lead,
    Slots,
    by_partition,
    lay_out,
    lead_of,
    of_partitions,
    uid_of,
    windows_in_order,
)
from adaptfocus.trainers.epochs.basis import Basis, Corpus
from adaptfocus.trainers.epochs.mixtures import draw_mixture
from adaptfocus.trainers.epochs.stretches import find_stretch, windows_of_stretch
from adaptfocus.trainers.epochs.window_tasks import (
    WindowTask,
    count_bags,
    count_usable_labels,
    draw_window,
    read_head,
    weigh,
)
from adaptfocus.trainers.runs.snapshots import Manifest
from adaptfocus.trainers.settings.run import TrainConfig

NO_LEAD = lead_of((), (), ())


@dataclass(frozen=True)
class EpochPlanner:
    """Plans an epoch from the snapshot of a manifest."""

    config: TrainConfig
    corpus: Corpus
    manifest: Manifest
    over: Over

    def draw(
        self, epoch: int, carried: Sequence[int], plan_url: str | None = None, cursors: Sequence[Cursor] = ()
    ) -> PlanFacts:
        """Draw the plan of an epoch and write its parts. It exists once it is published.

        Args:
            carried: rows of the videos that the epoch before had no slots for.
            plan_url: the folder to write to; that of the run by default.
            cursors: where the epoch begins in the passes over each index, if epochs are stretches; none: at the
                beginning of the first pass.

        Raises:
            ConfigError: there are too few usable videos for one global batch.
        """
        head = read_head(self.basis.run, epoch).column("video_row").to_pylist()
        url = plan_url or self.basis.run.epoch_url(epoch, "plan")
        if self.config.mixture.more:
            slots, after = draw_mixture(self.basis, epoch, url, cursors)
            return replace(self._facts(epoch, url, slots, slots[-1].end, ()), next=after)
        if self.config.plan.bags_per_epoch:
            return self._draw_stretch(epoch, url, head, (cursors or [START])[0], self.config.plan.bags_per_epoch)
        placed, layout = self._placed(epoch, url, head, carried)
        rest = [row for drawn in self.over(placed, draw_window) for row in drawn.rest]
        return self._facts(epoch, url, [task.slots for task in placed], layout.num_bags, rest)

    def publish_head(self, epoch: int, carried: Sequence[int], bags: int, cursors: Sequence[Cursor] = ()) -> PlanFacts:
        """Draw and publish the first bags of an epoch: its plan will begin with them, and they are read before it."""
        url = self.basis.run.epoch_url(epoch, "head")
        if cursors:
            tasks, sizes = windows_of_stretch(self.basis, epoch, cursors[0], NO_LEAD, bags)
            placed, layout = self._with_slots(epoch, url, NO_LEAD, tasks, sizes, bags)
        else:
            placed, layout = self._placed(epoch, url, (), carried, bags)
        needed = [task for task in placed if task.slots.first < bags]
        for _ in self.over(needed, draw_window):
            pass
        return publish(self._facts(epoch, url, [task.slots for task in needed], layout.num_bags, ()))

    def _draw_stretch(self, epoch: int, plan_url: str, head: Sequence[int], cursor: Cursor, bags: int) -> PlanFacts:
        """The next bags of the sequence of passes. The windows that the next head needs are fixed with them."""
        lead = lead_of(head, (), self.basis.left_out_of(head))
        found = find_stretch(self.basis, epoch, cursor, lead, bags)
        placed, layout = self._with_slots(epoch, plan_url, lead, found.tasks, found.sizes, bags)
        *_, newest = self.over(placed, draw_window)
        facts = self._facts(epoch, plan_url, [task.slots for task in placed], layout.num_bags, ())
        return replace(facts, next=(found.after(newest.last, self.config.seed),))

    @cached_property
    def basis(self) -> Basis:
        return Basis(self.config, self.corpus, self.manifest, self.over)

    def _facts(
        self, epoch: int, plan_url: str, slots: Sequence[Slots], num_bags: int, carried: Sequence[int]
    ) -> PlanFacts:
        windows = tuple(Window(each.uids, each.first, each.end - each.first) for each in slots)
        most = self.corpus.max_labels
        known = None if self.corpus.outputs is None else len(self.corpus.classes)
        return PlanFacts(plan_url, epoch, num_bags, windows, tuple(carried), most, BAGS_PER_PART, num_classes=known)

    def _placed(
        self, epoch: int, plan_url: str, head: Sequence[int], carried: Sequence[int], most: int | None = None
    ) -> tuple[list[WindowTask], Layout]:
        """The tasks that draw an epoch, with the slots of each: the lead's, then the windows'."""
        left_out = self.basis.left_out_of([*head, *carried])
        lead = lead_of(head, carried, left_out)
        tasks, bags = self._windows(epoch, lead)
        if most is None and self._repeats:
            # A video left out since the head was drawn changes which videos repeat. The head's surplus must not
            # lengthen the epoch, and the head stays even if fewer videos are left than it has.
            most = max(sum(row not in left_out for row in carried) + self._repeats.draws, len(head))
        return self._with_slots(epoch, plan_url, lead, tasks, bags, most)

    def _with_slots(
        self, epoch: int, plan_url: str, lead: Lead, tasks: Sequence[WindowTask], bags: Sequence[int], most: int | None
    ) -> tuple[list[WindowTask], Layout]:
        sizes = [(tuple(each.uid for each in task.partitions), n) for task, n in zip(tasks, bags, strict=True)]
        layout = lay_out(lead, sizes, self.config.plan.bags_per_batch, most)
        own = sorted({uid_of(row) for row in lead.carried})
        first = replace(
            self.basis.task(epoch, own), rows=lead.carried, has_head=bool(lead.head), earlier=dict(Counter(lead.head))
        )
        slots = [layout.lead, *layout.windows]
        placed = [
            replace(task, slots=own_slots, plan_url=plan_url, number=number)
            for number, (task, own_slots) in enumerate(zip([first, *tasks], slots, strict=True))
        ]
        return placed, layout

    def _windows(self, epoch: int, lead: Lead) -> tuple[list[WindowTask], list[int]]:
        """The windows of an epoch in its order, and the number of bags of each without those that the head has."""
        taken, earlier = by_partition(lead.taken), by_partition(lead.occurrences())
        tasks = [
            replace(
                self.basis.task(epoch, uids), taken=of_partitions(taken, uids), earlier=of_partitions(earlier, uids)
            )
            for uids in self._in_order(epoch)
        ]
        repeats = self._repeats
        if repeats is None:
            usable = [sum(self.basis.usable[each.uid] for each in task.partitions) for task in tasks]
            return tasks, [n - sum((task.taken or {}).values()) for n, task in zip(usable, tasks, strict=True)]
        sums = [sum(repeats.weight_of[each.uid] for each in task.partitions) for task in tasks]
        parts = shares(sums, repeats.total_weight, repeats.draws, self.config.seed, epoch)
        tasks = [
            replace(task, videos_of_label=repeats.videos_of_label, share=share)
            for task, share in zip(tasks, parts, strict=True)
        ]
        # Only a window that the head has bags of has to be counted: how often its videos repeat may have changed.
        changed = [number for number, task in enumerate(tasks) if task.taken]
        bags = [share.count for share in parts]
        for number, count in zip(changed, self.over([tasks[n] for n in changed], count_bags), strict=True):
            bags[number] = count
        return tasks, bags

    def _in_order(self, epoch: int) -> list[tuple[int, ...]]:
        videos = {uid: each.rows for uid, each in self.corpus.partitions.items()}
        return windows_in_order(videos, self.config.seed, epoch, self.config.plan.window_videos)

    @cached_property
    def _repeats(self) -> Repeats | None:
        """What decides how often a video repeats; None if each has one bag."""
        if not self.config.plan.repeat_factor:
            return None
        tasks = [self.basis.task(0, uids) for uids in self._in_order(0)]
        counts = sum(self.over(tasks, count_usable_labels), np.zeros(len(self.corpus.classes), np.int64))
        weighed = self.over([replace(task, videos_of_label=counts) for task in tasks], weigh)
        weight_of = {uid: weight for found in weighed for uid, weight in found.items()}
        # The sum is always made in the same order, so that it is the same number.
        return Repeats(
            counts, weight_of, sum(weight_of[uid] for uid in sorted(weight_of)), sum(self.basis.usable.values())
        )


@dataclass(frozen=True)
class Repeats:
    """How often videos are drawn, if that depends on their labels."""

    videos_of_label: np.ndarray  # [C], of all usable videos
    weight_of: Mapping[int, float]  # uid -> the sum of the weights of its usable videos
    total_weight: float
    draws: int  # of an epoch: one for each usable video
