"""Which videos a report shows: those with confident misses, then those where the model is least sure.

(video, action) pairs are ranked by their spikes: a spike is the highest bin of an action's saliency over a video. A
user can ask for videos by id instead. Each choice has its reason in words.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan.labels import is_shown
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.saliency.bins import spikes
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable


class Choice(NamedTuple):
    """A video to show."""

    row: int
    why: str


class Snapshot(NamedTuple):
    """A run's saliency after some epochs."""

    name: str
    saliency: SaliencyTable
    epochs: int
    staleness: float


class _Pair(NamedTuple):
    """An action of a video, as one run sees it."""

    row: int
    label: str
    run: str
    spike: float
    hit: bool | None


def rows_of_ids(planner: Planner, video_ids: Sequence[str]) -> list[Choice]:
    """The videos of an index with the given ids; ids that the index does not have are left out."""
    rows = dict(zip(planner.ids, planner.video_rows.tolist(), strict=True))
    return [Choice(rows[name], "asked for by its id") for name in video_ids if name in rows]


def refuse_unknown(planners: Sequence[Planner], video_ids: Sequence[str]) -> None:
    """Raises InputError: an id is in none of the indexes; the message names the most similar id that is."""
    known = [name for planner in planners for name in planner.ids]
    for name in video_ids:
        if name not in set(known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise InputError(f"--video {name}: no video of the runs' indexes has that id{hint}")


def worst_videos(planner: Planner, snapshots: Sequence[Snapshot], count: int, excluded: set[int]) -> list[Choice]:
    """`count` labelled videos: half with the most confident misses, the others with the weakest spikes.

    Where no interval is known, no miss is known, and all videos are those with the weakest spikes. Where nothing has
    been scored yet, the videos are taken evenly from the index.
    """
    pairs = [pair for snapshot in snapshots for pair in _pairs(planner, snapshot) if pair.row not in excluded]
    misses = sorted((p for p in pairs if p.hit is False), key=lambda p: -p.spike)
    weak = sorted(pairs, key=lambda p: p.spike)
    chosen: dict[int, str] = {}
    for ranked, wanted, what in ((misses, (count + 1) // 2, "surest miss"), (weak, count, "weakest spike")):
        for pair in ranked:
            if len(chosen) >= wanted:
                break
            said = f"{what}: {pair.label}, spike {pair.spike:.2f}"
            where = ", outside every true interval" if pair.hit is False else ""
            chosen.setdefault(pair.row, f"{said}{where} ({pair.run})")
    labelled = planner.video_rows[planner.labels.lengths > 0].tolist()
    left = [row for row in labelled if row not in excluded and row not in chosen]
    more = min(count - len(chosen), len(left))
    chosen |= {left[(2 * i + 1) * len(left) // (2 * more)]: "taken evenly from the index" for i in range(more)}
    return [Choice(row, why) for row, why in chosen.items()]


def _pairs(planner: Planner, snapshot: Snapshot) -> list[_Pair]:
    """Every visited (video, action) pair."""
    a, salient = (t.numpy() for t in spikes(snapshot.saliency.bins, max(0, snapshot.epochs - 1), snapshot.staleness))
    duration = planner.table.column("duration_seconds").to_numpy()
    intervals = planner.table.column("intervals").to_pylist()
    rows, labels = snapshot.saliency.video_row, snapshot.saliency.label_id
    places = planner.places(rows)
    found = []
    for n in np.flatnonzero(a >= 0):
        row, label = int(rows[n]), planner.classes[int(labels[n])]
        spans = intervals[places[n]]
        hit = None if spans is None else is_shown(spans, label, float(salient[n]) * duration[places[n]])
        found.append(_Pair(row, label, snapshot.name, float(a[n]), hit))
    return found
