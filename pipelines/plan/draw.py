"""Draws the clips of an epoch: a pure function of index, saliency, seed and epoch.

N clips of each video are drawn, half of them around salient times by default. The bags are put in order, and the
packets of each clip are looked up. A row of the plan is one bag. It holds all that a task needs to read and decode it.

Every video draws from its own counter-based generator, keyed by (seed, epoch, video id, occurrence). No draw
depends on another video, on the number of workers or on the order of the computation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.packets import video_with_packets
from adaptfocus.pipelines.plan.labels import FullLabels, find_shown_labels
from adaptfocus.pipelines.plan.order import (
    draw_repeated_order,
    generator,
    label_weights,
    order_of_epoch,
    repeat_weights,
)
from adaptfocus.pipelines.plan.settings import ClipConfig, DrawRules
from adaptfocus.pipelines.saliency.bins import spikes
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import NO_LABEL, PLAN_SCHEMA, EpochPlan, clip_id
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts

BAGS_AT_ONCE = 64  # as Python objects


@dataclass(frozen=True)
class Planner:
    """What planning needs from an index, computed once: columns as numpy and lists."""

    table: pa.Table
    classes: tuple[str, ...]
    label_ids: tuple[tuple[int, ...], ...]  # of each row of `table`
    max_labels: int
    video_rows: np.ndarray  # [V] int64, ascending: the `video_row` of each row of `table`

    @classmethod
    def of(cls, table: pa.Table, classes: Sequence[str]) -> Planner:
        """Args: `table`: rows of an index. Without the column `video_row`, they count from 0."""
        ids = {name: number for number, name in enumerate(classes)}
        found = [tuple(sorted({ids[n] for n in names})) for names in table.column("labels").to_pylist()]
        is_whole = "video_row" not in table.column_names
        rows = np.arange(table.num_rows) if is_whole else table.column("video_row").to_numpy()
        return cls(table, tuple(classes), tuple(found), max([len(f) for f in found], default=0) or 1, rows)

    def places(self, video_rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Where some videos stand in `table`, int64 [R].

        Raises:
            KeyError: one of them is not there.
        """
        wanted = np.asarray(video_rows, np.int64)
        found = np.minimum(np.searchsorted(self.video_rows, wanted), max(len(self.video_rows) - 1, 0))
        if len(wanted) and not (len(self.video_rows) and (self.video_rows[found] == wanted).all()):
            raise KeyError(f"video rows {wanted[:3].tolist()} ... are not all among these videos")
        return found

    def video(self, row: int) -> dict:
        """A video's row as Python values.

        A slice of the whole table costs time for each of its chunks, and a table has one a shard: 0.43 ms of CPU with
        50,000 shards, where a slice of one chunk takes 0.05 ms with any number.
        """
        batches, ends = self._chunks
        row = int(self.places([row])[0])
        number = int(np.searchsorted(ends, row, side="right"))
        return batches[number].slice(row - int(ends[number]) + batches[number].num_rows, 1).to_pylist()[0]

    @cached_property
    def _chunks(self) -> tuple[list[pa.RecordBatch], np.ndarray]:
        """The table's chunks and the row after each one's last."""
        batches = self.table.to_batches()
        return batches, np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)

    def empty_saliency(self, config: SaliencyConfig) -> SaliencyTable:
        return SaliencyTable.empty([list(ids) for ids in self.label_ids], config.bins, self.video_rows)


def plan_clips(
    planner: Planner,
    saliency: SaliencyTable,
    *,
    seed: int,
    epoch: int,
    clip: ClipConfig,
    rules: DrawRules,
    staleness: float,
    carried: Iterable[int] = (),
    excluded: Iterable[int] = (),
    head: pa.Table | None = None,
    only_bags: int | None = None,
) -> EpochPlan:
    """Draw one epoch. The same arguments always give the same plan, bit for bit.

    A global batch is a whole number of bags. Bags at the end of the order that do not fill one are carried into the
    next epoch, so that no batch is padded and no video is dropped.

    Args:
        head: the epoch's first bags, drawn earlier (with `only_bags`); they stay unchanged.
        only_bags: draw only this many bags from the beginning of the order.

    Raises:
        ConfigError: there are fewer videos than one global batch needs.
    """
    first = [] if head is None else head.column("video_row").to_pylist()
    order = _rows_in_order(planner, seed, epoch, carried, set(excluded), rules.repeat_factor)
    # A video left out since the head was drawn changes which videos repeat. The head's surplus must not lengthen the
    # epoch.
    room = max(len(order) - len(first), 0) if rules.repeat_factor else None
    rows = (first + _without(first, order)[:room])[:only_bags]
    fits = len(rows) // rules.bags_per_batch * rules.bags_per_batch
    if not fits:
        raise ConfigError(
            f"{len(rows)} usable videos do not fill one global batch of {rules.bags_per_batch}; "
            "lower plan.bags_per_batch or index more videos"
        )
    drawer = _Drawer(
        planner,
        saliency,
        seed,
        epoch,
        clip,
        rules,
        rows[:fits],
        _occurrences(rows[:fits]),
        spikes(saliency.bins, epoch, staleness),
        label_weights(planner.label_ids, rules.focus_balance),
    )

    def bags(start: int, stop: int) -> pa.Table:
        early = 0 if head is None else max(0, min(stop, head.num_rows) - start)
        drawn = _as_table(map(drawer.bag, range(start + early, stop)))
        return pa.concat_tables([head.slice(start, early), drawn]) if head is not None and early else drawn

    return EpochPlan(fits, tuple(rows[fits:]), planner.max_labels, bags)


