"""The plan of an epoch, from windows that are drawn each on its own (`epochs.window_tasks`).

Rank 0 knows counts: of the partitions' videos from the index's manifests, of those left out from the run's. They say
which slots each window has before anything is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np

from adaptfocus.pipelines.index.load import read_partitions
from adaptfocus.pipelines.index.partitions import Partition
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.order import label_weights, shares
from adaptfocus.pipelines.plan.passes import START, Cursor, PassWindow, cursor_after, windows_from
from adaptfocus.pipelines.plan.priority import pick_partitions, ticks_and_bags
from adaptfocus.pipelines.plan.published import BAGS_PER_PART, PlanFacts, Window, publish, read_plan
from adaptfocus.pipelines.plan.windows import (
    Layout,
    Lead,
    by_partition,
    check_fits,
    lay_out,
    lead_of,
    of_partitions,
    uid_of,
    windows_in_order,
)
from adaptfocus.pipelines.saliency.scores import BUILT_IN, function_at
from adaptfocus.pipelines.saliency.weights import weight_of_new
from adaptfocus.trainers.epochs.window_tasks import (
    WindowTask,
    count_bags,
    count_usable_labels,
    draw_window,
    read_head,
    weigh,
)
from adaptfocus.trainers.inputs.time_order import training_facts
from adaptfocus.trainers.inputs.unused_videos import count_unused
from adaptfocus.trainers.runs.growth import begun_facts, label_places, num_outputs
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import Manifest, PartitionFiles, read_left_out
from adaptfocus.trainers.settings.run import TrainConfig

NO_LEAD = lead_of((), (), ())


@dataclass(frozen=True)
class Corpus:
    """What rank 0 knows of the index of a run."""

    partitions: Mapping[int, Partition]  # by uid
    classes: tuple[str, ...]
    max_labels: int  # of a bag
    videos_of_label: np.ndarray  # [C] int64, of all videos
    outputs: int | None = None  # of the run's head, if it has room for more classes

    @classmethod
    def of(cls, config: TrainConfig, fingerprint: str | None = None) -> Corpus:
        """The index of a run, from the manifests of a snapshot.

        Args:
            fingerprint: that of the snapshot; None: the one that the run was begun on.

        Raises:
            InputError, StorageError: as `open_index`.
        """
        begun = begun_facts(Run(config.url), config)
        facts = begun if fingerprint in (None, begun.fingerprint) else training_facts(config, fingerprint)
        outputs, places = num_outputs(config, begun), label_places(config, begun)
        partitions = {each.uid: each for each in read_partitions(config.index, facts.fingerprint)}
        counts = np.array([facts.label_counts.get(name, 0) for name in facts.classes], np.int64)
        return cls(partitions, tuple(facts.classes), places, counts, outputs if outputs > len(counts) else None)


@dataclass(frozen=True)
class EpochPlanner:
    """Plans an epoch from the snapshot of a manifest."""

    config: TrainConfig
    corpus: Corpus
    manifest: Manifest
    over: Over

    def draw(
        self, epoch: int, carried: Sequence[int], plan_url: str | None = None, cursor: Cursor | None = None
    ) -> PlanFacts:
        """Draw the plan of an epoch and write its parts. It exists once it is published.

        Args:
            carried: rows of the videos that the epoch before had no slots for.
            plan_url: the folder to write to; that of the run by default.
            cursor: where the epoch begins, if epochs are stretches; None: at the beginning of the first pass.

        Raises:
            ConfigError: there are too few usable videos for one global batch.
        """
        head = read_head(self._run, epoch).column("video_row").to_pylist()
        url = plan_url or self._run.epoch_url(epoch, "plan")
        if self.config.plan.bags_per_epoch:
            return self._draw_stretch(epoch, url, head, cursor or START, self.config.plan.bags_per_epoch)
        placed, layout = self._placed(epoch, url, head, carried)
        rest = [row for drawn in self.over(placed, draw_window) for row in drawn.rest]
        return self._facts(epoch, url, placed, layout, rest)

    def publish_head(self, epoch: int, carried: Sequence[int], bags: int, cursor: Cursor | None = None) -> PlanFacts:
        """Draw and publish the first bags of an epoch: its plan will begin with them, and they are read before it."""
        url = self._run.epoch_url(epoch, "head")
        if cursor:
            tasks, sizes = self._windows_of_stretch(epoch, cursor, NO_LEAD, bags)
            placed, layout = self._with_slots(epoch, url, NO_LEAD, tasks, sizes, bags)
        else:
            placed, layout = self._placed(epoch, url, (), carried, bags)
        needed = [task for task in placed if task.slots.first < bags]
        for _ in self.over(needed, draw_window):
            pass
        return publish(self._facts(epoch, url, needed, layout, ()))

    def _draw_stretch(self, epoch: int, plan_url: str, head: Sequence[int], cursor: Cursor, bags: int) -> PlanFacts:
        """The next bags of the sequence of passes. The windows that the next head needs are fixed with them."""
        lead = lead_of(head, (), self._left_out_of(head))
        picked = self._picked(epoch, int(self.config.plan.priority_share * bags))
        of_passes = bags - sum(picked.values())
        tasks, sizes = self._windows_of_stretch(epoch, cursor, lead, of_passes + self.config.plan.head_bags(bags))
        windows = [
            (task.of_pass, first, n)
            for task, first, n in zip(tasks, accumulate(sizes, initial=lead.bags), sizes, strict=False)
            if task.of_pass
        ]
        used, own = self._with_picked(tasks, windows, of_passes, picked)
        placed, layout = self._with_slots(epoch, plan_url, lead, used, own, bags)
        *_, newest = self.over(placed, draw_window)
        after = cursor_after(cursor, windows, of_passes, newest.last, self.config.seed)
        return replace(self._facts(epoch, plan_url, placed, layout, ()), next=after)

    def _picked(self, epoch: int, wanted: int) -> dict[int, int]:
        """uid -> bags by priority, about as many as wanted, of the partitions that are chosen."""
        if wanted and self.config.plan.priority not in BUILT_IN:
            function_at(self.config.plan.priority)  # better now than after an epoch
        weights = {uid: self._weight_of(uid, epoch) for uid in self.corpus.partitions} if wanted else {}
        ticks, bags = ticks_and_bags(wanted, sum(weight > 0 for weight in weights.values()))
        picked = pick_partitions(weights, ticks, self.config.seed, epoch)
        return {uid: times * bags for uid, times in picked.items()}

    def _weight_of(self, uid: int, epoch: int) -> int:
        files = self.manifest.get(uid)
        if files and files.priority:
            return files.weight + files.slope * epoch
        return self._usable[uid] * weight_of_new(self.config.plan.priority, epoch)

    def _with_picked(
        self, tasks: Sequence[WindowTask], windows: Sequence[tuple[PassWindow, int, int]], end: int,
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
            more = replace(self._task(task.epoch, uids), of_pass=task.of_pass, occurrence=task.occurrence)
            found.append(replace(more, taken=task.taken, pass_bags=of_pass, picked=own))
            sizes.append(of_pass + sum(own.values()))
        return found, sizes

    def _windows_of_stretch(
        self, epoch: int, cursor: Cursor, lead: Lead, bags: int
    ) -> tuple[list[WindowTask], list[int]]:
        """Windows from a place in the sequence on, which with the lead have so many bags; and the bags of each."""
        check_fits(sum(self._usable.values()), 0, self.config.plan.bags_per_batch)
        videos = {uid: each.rows for uid, each in self.corpus.partitions.items()}
        taken = self._taken_of_begun(epoch, lead)
        begins = (*cursor.begun, cursor)[0].number
        tasks, sizes = [], []
        for window in windows_from(cursor, videos, self.config.seed, self.config.plan.window_videos):
            head = taken[len(tasks)] if len(tasks) < len(taken) else {}
            task = replace(
                self._task(epoch, window.uids), of_pass=window, occurrence=window.number - begins, taken=head
            )
            is_counted = window.after is not None or head
            usable = sum(self._usable[uid] for uid in window.uids)
            sizes.append(next(iter(self.over([task], count_bags))) if is_counted else usable)
            tasks.append(task)
            if lead.bags + sum(sizes) >= bags and len(tasks) >= len(cursor.begun):
                break
        return tasks, sizes

    def _taken_of_begun(self, epoch: int, lead: Lead) -> list[dict[int, int]]:
        """Of each window that had begun before an epoch: row -> 1 for the videos that the epoch's head has of it."""
        facts = read_plan(self._run.epoch_url(epoch, "head")) if lead.head else None
        ranges = [(each.first_slot, each.first_slot + each.bags) for each in facts.windows[1:]] if facts else []
        return [{row: 1 for row in lead.head[first:end] if row in lead.taken} for first, end in ranges]

    def _facts(
        self, epoch: int, plan_url: str, placed: Sequence[WindowTask], layout: Layout, carried: Sequence[int]
    ) -> PlanFacts:
        slots = [task.slots for task in placed]
        windows = tuple(Window(each.uids, each.first, each.end - each.first) for each in slots)
        most = self.corpus.max_labels
        known = None if self.corpus.outputs is None else len(self.corpus.classes)
        return PlanFacts(
            plan_url, epoch, layout.num_bags, windows, tuple(carried), most, BAGS_PER_PART, num_classes=known
        )

    def _placed(
        self, epoch: int, plan_url: str, head: Sequence[int], carried: Sequence[int], most: int | None = None
    ) -> tuple[list[WindowTask], Layout]:
        """The tasks that draw an epoch, with the slots of each: the lead's, then the windows'."""
        left_out = self._left_out_of([*head, *carried])
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
            self._task(epoch, own), rows=lead.carried, has_head=bool(lead.head), earlier=dict(Counter(lead.head))
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
            replace(self._task(epoch, uids), taken=of_partitions(taken, uids), earlier=of_partitions(earlier, uids))
            for uids in self._in_order(epoch)
        ]
        repeats = self._repeats
        if repeats is None:
            usable = [sum(self._usable[each.uid] for each in task.partitions) for task in tasks]
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

    def _task(self, epoch: int, uids: Sequence[int]) -> WindowTask:
        partitions = tuple(self.corpus.partitions[uid] for uid in uids)
        corpus, files = self.corpus, self._files(uids)
        return WindowTask(
            self.config, corpus.classes, self._label_weights, epoch, partitions, files, corpus.max_labels,
            corpus.videos_of_label,
        )  # fmt: skip

    @cached_property
    def _label_weights(self) -> np.ndarray:
        """`label_weights` of the whole corpus: the same for every window."""
        return label_weights(self.corpus.videos_of_label, self.config.plan.focus_balance)

    def _left_out_of(self, rows: Sequence[int]) -> set[int]:
        """Videos that the run has left out, at least those among some rows."""
        return read_left_out(self._run, self._files({uid_of(row) for row in rows}))

    def _files(self, uids: Iterable[int]) -> dict[int, PartitionFiles]:
        return {uid: self.manifest[uid] for uid in uids if uid in self.manifest}

    @property
    def _run(self) -> Run:
        return Run(self.config.url)

    @cached_property
    def _usable(self) -> dict[int, int]:
        """uid -> the number of videos that may be planned."""
        excluded = {uid: files.excluded_rows for uid, files in self.manifest.items()}
        return {
            uid: each.rows - count_unused(self.config, [each]).videos - excluded.get(uid, 0)
            for uid, each in self.corpus.partitions.items()
        }

    @cached_property
    def _repeats(self) -> Repeats | None:
        """What decides how often a video repeats; None if each has one bag."""
        if not self.config.plan.repeat_factor:
            return None
        tasks = [self._task(0, uids) for uids in self._in_order(0)]
        counts = sum(self.over(tasks, count_usable_labels), np.zeros(len(self.corpus.classes), np.int64))
        weighed = self.over([replace(task, videos_of_label=counts) for task in tasks], weigh)
        weight_of = {uid: weight for found in weighed for uid, weight in found.items()}
        # The sum is always made in the same order, so that it is the same number.
        return Repeats(counts, weight_of, sum(weight_of[uid] for uid in sorted(weight_of)), sum(self._usable.values()))


@dataclass(frozen=True)
class Repeats:
    """How often videos are drawn, if that depends on their labels."""

    videos_of_label: np.ndarray  # [C], of all usable videos
    weight_of: Mapping[int, float]  # uid -> the sum of the weights of its usable videos
    total_weight: float
    draws: int  # of an epoch: one for each usable video
