"""The plan of an evaluation and its truth, made partition by partition: each is a window of the plan.

    RUN/evaluations/NAME/plan/                          the views of all videos; a video's slot is its row in the index
    RUN/evaluations/NAME/working/tags-000000.parquet    the pairs of class and video of a partition, by class
    RUN/evaluations/NAME/working/moments-000000.parquet the classes that its views show, if all its intervals are known

A task reads the light rows of one partition and returns counts. The folder `working` is removed with the last score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.columns import list_column, ragged, rows_as_lists
from adaptfocus.pipelines.index.load import read_partition
from adaptfocus.pipelines.index.partitions import Partition
from adaptfocus.pipelines.over import Over
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import BAGS_PER_PART, PlanFacts, Window, publish, write_window
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.plan.views import plan_views, view_centers_seconds
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.diagnosis.true_moments import TrueMoments

TAGS_SCHEMA = pa.schema([("label_id", pa.int32()), ("slot", pa.int64())])
MOMENTS_SCHEMA = pa.schema([*TAGS_SCHEMA, pa.field("shown", pa.list_(pa.bool_()))])  # by view


@dataclass(frozen=True)
class Views:
    """The views of the videos of an index, and the folder of the evaluation that is to plan them."""

    index_url: str
    classes: tuple[str, ...]
    clip: ClipConfig
    views: int
    crops: int
    url: str

    def working(self, name: str) -> str:
        return store.join(self.url, "working", name)


class Truth(NamedTuple):
    """What is true of some videos of an index."""

    videos: int
    positives: np.ndarray  # int64 [K]: videos that show the class
    is_known: bool  # somebody has annotated the intervals of every video
    moments: np.ndarray  # int64 [K]: views that show the class; 0 if not all intervals are known

    def __add__(self, other: Truth) -> Truth:  # type: ignore[override]  # sums of counts, not a longer tuple
        is_known = self.is_known and other.is_known
        moments = (self.moments + other.moments) * is_known
        return Truth(self.videos + other.videos, self.positives + other.positives, is_known, moments)


def plan_all(views: Views, partitions: Sequence[Partition], max_labels: int, over: Over) -> tuple[PlanFacts, Truth]:
    """Plan the views of all partitions of an index, as tasks."""
    ends = np.cumsum([each.rows for each in partitions]).tolist()
    firsts = [end - each.rows for end, each in zip(ends, partitions, strict=True)]
    truth = Truth(0, np.zeros(len(views.classes), np.int64), True, np.zeros(len(views.classes), np.int64))
    for own in over([*zip(range(len(ends)), firsts, partitions, strict=True)], partial(plan_partition, views)):
        truth += own
    windows = tuple(Window((p.uid,), first, p.rows) for p, first in zip(partitions, firsts, strict=True))
    facts = PlanFacts(_plan_url(views), 0, truth.videos, windows, (), max_labels, BAGS_PER_PART)
    return publish(facts), truth


def plan_partition(views: Views, item: tuple[int, int, Partition]) -> Truth:
    """Plan the views of one partition -> counts of what is true of its videos.

    Args:
        item: the number of the partition in the index, its first slot, and itself.
    """
    number, first_slot, partition = item
    planner = Planner.of(read_partition(views.index_url, partition), views.classes)
    plan = plan_views(planner, views.clip, views.views, views.crops, first_slot)
    write_window(_plan_url(views), number, plan.tables(BAGS_PER_PART))
    positives = _write_tags(views, number, first_slot, planner)
    moments = TrueMoments.of(planner)
    is_known = bool(moments.is_known.all())
    shown = _write_moments(views, number, first_slot, planner, moments) if is_known else np.zeros_like(positives)
    return Truth(plan.num_bags, positives, is_known, shown)


def read_tags(views: Views, partitions: int, classes: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the slots with any class, the class of each pair of some classes, its slot); all int64."""
    tables = [read_table(views.working(_name("tags", number)), TAGS_SCHEMA) for number in range(partitions)]
    label, slot = (np.concatenate([t[name].to_numpy() for t in tables]) for name in TAGS_SCHEMA.names)
    is_own = (label >= classes.start) & (label < classes.stop)
    return np.unique(slot), label[is_own].astype(np.int64), slot[is_own]


def read_moments(views: Views, partitions: int, classes: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(class, slot, which views show it) of pairs of some classes: int64 [P], int64 [P], bool [P, N]."""
    found = []
    for number in range(partitions):
        table = read_table(views.working(_name("moments", number)), MOMENTS_SCHEMA)
        label = table["label_id"].to_numpy()
        table = table.filter(pa.array((label >= classes.start) & (label < classes.stop)))
        shown = list_column(table, "shown").values.reshape(-1, views.views)
        found.append((table["label_id"].to_numpy().astype(np.int64), table["slot"].to_numpy(), shown))
    label, slot, shown = (np.concatenate(each) for each in zip(*found, strict=True))
    return label, slot, shown


def _write_tags(views: Views, number: int, first_slot: int, planner: Planner) -> np.ndarray:
    items, lengths = ragged(planner.labels.begins, planner.labels.lengths)
    slot, label = np.repeat(np.arange(len(lengths)), lengths) + first_slot, planner.labels.values[items]
    order = np.argsort(label, kind="stable")
    table = pa.table({"label_id": label[order], "slot": slot[order]}).cast(TAGS_SCHEMA)
    write_table(table, views.working(_name("tags", number)))
    return np.bincount(label, minlength=len(views.classes))


def _write_moments(views: Views, number: int, first_slot: int, planner: Planner, moments: TrueMoments) -> np.ndarray:
    centers = view_centers_seconds(planner, np.arange(planner.table.num_rows), views.clip, views.views)
    place, label = moments.pairs
    shown = moments.show(place, label, centers[place])
    order = np.argsort(label, kind="stable")
    columns = [label[order].astype(np.int32), place[order] + first_slot, rows_as_lists(shown[order])]
    table = pa.table(dict(zip(MOMENTS_SCHEMA.names, columns, strict=True))).cast(MOMENTS_SCHEMA)
    write_table(table, views.working(_name("moments", number)))
    return np.bincount(label, shown.sum(axis=1), minlength=len(views.classes)).astype(np.int64)


def _plan_url(views: Views) -> str:
    return store.join(views.url, "plan")


def _name(what: str, number: int) -> str:
    return f"{what}-{number:06d}.parquet"
