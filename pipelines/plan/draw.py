"""Draws the clips of an epoch: a pure function of index, saliency, seed and epoch.

N clips of each video are drawn, half of them around salient times by default. The bags are put in order. A row of the
plan is one bag. It says where the packets of its video lie; `plan.resolve` finds those of each clip.

Every video draws from its own counter-based generator, keyed by (seed, epoch, video id, occurrence). No draw
depends on another video, on the number of workers or on the order of the computation. So some windows of a corpus, or
some bags of a window, are drawn as they would be with all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.bags import Draws, bag_table
from adaptfocus.pipelines.plan.centers import center_ranges_seconds
from adaptfocus.pipelines.plan.labels import keep_rarest
from adaptfocus.pipelines.plan.order import (
    Share,
    draw_repeated_order,
    keys_of_draws,
    label_weights,
    order_of_epoch,
    repeat_weights,
)
from adaptfocus.pipelines.plan.philox import uniforms
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.settings import ClipConfig, DrawRules
from adaptfocus.pipelines.plan.windows import check_fits
from adaptfocus.pipelines.saliency.bin_scores import SALIENT, bin_weights
from adaptfocus.pipelines.saliency.bins import Bins, spikes
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import BY_SCORE, NO_LABEL, EpochPlan

PAIRS_AT_ONCE = 16_384  # of which spikes are found; all of a window at once took 50 MB more


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
    """Draw one epoch of the videos of one window. The same arguments always give the same plan, bit for bit.

    A global batch is a whole number of bags. Bags at the end of the order that do not fill one are carried into the
    next epoch, so that no batch is padded and no video is dropped.

    Args:
        carried: rows (`video_row`) of the videos that the epoch before had no room for.
        excluded: rows of the videos that are not planned.
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
    rows = (first + without(first, order)[:room])[:only_bags]
    fits = len(rows) // rules.bags_per_batch * rules.bags_per_batch
    check_fits(fits, len(rows), rules.bags_per_batch)
    occurrence = count_earlier(rows[:fits])
    drawer = Drawer(planner, saliency, seed, epoch, clip, rules, staleness, class_weights(planner, rules))

    def bags(start: int, stop: int) -> pa.Table:
        early = 0 if head is None else max(0, min(stop, head.num_rows) - start)
        begin = start + early
        own = np.array(rows[begin:stop], np.int64)
        drawn = drawer.bags(own, occurrence[begin:stop], np.arange(begin, begin + len(own)))
        return pa.concat_tables([head.slice(start, early), drawn]) if head is not None and early else drawn

    return EpochPlan(fits, tuple(rows[fits:]), planner.max_labels, bags)


def class_weights(planner: Planner, rules: DrawRules) -> np.ndarray:
    """`label_weights` of the planner's own videos, as an array over its classes, float64 [C]."""
    counts = np.bincount(planner.labels.values, minlength=len(planner.classes))
    return label_weights(counts, rules.focus_balance)


