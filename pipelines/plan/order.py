"""The order of an epoch's videos, and how often each of them is drawn."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

HASH_BYTES = 8


def order_of_epoch(video_ids: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Video rows in the epoch's order: sorted by a hash of (seed, epoch, video id).

    So a part of a corpus keeps its relative order whatever else the corpus holds.
    """
    keys = [(_hash(seed, epoch, "order", name), row) for row, name in enumerate(video_ids)]
    return [row for _, row in sorted(keys)]


def repeat_weights(label_ids: Sequence[Sequence[int]], exponent: float) -> np.ndarray:
    """The relative weight of each video: the max over its labels k of (n_mean / n_k)^exponent, [V].

    n_k is the number of videos with label k. n_mean is the mean of n_k over the labels that occur. A video without
    labels has weight 1. This is repeat-factor sampling as in Gupta, Dollar, Girshick, "LVIS" (arXiv 1908.03195),
    section 4.2, without its threshold.
    """
    counts = Counter(k for ids in label_ids for k in ids)
    mean = sum(counts.values()) / max(len(counts), 1)
    return np.array([max(((mean / counts[k]) ** exponent for k in ids), default=1.0) for ids in label_ids])


def label_weights(label_ids: Sequence[Sequence[int]], exponent: float) -> dict[int, float]:
    """The relative weight of each label k when the label that a clip is drawn around is chosen: n_k^-exponent.

    n_k is the number of videos with label k.
    """
    counts = Counter(k for ids in label_ids for k in ids)
    return {k: count**-exponent for k, count in counts.items()}


def draw_repeated_order(
    video_ids: Sequence[str], rows: Sequence[int], weights: np.ndarray, seed: int, epoch: int
) -> list[int]:
    """As many draws as there are videos, each video in proportion to its weight, in the epoch's order.

    This is systematic resampling with one offset an epoch: a video with the expected count r is drawn floor(r) or
    ceil(r) times, and the draws always sum to the number of videos. A shuffled order decides between floor and ceil,
    so that neighbours in the index do not.
    """
    if not len(rows):
        return []
    shuffled = np.array(order_of_epoch(video_ids, seed, epoch))
    wanted = weights[shuffled] / weights.sum() * len(rows)
    offset = _hash(seed, epoch, "repeat") / 2**64
    ends = np.floor(np.cumsum(wanted) - offset + 1e-9)
    copies = np.diff(ends, prepend=np.floor(-offset + 1e-9)).astype(int)
    copies[-1] += len(rows) - copies.sum()  # only the rounding of the last sum
    keys = [
        (_hash(seed, epoch, "order", copy, video_ids[place]), rows[place])
        for place, count in zip(shuffled.tolist(), copies.tolist(), strict=True)
        for copy in range(count)
    ]
    return [row for _, row in sorted(keys)]


def generator(seed: int, epoch: int, video_id: str, occurrence: int = 0) -> np.random.Generator:
    """The video's own stream of random numbers in an epoch."""
    return np.random.Generator(np.random.Philox(key=_hash(seed, epoch, "draw", occurrence, video_id)))


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
