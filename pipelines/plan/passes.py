"""The sequence of passes over a corpus, of which an epoch may be a stretch (`plan.bags_per_epoch`).

    pass 0: window | window | ...    pass 1: window | window | ...    pass 2 ...
    `-- epoch 0 --' `- epoch 1 -' `- epoch 2 -' ...

A pass has every video once, in an order of its own. Epochs one behind the other are the sequence. A place in it is told
by keys and not by counts, so a corpus may grow or lose videos in the middle of a pass: nothing comes twice, and new
partitions whose keys lie ahead take part at once (docs/decisions/0030).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adaptfocus.pipelines.plan.order import hashes, order_of_partitions
from adaptfocus.pipelines.plan.windows import group

Key = tuple[int, int]  # a hash, and what decides between equal ones: the uid of a partition, the row of a video


class PassWindow(NamedTuple):
    """A window of a pass, or the rest of it."""

    number: int  # of the pass
    uids: tuple[int, ...]
    after: Key | None = None  # the last video that has been drawn; None: none has


class Cursor(NamedTuple):
    """A place in the sequence of passes."""

    number: int  # of the pass
    key: Key | None  # of the last partition that is in a window before this place, or in one of `begun`; None: none is
    begun: tuple[PassWindow, ...]  # windows that stay as they are: some of their bags are drawn

    def to_json(self) -> dict[str, Any]:
        return {"pass": self.number, "key": self.key, "begun": [list(each) for each in self.begun]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cursor:
        """Raises KeyError, TypeError, ValueError: it is none."""
        windows = ((_count(number), tuple(map(_count, uids)), _key(after)) for number, uids, after in values["begun"])
        found = cls(_count(values["pass"]), _key(values["key"]), tuple(PassWindow(*each) for each in windows))
        numbers = [*(each.number for each in found.begun), found.number]
        if numbers != sorted(numbers):
            raise ValueError(f"its passes {numbers!r:.50} are not in order")
        uids = [(each.number, uid) for each in found.begun for uid in each.uids]
        if len(set(uids)) < len(uids):
            raise ValueError("a partition is in two windows of a pass")
        return found


START = Cursor(0, None, ())


def windows_from(
    cursor: Cursor, videos: Mapping[int, int], seed: int, window_videos: int, partitions: int | None = None
) -> Iterator[PassWindow]:
    """The windows from a place in the sequence on, without end.

    Args:
        videos: uid -> the number of videos of each partition.
        partitions: the least number of a window; `windows.PARTITIONS_PER_WINDOW` by default.
    """
    for window in cursor.begun:
        yield window._replace(uids=tuple(uid for uid in window.uids if uid in videos))
    number, key = cursor.number, cursor.key
    while True:
        uids = order_of_partitions(sorted(videos), seed, number)
        ahead = [uid for uid in uids if key is None or key_of_partition(uid, seed, number) > key]
        yield from (PassWindow(number, window) for window in group(ahead, videos, window_videos, partitions))
        number, key = number + 1, None


def cursor_after(
    before: Cursor, windows: Sequence[tuple[PassWindow, int, int]], end: int, last: Key | None, seed: int
) -> Cursor:
    """The place behind a stretch.

    Args:
        before: where the stretch begins.
        windows: from `before` on, all of `before.begun` and more, each with its first slot and its number of bags.
        end: the end slot of the stretch.
        last: the last video drawn in the last window that the stretch has slots of.
    """
    begun = tuple(
        window._replace(after=last) if first < end else window for window, first, bags in windows if first + bags > end
    )
    if len(windows) <= len(before.begun):
        return before._replace(begun=begun)
    newest = windows[-1][0]
    return Cursor(newest.number, key_of_partition(newest.uids[-1], seed, newest.number), begun)


def key_of_partition(uid: int, seed: int, number: int) -> Key:
    """Where a partition stands in a pass."""
    return int(hashes(f"{seed}/{number}/partition", [str(uid)])[0]), uid


def is_after(key: Key, video_ids: Sequence[str], rows: np.ndarray, seed: int, number: int) -> np.ndarray:
    """Whether videos come after a place in the order of a pass, bool [V].

    Args:
        rows: `video_row` of each video, int64 [V].
    """
    found = hashes(f"{seed}/{number}/order", video_ids)
    return (found > np.uint64(key[0])) | ((found == np.uint64(key[0])) & (rows > key[1]))


def last_key(video_ids: Sequence[str], rows: Sequence[int], seed: int, number: int) -> Key | None:
    """The place of the last of some videos in the order of a pass; None if there are none."""
    return max(zip(hashes(f"{seed}/{number}/order", video_ids).tolist(), rows, strict=True), default=None)


def _count(value: object, bits: int = 63) -> int:
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise ValueError(f"{value!r:.50} is not a count of {bits} bits")
    return value


def _key(values: Sequence[object] | None) -> Key | None:
    if values is None:
        return None
    hashed, number = values
    return _count(hashed, 64), _count(number)