@dataclass(frozen=True)
class _Drawer:
    """What the bags of an epoch are drawn from."""

    planner: Planner
    saliency: SaliencyTable
    seed: int
    epoch: int
    clip: ClipConfig
    rules: DrawRules
    rows: Sequence[int]  # of the videos, slot by slot
    occurrences: Sequence[int]  # how often the slot's video was drawn in earlier slots
    spikes: tuple[torch.Tensor, torch.Tensor]  # spike-actionness and salient time of each pair
    label_weights: Mapping[int, float]

    def bag(self, slot: int) -> dict[str, Any]:
        """The row of PLAN_SCHEMA of one slot."""
        row, occurrence, rules, bins = self.rows[slot], self.occurrences[slot], self.rules, self.saliency.bins
        video, labels, pairs = self.planner.video(row), self.planner.label_ids[row], self.saliency.pairs_of(row)
        random = generator(self.seed, self.epoch, video["video_id"], occurrence)
        draws = _draws(video, self._spots(labels, pairs), random, self.clip, rules)
        ids = [clip_id(self.epoch, slot, d) for d in range(len(draws))]
        clips, spans = _clips(video, [c for c, _ in draws], self.clip, ids)
        for made, (_, label) in zip(clips, draws, strict=True):
            made["focus_label_id"] = label
        return _bag(slot, row, occurrence, video, labels, clips, spans) | {
            "clip_positive": _positives(video, self.planner, labels, clips, self.clip, rules.full_labels),
            "saliency_score": bins.score[pairs].flatten().tolist(),
            "saliency_tau": bins.tau[pairs].flatten().tolist(),
            "saliency_epoch": bins.epoch[pairs].flatten().tolist(),
        }

    def _spots(self, labels: tuple[int, ...], pairs: slice) -> list[tuple[int, float, float]]:
        """(label, salient time, weight) of each action that clips may be drawn around."""
        from_epoch = self.rules.focus_from_epoch
        if from_epoch is None or self.epoch < from_epoch:
            return []
        a, salient = (values[pairs].tolist() for values in self.spikes)
        found = zip(labels, salient, a, strict=True)
        return [(k, t, self.label_weights[k]) for k, t, spike in found if spike >= 0]


def _occurrences(rows: Sequence[int]) -> list[int]:
    """How often the video of each slot stands in earlier slots."""
    seen: Counter[int] = Counter()
    found = []
    for row in rows:
        found.append(seen[row])
        seen[row] += 1
    return found


def _as_table(bags: Iterable[dict[str, Any]]) -> pa.Table:
    """Bags as rows of PLAN_SCHEMA. As Python objects they take 100 to 130 KB each, so only a few are that at once."""
    left, tables = iter(bags), [PLAN_SCHEMA.empty_table()]
    while some := list(islice(left, BAGS_AT_ONCE)):
        tables.append(pa.Table.from_pylist(some, schema=PLAN_SCHEMA))
    return pa.concat_tables(tables)


def plan_views(planner: Planner, clip: ClipConfig, num_views: int, crops: int = 1) -> EpochPlan:
    """The plan of an evaluation: N uniform views of every video. Each view is `crops` clips of the same frames."""

    def bag(row: int) -> dict[str, Any]:
        video, labels = planner.video(row), planner.label_ids[row]
        centers = view_centers_seconds(video, clip, num_views)
        ids = [clip_id(0, row, d) for d in range(num_views * crops)]
        clips, spans = _clips(video, np.repeat(centers, crops).tolist(), clip, ids)
        return (
            _bag(row, row, 0, video, labels, clips, spans)
            | {"clip_positive": [True] * (len(clips) * len(labels))}
            | {"saliency_score": [], "saliency_tau": [], "saliency_epoch": []}
        )

    def bags(start: int, stop: int) -> pa.Table:
        return _as_table(map(bag, range(start, stop)))

    return EpochPlan(planner.table.num_rows, (), planner.max_labels, bags)


def view_centers_seconds(video: Mapping[str, Any], clip: ClipConfig, num_views: int) -> np.ndarray:
    """The middles of N uniform views of a video, float64 [N]: from the earliest possible to the latest."""
    low, high = center_range_seconds(video, clip)
    return np.linspace(low, high, num_views) if num_views > 1 else np.array([(low + high) / 2])


