"""What an epoch is planned from: counts of the corpus, and the snapshot that the run has of it.

No row is read here. Tasks are given what they need to know of the rest of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from adaptfocus.pipelines.index.partitions import Partition, source_of
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.order import label_weights
from adaptfocus.pipelines.plan.windows import uid_of
from adaptfocus.pipelines.saliency.weights import weight_of_new
from adaptfocus.trainers.epochs.window_tasks import WindowTask
from adaptfocus.trainers.inputs.run_index import run_partitions, training_facts
from adaptfocus.trainers.inputs.unused_videos import count_unused
from adaptfocus.trainers.runs.growth import begun_facts, label_places, num_outputs
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.snapshots import Manifest, PartitionFiles, read_left_out
from adaptfocus.trainers.settings.run import TrainConfig


@dataclass(frozen=True)
class Corpus:
    """What rank 0 knows of the index of a run, or of all of its indexes."""

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
        partitions = {each.uid: each for each in run_partitions(config, facts.fingerprint)}
        counts = np.array([facts.label_counts.get(name, 0) for name in facts.classes], np.int64)
        return cls(partitions, tuple(facts.classes), places, counts, outputs if outputs > len(counts) else None)


@dataclass(frozen=True)
class Basis:
    """What is known before anything of an epoch is drawn."""

    config: TrainConfig
    corpus: Corpus
    manifest: Manifest
    over: Over

    def head_bags(self, bags: int) -> int:
        """The bags of the next epoch's head. A mixture has none: its windows are not those of one index."""
        return 0 if self.config.mixture.more else self.config.plan.head_bags(bags)

    def of_source(self, number: int) -> Basis:
        """The same with the partitions of one of the run's indexes only."""
        own = {uid: each for uid, each in self.corpus.partitions.items() if source_of(uid) == number}
        return replace(self, corpus=replace(self.corpus, partitions=own))

    def task(self, epoch: int, uids: Sequence[int]) -> WindowTask:
        partitions = tuple(self.corpus.partitions[uid] for uid in uids)
        corpus, files = self.corpus, self.files(uids)
        return WindowTask(
            self.config, corpus.classes, self.label_weights, epoch, partitions, files, corpus.max_labels,
            corpus.videos_of_label,
        )  # fmt: skip

    @cached_property
    def label_weights(self) -> np.ndarray:
        """`label_weights` of the whole corpus: the same for every window."""
        return label_weights(self.corpus.videos_of_label, self.config.plan.focus_balance)

    def weight_of(self, uid: int, epoch: int) -> int:
        files = self.manifest.get(uid)
        if files and files.priority:
            return files.weight + files.slope * epoch
        return self.usable[uid] * weight_of_new(self.config.plan.priority, epoch)

    def left_out_of(self, rows: Sequence[int]) -> set[int]:
        """Videos that the run has left out, at least those among some rows."""
        return read_left_out(self.run, self.files({uid_of(row) for row in rows}))

    def files(self, uids: Iterable[int]) -> dict[int, PartitionFiles]:
        return {uid: self.manifest[uid] for uid in uids if uid in self.manifest}

    @property
    def run(self) -> Run:
        return Run(self.config.url)

    @cached_property
    def usable(self) -> dict[int, int]:
        """uid -> the number of videos that may be planned."""
        return usable_of(self.config, self.corpus.partitions.values(), self.manifest)


def usable_of(config: TrainConfig, partitions: Iterable[Partition], manifest: Manifest) -> dict[int, int]:
    """uid -> the number of videos of each partition that may be planned."""
    excluded = {uid: files.excluded_rows for uid, files in manifest.items()}
    return {
        each.uid: each.rows - count_unused(config, [each]).videos - excluded.get(each.uid, 0) for each in partitions
    }
