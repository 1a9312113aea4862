"""An epoch of a run on several indexes (`mixture`): a stretch of the passes over each of them, in one order.

    slots   a b a a b a | a a b a b a | ...       every global batch has its share of each index
    a       window 0    | window 1    | ...       windows end where those of the index with the most bags end
    b       a piece of window 0 ...   | ...       of each other index, a window has the pieces that it needs

Each index has a cursor of its own, so weights may change from epoch to epoch, and nothing of any pass is lost
(docs/decisions/0032).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.plan.mixing import cut_windows, sources_of_slots
from adaptfocus.pipelines.plan.passes import START, Cursor
from adaptfocus.pipelines.plan.windows import Slots, lead_of
from adaptfocus.trainers.epochs.basis import Basis
from adaptfocus.trainers.epochs.mixed_windows import MixedTask, Piece, draw_mixed
from adaptfocus.trainers.epochs.stretches import OfPasses, find_stretch

_NO_LEAD = lead_of((), (), ())


def draw_mixture(
    basis: Basis, epoch: int, plan_url: str, cursors: Sequence[Cursor]
) -> tuple[list[Slots], tuple[Cursor, ...]]:
    """Draw an epoch and write its parts -> (the slots of each window, where the next epoch begins in each index).

    Args:
        cursors: where the epoch begins in the passes over each index; none: at the beginning.

    Raises:
        ConfigError: an index that an epoch needs has no usable video.
    """
    plan, config = basis.config.plan, basis.config
    assert plan.bags_per_epoch
    weights = config.mixture.weights(epoch)
    sources = sources_of_slots(weights, plan.bags_per_epoch, plan.bags_per_batch, config.seed, epoch)
    before = cursors or [START] * len(weights)
    found = {
        number: _stretch_of(basis, epoch, number, cursor, int((sources == number).sum()))
        for number, cursor in enumerate(before)
        if (sources == number).any()
    }
    tasks = list(_mixed(basis, plan_url, sources, found))
    last = {source: key for drawn in basis.over(tasks, draw_mixed) for source, key in (drawn.last_of or {}).items()}
    after = tuple(
        found[number].after(last.get(number), config.seed) if number in found else cursor
        for number, cursor in enumerate(before)
    )
    return [task.slots for task in tasks], after


def _stretch_of(basis: Basis, epoch: int, number: int, cursor: Cursor, bags: int) -> OfPasses:
    own = basis.of_source(number)
    if not sum(own.usable.values()):
        raise ConfigError(
            f"mixture: epoch {epoch + 1} needs {bags} bags of {basis.config.index_urls[number]}, which has no usable "
            "video; index some, or begin a run in which its weight is 0"
        )
    return find_stretch(own, epoch, cursor, _NO_LEAD, bags)


def _mixed(basis: Basis, plan_url: str, sources: np.ndarray, found: dict[int, OfPasses]) -> Iterator[MixedTask]:
    """The windows of an epoch."""
    slots = {number: np.flatnonzero(sources == number) for number in found}
    leader = max(found, key=lambda number: (len(slots[number]), -number))
    yield MixedTask(basis.config, (), sources[:0], Slots((), 0, 0, 0), plan_url, 0)  # there is no lead
    begin = 0
    ends = cut_windows([*accumulate(found[leader].sizes)], slots[leader], len(sources))
    for number, end in enumerate(ends, start=1):
        pieces: list[Piece] = []
        for source, own in found.items():
            pieces += _pieces(own, *np.searchsorted(slots[source], [begin, end]).tolist())
        uids = tuple(sorted({each.uid for piece in pieces for each in piece.task.partitions}))
        yield MixedTask(basis.config, tuple(pieces), sources[begin:end], Slots(uids, begin, end, end), plan_url, number)
        begin = end


def _pieces(found: OfPasses, first: int, end: int) -> Iterator[Piece]:
    """What bags [first, end) of an index in an epoch are of."""
    begins = [*accumulate(found.sizes, initial=0)]
    for task, begin, stop in zip(found.tasks, begins, begins[1:], strict=False):
        if max(begin, first) < min(stop, end):
            is_newest = stop == begins[-1] and end >= stop
            yield Piece(task, max(first - begin, 0), min(end, stop) - begin, is_newest)