@dataclass(frozen=True)
class Drawer:
    """Draws bags of the videos of a planner in an epoch."""

    planner: Planner
    saliency: SaliencyTable  # of at least the planner's videos
    seed: int
    epoch: int
    clip: ClipConfig
    rules: DrawRules
    staleness: float
    label_weights: np.ndarray  # [C], of the whole corpus
    max_labels: int | None = None  # that a bag carries; None: all of its video's
    videos_of_label: np.ndarray | None = None  # [C], of the whole corpus: decides which, if a video has more

    def bags(self, video_rows: np.ndarray, occurrence: np.ndarray, slots: np.ndarray) -> pa.Table:
        """Rows of PLAN_SCHEMA of some slots.

        Args:
            video_rows: int64 [B], of each slot.
            occurrence: int64 [B], how often the slot's video stands in earlier slots of the epoch.
            slots: int64 [B].
        """
        places = self.planner.places(video_rows)
        draws = self._draws(video_rows, places, occurrence)
        carried = None
        if self.max_labels is not None and self.videos_of_label is not None:
            carried = keep_rarest(self.planner.labels, places, self.videos_of_label, self.max_labels)
        return bag_table(
            self.planner, self.saliency, places, slots, occurrence, draws, self.epoch, self.clip,
            self.rules.full_labels, carried,
        )  # fmt: skip

    def _draws(self, video_rows: np.ndarray, places: np.ndarray, occurrence: np.ndarray) -> Draws:
        """The clips of some bags.

        Three numbers are always drawn for a clip, used or not, so that a change of saliency moves only the clips that
        it concerns.
        """
        ids, clips = self.planner.ids, self.rules.clips_per_bag
        keys = keys_of_draws([ids[place] for place in places.tolist()], occurrence, self.seed, self.epoch)
        explore, which, where = uniforms(keys, 3 * clips).reshape(len(keys), clips, 3).transpose(2, 0, 1)  # [B, N]
        duration = column(self.planner.table, "duration_seconds")[places][:, None]
        low, high = (each[:, None] for each in center_ranges_seconds(self.planner.table, places, self.clip))
        center = low + where * (high - low)
        focus = np.full(center.shape, NO_LABEL, np.int64)
        if self.rules.focus_from_epoch is None or self.epoch < self.rules.focus_from_epoch:
            return Draws(center, focus)
        if self.rules.resample_by != SALIENT:
            begin, width, some = self._bins(places, which)
            by_score = some[:, None] & (explore >= self.rules.explore_probability)
            start, end = (np.clip(each * duration, low, high) for each in (begin, begin + width))
            return Draws(np.where(by_score, start + where * (end - start), center), np.where(by_score, BY_SCORE, focus))
        label, salient, some = self._spots(video_rows, places, which)
        radius = self.rules.delta_seconds / duration if self.rules.delta_seconds else self.rules.delta
        start = np.minimum(np.maximum((salient - radius) * duration, low), high)
        end = np.maximum(np.minimum((salient + radius) * duration, high), low)
        around = some[:, None] & (explore >= self.rules.explore_probability)
        return Draws(np.where(around, start + where * (end - start), center), np.where(around, label, focus))

    def _bins(self, places: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Where the bin of each clip begins, [B, N], and how wide it is, as fractions, and whether a bag has any, [B].

        `which` chooses a bin in proportion to its weight.
        """
        weights = self._bin_weights[places]
        ends = np.cumsum(weights, axis=1)
        bins = ends.shape[1]
        some = ends[:, -1] > 0
        beyond = ends[:, None] > (which * ends[:, -1:])[:, :, None]  # [B, N, n]
        last = bins - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
        return np.where(beyond.any(axis=2), beyond.argmax(axis=2), last[:, None]) / bins, 1 / bins, some

    @cached_property
    def _bin_weights(self) -> np.ndarray:
        """Of each bin of the planner's videos, float64 [V, n]."""
        planner = self.planner
        return bin_weights(self.rules.resample_by, planner.video_rows, planner.labels, self.saliency, self.epoch)

    def _spots(
        self, video_rows: np.ndarray, places: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(label, salient time) that each clip would be drawn around, [B, N], and whether a bag has any, [B].

        Among the video's actions that have been seen, `which` chooses one in proportion to its weight.
        """
        labels = self.planner.labels
        widest = int(labels.lengths[places].max(initial=0))
        if not widest:
            none = np.zeros(which.shape)
            return none.astype(np.int64), none, np.zeros(len(places), bool)
        place = np.arange(widest)
        own = place < labels.lengths[places, None]  # [B, L]
        label = labels.values[np.where(own, labels.begins[places, None] + place, 0)]
        pair = np.where(own, np.searchsorted(self.saliency.video_row, video_rows)[:, None] + place, 0)
        a, salient = (values[pair] for values in self._spikes)
        seen = own & (a >= 0)
        ends = np.cumsum(np.where(seen, self.label_weights[label], 0.0), axis=1)
        beyond = (ends[:, None] > (which * ends[:, -1:])[:, :, None]) & seen[:, None]  # [B, N, L]
        last = widest - 1 - np.argmax(seen[:, ::-1], axis=1)
        chosen = np.where(beyond.any(axis=2), beyond.argmax(axis=2), last[:, None])
        return (
            np.take_along_axis(label, chosen, axis=1),
            np.take_along_axis(salient, chosen, axis=1),
            np.asarray(seen.any(axis=1)),
        )

    @cached_property
    def _spikes(self) -> tuple[np.ndarray, np.ndarray]:
        """Spike-actionness and salient time of each pair of the snapshot, float32 and float64 [R]."""
        bins, rows = self.saliency.bins, len(self.saliency.video_row)
        a, salient = np.empty(rows, np.float32), np.empty(rows)
        for first in range(0, rows, PAIRS_AT_ONCE):
            part = slice(first, first + PAIRS_AT_ONCE)
            own = spikes(Bins(bins.score[part], bins.tau[part], bins.epoch[part]), self.epoch, self.staleness)
            a[part], salient[part] = (each.numpy() for each in own)
        return a, salient


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers."""
    return table.column(name).to_numpy()


def count_earlier(rows: Sequence[int], before: Mapping[int, int] | None = None) -> np.ndarray:
    """How often the video of each slot stands in earlier slots, int64 [B]; `before`: in those before the first."""
    seen = Counter(before)
    found = []
    for row in rows:
        found.append(seen[row])
        seen[row] += 1
    return np.array(found, np.int64)


def _rows_in_order(
    planner: Planner, seed: int, epoch: int, carried: Iterable[int], left_out: set[int], repeat_factor: float
) -> list[int]:
    """The carried rows, then the epoch's own rows in its order: every video once, or as many weighted draws."""
    kept = [row for row in carried if row not in left_out]
    usable = usable_places(planner, left_out)
    if not repeat_factor:
        return kept + rows_in_order(planner, usable, seed, epoch)
    counts = count_labels(planner, usable)
    return kept + rows_in_order(planner, usable, seed, epoch, weights_of(planner, usable, counts, repeat_factor))


def usable_places(planner: Planner, left_out: Collection[int]) -> np.ndarray:
    """The places in the planner's table of all videos that are not left out, int64."""
    return np.flatnonzero(~np.isin(planner.video_rows, np.fromiter(left_out, np.int64, len(left_out))))


def rows_in_order(
    planner: Planner, usable: np.ndarray, seed: int, epoch: int, weights: np.ndarray | None = None,
    share: Share | None = None,
) -> list[int]:  # fmt: skip
    """The rows of the videos at some places, in the order of the epoch.

    Args:
        weights: of these videos, if they are drawn in proportion to weights; None: every video once.
        share: that of these videos, if they are drawn by weights and are one window of several.
    """
    rows, names = planner.video_rows[usable].tolist(), [planner.ids[place] for place in usable.tolist()]
    if weights is None:
        return [rows[at] for at in order_of_epoch(names, seed, epoch)]
    return draw_repeated_order(names, rows, weights, seed, epoch, share)


def count_labels(planner: Planner, places: np.ndarray) -> np.ndarray:
    """The number of videos with each label among some of the planner's, int64 [C]."""
    return np.bincount(planner.labels.take(places).values, minlength=len(planner.classes))


def weights_of(planner: Planner, places: np.ndarray, videos_of_label: np.ndarray, repeat_factor: float) -> np.ndarray:
    """`repeat_weights` of some of the planner's videos."""
    return repeat_weights(planner.labels.take(places), videos_of_label, repeat_factor)


def without(taken: Sequence[int], rows: Sequence[int]) -> list[int]:
    """`rows` minus one occurrence of each of `taken`."""
    left = Counter(taken)
    kept = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
        else:
            kept.append(row)
    return kept