def _rows_in_order(
    planner: Planner, seed: int, epoch: int, carried: Iterable[int], left_out: set[int], repeat_factor: float
) -> list[int]:
    """The carried rows, then the epoch's own rows in its order: every video once, or as many weighted draws."""
    names = planner.table.column("video_id").to_pylist()
    kept = [row for row in carried if row not in left_out]
    if not repeat_factor:
        return kept + [row for row in order_of_epoch(names, seed, epoch) if row not in left_out]
    usable = [row for row in range(len(names)) if row not in left_out]
    weights = repeat_weights([planner.label_ids[row] for row in usable], repeat_factor)
    return kept + draw_repeated_order([names[row] for row in usable], usable, weights, seed, epoch)


def _without(taken: Sequence[int], rows: Sequence[int]) -> list[int]:
    """`rows` minus one occurrence of each of `taken`."""
    left = Counter(taken)
    kept = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
        else:
            kept.append(row)
    return kept


def center_range_seconds(video: Mapping[str, Any], clip: ClipConfig) -> tuple[float, float]:
    """The earliest and latest centre of a clip that lies inside its video; the middle if the video is shorter."""
    half = (clip.frames - 1) / 2 * clip.stride_seconds(video["frame_rate_hz"])
    middle = video["duration_seconds"] / 2
    return min(half, middle), max(video["duration_seconds"] - half, middle)


def _draws(
    video: dict, spots: list[tuple[int, float, float]], random: np.random.Generator, clip: ClipConfig, rules: DrawRules
) -> list[tuple[float, int]]:
    """(centre in seconds, label that the clip was drawn around or NO_LABEL) of each clip of a bag.

    Three numbers are always drawn for a clip, used or not, so that a change of saliency moves only the clips that it
    concerns. `spots`: label, salient time and weight of each action that has been seen.
    """
    low, high = center_range_seconds(video, clip)
    duration = video["duration_seconds"]
    radius = rules.radius(duration)
    ends = np.cumsum([weight for *_, weight in spots])
    drawn = []
    for explore, which, where in random.random((rules.clips_per_bag, 3)).tolist():
        if not spots or explore < rules.explore_probability:
            drawn.append((low + where * (high - low), NO_LABEL))
            continue
        place = np.searchsorted(ends, which * ends[-1], side="right")
        label, salient, _ = spots[min(int(place), len(spots) - 1)]
        start = min(max((salient - radius) * duration, low), high)
        end = max(min((salient + radius) * duration, high), low)
        drawn.append((start + where * (end - start), label))
    return drawn


def _clips(
    video: dict, centers_seconds: list[float], clip: ClipConfig, ids: list[int]
) -> tuple[list[dict], list[dict]]:
    """Clips (CLIP_TYPE) around some centres, and the spans (SPAN_TYPE) that hold their packets."""
    packets = packets_of(video_with_packets(video))
    stride = clip.stride_seconds(video["frame_rate_hz"])
    steps = (np.arange(clip.frames) - (clip.frames - 1) / 2) * stride
    times = [center + steps for center in centers_seconds]
    frame_pts, spans = find_clips(video, packets, shown_pts(video, packets), times)
    clips = [
        {"clip_id": number, "center_seconds": center, "tau": center / video["duration_seconds"], "frame_pts": pts}
        | {"focus_label_id": NO_LABEL}
        for number, center, pts in zip(ids, centers_seconds, frame_pts, strict=True)
    ]
    return clips, spans


def _bag(
    slot: int, row: int, occurrence: int, video: dict, labels: tuple[int, ...], clips: list[dict], spans: list[dict]
) -> dict:
    same = {name: video[name] for name in PLAN_SCHEMA.names if name in video}
    return same | {
        "slot": slot, "video_row": row, "occurrence": occurrence, "label_ids": list(labels), "clips": clips,
        "spans": spans,
    }  # fmt: skip


def _positives(
    video: dict, planner: Planner, labels: tuple[int, ...], clips: list[dict], clip: ClipConfig, full: FullLabels | None
) -> list[bool]:
    """[clips x labels]: all true in the weak regimes; taken from the intervals in Full."""
    if not full:
        return [True] * (len(clips) * len(labels))
    half = (clip.frames - 1) / 2 * clip.stride_seconds(video["frame_rate_hz"]) if full == "overlap" else 0.0
    return find_shown_labels(video["intervals"], [planner.classes[k] for k in labels], clips, half)


def bare_bag(video: dict, frame_pts: list[list[int]], spans: list[dict]) -> dict:
    """A bag outside any plan, for pictures and tools: from a row of the index and the result of `find_clips`."""
    clips = [{"clip_id": number, "frame_pts": pts} for number, pts in enumerate(frame_pts)]
    return video | {"slot": 0, "video_row": 0, "clips": clips, "spans": spans}
