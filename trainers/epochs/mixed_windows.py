"""A window of a mixture: bags of windows of several indexes, in the order of the epoch, drawn as one task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.draw import Drawer
from adaptfocus.pipelines.plan.passes import Key
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import BAGS_PER_PART, write_window
from adaptfocus.pipelines.plan.windows import Slots
from adaptfocus.trainers.epochs.window_tasks import Drawn, WindowTask
from adaptfocus.trainers.settings.run import TrainConfig


class Piece(NamedTuple):
    """Bags [begin, end) of a window of one index."""

    task: WindowTask
    begin: int
    end: int
    is_newest: bool  # whether it ends the bags that the epoch has of this index


@dataclass(frozen=True)
class MixedTask:
    """The bags of some slots, of which each has an index."""

    config: TrainConfig
    pieces: tuple[Piece, ...]  # in the order of the passes of each index
    sources: np.ndarray  # uint8 [B], the number of the index of each slot
    slots: Slots
    plan_url: str  # the folder to write to
    number: int  # of the window in the plan


class _Ready(NamedTuple):
    """The bags of a piece, before they are drawn."""

    drawer: Drawer
    rows: np.ndarray  # int64 [n], of their videos
    occurrence: np.ndarray  # int64 [n]
    places: np.ndarray  # int64 [n], ascending: their slots, counted from the window's first


def draw_mixed(task: MixedTask) -> Drawn:
    """Draw a window's bags and write them. Any process may do it, and twice."""
    pieces, last = _ready(task)
    write_window(task.plan_url, task.number, _parts(task, pieces))
    return Drawn([], None, last)


def _ready(task: MixedTask) -> tuple[list[_Ready], dict[int, Key | None]]:
    """The pieces, and the last video in its pass of each index whose bags of the epoch end here."""
    bags = task.slots.end - task.slots.first
    places = {int(each): np.flatnonzero(task.sources[:bags] == each) for each in np.unique(task.sources)}
    known: dict[tuple[int, ...], tuple[Planner, Drawer]] = {}  # a small index has the same videos in several windows
    found, last, used = [], {}, dict.fromkeys(places, 0)
    for piece in task.pieces:
        uids = tuple(each.uid for each in piece.task.partitions)
        if uids not in known:
            planner = piece.task.planner()
            known[uids] = planner, piece.task.drawer(planner)
        planner, drawer = known[uids]
        source, drawn = piece.task.source, piece.task.bags(planner)
        own = places[source][used[source] : used[source] + piece.end - piece.begin]
        used[source] += piece.end - piece.begin
        rows = np.array(drawn.rows[piece.begin : piece.end], np.int64)[: len(own)]
        found.append(_Ready(drawer, rows, drawn.occurrence[piece.begin : piece.end][: len(own)], own))
        if piece.is_newest:
            last[source] = drawn.last
    return found, last


def _parts(task: MixedTask, pieces: list[_Ready]) -> Iterator[pa.Table]:
    """Tables of BAGS_PER_PART bags, except the last."""
    bags, first = task.slots.end - task.slots.first, task.slots.first
    for begin in range(0, bags, BAGS_PER_PART):
        tables, places = [], []
        for piece in pieces:
            own = slice(*np.searchsorted(piece.places, [begin, begin + BAGS_PER_PART]).tolist())
            if own.start < own.stop:
                slots = piece.places[own]
                tables.append(piece.drawer.bags(piece.rows[own], piece.occurrence[own], first + slots))
                places.append(slots)
        yield pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places))))


def begun(task: MixedTask | WindowTask, bags: int) -> MixedTask | WindowTask:
    """Only the first bags of a window."""
    return replace(task, slots=task.slots._replace(end=min(task.slots.end, task.slots.first + bags)))
