"""How an epoch's slots are shared out to windows of partitions, before anything is drawn (docs/decisions/0028).

    head | carried bags | window 0 | window 1 | ...                     and what fills no batch is carried over
    `----- the lead ----'

Everything here follows from counts. No process knows the videos of more than one window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.partitions import ROW_BITS
from adaptfocus.pipelines.plan.order import order_of_partitions

PARTITIONS_PER_WINDOW = 8  # at least: 65,536 videos, an order as good as a corpus's own, planned in 0.6 GB


def uid_of(video_row: int) -> int:
    """The partition of a video."""
    return video_row >> ROW_BITS


def windows_in_order(videos: Mapping[int, int], seed: int, epoch: int, window_videos: int) -> list[tuple[int, ...]]:
    """The partitions of each window of an epoch, in the order of the epoch.

    A window is the next PARTITIONS_PER_WINDOW partitions, and more until it has `window_videos` videos: an index that
    grew by a few videos at a time has many small partitions.

    Args:
        videos: uid -> the number of videos of each partition.
    """
    return list(group(order_of_partitions(sorted(videos), seed, epoch), videos, window_videos))


def group(
    uids: Iterable[int], videos: Mapping[int, int], window_videos: int, partitions: int | None = None
) -> Iterator[tuple[int, ...]]:
    """The windows of partitions that are in order; the arguments are those of `windows_in_order`."""
    window: list[int] = []
    room, least = window_videos, partitions or PARTITIONS_PER_WINDOW
    for uid in uids:
        if len(window) >= least and room <= 0:
            yield tuple(window)
            window, room = [], window_videos
        window.append(uid)
        room -= videos[uid]
    if window:
        yield tuple(window)


class Lead(NamedTuple):
    """What comes before the first window."""

    head: tuple[int, ...]  # rows of the videos that were drawn one epoch earlier
    carried: tuple[int, ...]  # rows of the videos carried over that the head does not have already
    taken: Counter[int]  # of the head, what the windows therefore do without

    @property
    def bags(self) -> int:
        return len(self.head) + len(self.carried)

    def occurrences(self) -> Counter[int]:
        """How often each video stands in the lead."""
        return Counter(self.head) + Counter(self.carried)


def by_partition(counts: Mapping[int, int]) -> dict[int, dict[int, int]]:
    """uid -> counts of its videos, by row."""
    found: dict[int, dict[int, int]] = {}
    for row, n in counts.items():
        found.setdefault(uid_of(row), {})[row] = n
    return found


def of_partitions(grouped: Mapping[int, Mapping[int, int]], uids: Iterable[int]) -> dict[int, int]:
    """The counts of the videos of some partitions, from `by_partition`."""
    return {row: n for uid in uids for row, n in grouped.get(uid, {}).items()}


def lead_of(head: Sequence[int], carried: Sequence[int], left_out: Collection[int]) -> Lead:
    """The lead of an epoch.

    Args:
        head: rows of the epoch's first bags, drawn earlier; these stay, whatever is left out since.
        carried: rows of the videos that the epoch before had no room for.
        left_out: videos that are not planned any more, at least those among `head` and `carried`.
    """
    left, kept = Counter(head), []
    for row in carried:
        if row in left_out:
            continue
        if left[row] > 0:
            left[row] -= 1
        else:
            kept.append(row)
    taken = Counter({row: n for row, n in left.items() if n > 0 and row not in left_out})
    return Lead(tuple(head), tuple(kept), taken)


class Slots(NamedTuple):
    """The slots of one window of an epoch."""

    uids: tuple[int, ...]
    first: int
    end: int  # of those that this epoch trains
    last: int  # of those that exist: the videos of [end, last) are carried over


class Layout(NamedTuple):
    """The slots of an epoch."""

    lead: Slots
    windows: list[Slots]
    num_bags: int  # in whole global batches


def lay_out(
    lead: Lead, windows: Sequence[tuple[tuple[int, ...], int]], bags_per_batch: int, most: int | None = None
) -> Layout:
    """Share out an epoch's slots.

    Args:
        windows: partitions and number of bags of each window, in the order of the epoch.
        most: the number of bags of the epoch with those that are carried over, if the windows have more.

    Raises:
        ConfigError: no global batch is full.
    """
    total = lead.bags + sum(bags for _, bags in windows)
    total = total if most is None else min(total, most)
    fits = total // bags_per_batch * bags_per_batch
    check_fits(fits, total, bags_per_batch)
    of_lead = sorted({uid_of(row) for row in (*lead.head, *lead.carried)})
    sizes = [(tuple(of_lead), lead.bags), *windows]
    slots = list(_slots(sizes, fits, total))
    return Layout(slots[0], slots[1:], fits)


def check_fits(fits: int, videos: int, bags_per_batch: int) -> None:
    """Raises ConfigError if an epoch has no whole global batch."""
    if not fits:
        raise ConfigError(
            f"{videos} usable videos do not fill one global batch of {bags_per_batch}; "
            "lower plan.bags_per_batch or index more videos"
        )


def _slots(sizes: Sequence[tuple[tuple[int, ...], int]], fits: int, total: int) -> Iterator[Slots]:
    first = 0
    for uids, bags in sizes:
        last = min(first + bags, total)
        yield Slots(uids, first, max(first, min(last, fits)), last)
        first = last
