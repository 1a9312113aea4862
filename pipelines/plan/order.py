"""The order of an epoch's videos, and how often each of them is drawn."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adaptfocus.pipelines.columns import ListColumn

HASH_BYTES = 8


def order_of_epoch(video_ids: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Places of videos in the epoch's order: sorted by a hash of (seed, epoch, video id).

    So a part of a corpus keeps its relative order whatever else the corpus holds.
    """
    return np.argsort(hashes(f"{seed}/{epoch}/order", video_ids), kind="stable").tolist()


def keys_of_draws(video_ids: list[str], occurrence: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The key of each bag's generator of random numbers, uint64 [B]: a hash of (seed, epoch, occurrence, video id)."""
    keys = np.empty(len(video_ids), np.uint64)
    for each in np.unique(occurrence).tolist():
        where = np.flatnonzero(occurrence == each)
        keys[where] = hashes(f"{seed}/{epoch}/draw/{each}", [video_ids[at] for at in where.tolist()])
    return keys


def label_weights(videos_of_label: np.ndarray, exponent: float) -> np.ndarray:
    """The relative weight of each label k when the label that a clip is drawn around is chosen: n_k^-exponent.

    Args:
        videos_of_label: n_k, int [C]. A label without videos has no weight.
    """
    return np.array([n**-exponent if n else 0.0 for n in videos_of_label.tolist()])


def repeat_weights(labels: ListColumn, videos_of_label: np.ndarray, exponent: float) -> np.ndarray:
    """The relative weight of each video: the max over its labels k of (n_mean / n_k)^exponent, float64 [V].

    n_k is the number of videos with label k. n_mean is the mean of n_k over the labels that occur. A video without
    labels has weight 1. This is repeat-factor sampling as in Gupta, Dollar, Girshick, "LVIS" (arXiv 1908.03195),
    section 4.2, without its threshold.

    Args:
        labels: those of each video. videos_of_label: n_k, int [C].
    """
    counts = videos_of_label.tolist()
    mean = sum(counts) / max(sum(n > 0 for n in counts), 1)
    of_label = np.array([(mean / n) ** exponent if n else 0.0 for n in counts])
    weights = np.ones(len(labels.lengths))
    has_labels = np.flatnonzero(labels.lengths)
    if len(has_labels):
        weights[has_labels] = np.maximum.reduceat(of_label[labels.values], labels.begins[has_labels])
    return weights


@dataclass(frozen=True)
class Share:
    """A window's share of an epoch with repeats: its videos' draws are those that systematic resampling of the whole
    epoch gives them."""

    total_weight: float  # of all videos of the epoch
    draws: int  # in the epoch
    begin: float  # expected number of draws in all earlier windows
    first: int  # draws in all earlier windows
    count: int  # draws in this window


def shares(weights: Sequence[float], total_weight: float, draws: int, seed: int, epoch: int) -> list[Share]:
    """The shares of windows with these sums of weights, in the order of the epoch."""
    whole = total_weight or 1.0  # 0: every video is left out, and there are no draws
    ends = np.cumsum([weight / whole * draws for weight in weights]).tolist()
    begins = [0.0, *ends[:-1]]
    ticks = [_tick(begin, seed, epoch) for begin in begins]
    last = max((number for number, weight in enumerate(weights) if weight > 0), default=0)
    # The last window with any video takes up what rounding has left.
    ticks = [*ticks[: last + 1], *[ticks[0] + draws] * (len(weights) - last)]
    return [
        Share(total_weight, draws, begin, tick - ticks[0], after - tick)
        for begin, tick, after in zip(begins, ticks, ticks[1:], strict=False)
    ]


def draw_repeated_order(
    video_ids: Sequence[str],
    rows: Sequence[int],
    weights: np.ndarray,
    seed: int,
    epoch: int,
    share: Share | None = None,
) -> list[int]:
    """As many draws as there are videos, each video in proportion to its weight, in the epoch's order.

    This is systematic resampling with one offset an epoch: a video with the expected count r is drawn floor(r) or
    ceil(r) times, and the draws always sum to the number of videos. A shuffled order decides between floor and ceil,
    so that neighbours in the index do not.

    Args:
        share: that of these videos, if they are one window of several.
    """
    if not len(rows):
        return []
    share = share or shares([float(weights.sum())], float(weights.sum()), len(rows), seed, epoch)[0]
    shuffled = np.array(order_of_epoch(video_ids, seed, epoch))
    wanted = weights[shuffled] / share.total_weight * share.draws
    offset = _offset(seed, epoch)
    ends = np.floor(share.begin + np.cumsum(wanted) - offset + 1e-9)
    copies = np.diff(ends, prepend=_tick(share.begin, seed, epoch)).astype(int)
    _settle(copies, share.count)
    keys = [
        (_hash(seed, epoch, "order", copy, video_ids[place]), rows[place])
        for place, count in zip(shuffled.tolist(), copies.tolist(), strict=True)
        for copy in range(count)
    ]
    return [row for _, row in sorted(keys)]


def _settle(copies: np.ndarray, count: int) -> None:
    """Let the last copies take up what rounding has left between their sum and `count`."""
    left = count - int(copies.sum())
    for place in range(len(copies) - 1, -1, -1):
        taken = max(left, -int(copies[place]))
        copies[place] += taken
        left -= taken
        if not left:
            return


def _offset(seed: int, epoch: int) -> float:
    return _hash(seed, epoch, "repeat") / 2**64


def _tick(expected: float, seed: int, epoch: int) -> int:
    return math.floor(expected - _offset(seed, epoch) + 1e-9)


def order_of_partitions(uids: Sequence[int], seed: int, epoch: int) -> list[int]:
    """Partitions of an index in the epoch's order: sorted by a hash of (seed, epoch, uid)."""
    found = hashes(f"{seed}/{epoch}/partition", [str(uid) for uid in uids])
    return [uids[place] for place in np.argsort(found, kind="stable").tolist()]


def hashes(prefix: str, names: Sequence[str]) -> np.ndarray:
    """The order's hash of each name behind one prefix, such as "0/3/order": uint64 [N].

    The prefix is taken in once: 0.3 us of CPU a name, where a hash of the whole text costs 0.45 us.
    """
    state = hashlib.blake2b(f"{prefix}/".encode(), digest_size=HASH_BYTES)
    digests = bytearray()
    for name in names:
        own = state.copy()
        own.update(name.encode())
        digests += own.digest()
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _hash(*parts: object) -> int:
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big")
