"""The plan of an epoch, from windows that are drawn each on its own (`runs.window_tasks`).

Rank 0 knows counts: of the partitions' videos from the index's manifests, of those left out from the run's. They say
which slots each window has before anything is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from adaptfocus.pipelines.index.load import read_partitions
from adaptfocus.pipelines.index.partitions import Partition
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.order import label_weights, shares
from adaptfocus.pipelines.plan.published import BAGS_PER_PART, PlanFacts, Window, publish
from adaptfocus.pipelines.plan.windows import (
    Layout,
    Lead,
    by_partition,
    lay_out,
    lead_of,
    of_partitions,
    uid_of,
    windows_in_order,
)
from adaptfocus.trainers.inputs.time_order import training_facts
from adaptfocus.trainers.inputs.unused_videos import count_unused
from adaptfocus.trainers.runs.growth import begun_facts, label_places, num_outputs
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import Manifest, PartitionFiles, read_left_out
from adaptfocus.trainers.runs.window_tasks import (
    WindowTask,
    count_bags,
    count_usable_labels,
    draw_window,
    read_head,
    weigh,
)
from adaptfocus.trainers.settings.run import TrainConfig


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

    def draw(self, epoch: int, carried: Sequence[int], plan_url: str | None = None) -> PlanFacts:
        """Draw the plan of an epoch and write its parts. It exists once it is published.

        Args:
            carried: rows of the videos that the epoch before had no slots for.
            plan_url: the folder to write to; that of the run by default.

        Raises:
            ConfigError: there are too few usable videos for one global batch.
        """
        head = read_head(self._run, epoch).column("video_row").to_pylist()
        url = plan_url or self._run.epoch_url(epoch, "plan")
        placed, layout = self._placed(epoch, url, head, carried)
        rest = [row for rows in self.over(placed, draw_window) for row in rows]
        return self._facts(epoch, url, placed, layout, rest)

    def publish_head(self, epoch: int, carried: Sequence[int], bags: int) -> PlanFacts:
        """Draw and publish the first bags of an epoch: its plan will begin with them, and they are read before it."""
        url = self._run.epoch_url(epoch, "head")
        placed, layout = self._placed(epoch, url, (), carried, bags)
        needed = [task for task in placed if task.slots.first < bags]
        for _ in self.over(needed, draw_window):
            pass
        return publish(self._facts(epoch, url, needed, layout, ()))

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
