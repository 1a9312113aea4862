"""Which clips to read: a sequence of moments, (video, seconds). Any sequence will do; these are made for many videos.

A video is given by its id or by its `video_row`. Seconds are those of the clip's middle, from the first frame shown.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.library.index import VideoKey

Moments = Sequence[tuple[VideoKey, float]]
Sampler = Callable[[int], Moments]  # epoch -> its moments, in order

PIECES_HELD = 2
LOOKS = 64  # moments that a fingerprint of any sequence is made from


class Piece(NamedTuple):
    """Moments in arrays."""

    video_rows: np.ndarray  # [N] int64
    seconds: np.ndarray  # [N] float64


class InPieces(Sequence[tuple[VideoKey, float]]):
    """Moments that are made a piece at a time, when one of them is asked for. The newest PIECES_HELD are kept.

    Args:
        counts: the number of moments in each piece.
        read: number of a piece -> its moments. It can be pickled.
        fingerprint: says which moments these are, so that a saved position is not used with others.
    """

    def __init__(self, counts: Iterable[int], read: Callable[[int], Piece], fingerprint: str) -> None:
        self._ends = [*accumulate(counts)]
        self._read, self.fingerprint = read, fingerprint
        self._piece = lru_cache(PIECES_HELD)(self._make)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(f"moment {place} of {len(self)}")
        number = bisect_right(self._ends, at)
        rows, seconds = self._piece(number)
        inside = at - (self._ends[number - 1] if number else 0)
        return int(rows[inside]), float(seconds[inside])

    def _make(self, number: int) -> Piece:
        piece = self._read(number)
        size = self._ends[number] - (self._ends[number - 1] if number else 0)
        if len(piece.video_rows) != size:
            raise InputError(f"a sampler gave {len(piece.video_rows)} moments, and had announced {size}")
        return piece

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_piece"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._piece = lru_cache(PIECES_HELD)(self._make)


class Shuffled:
    """A sampler: the given moments, in another order in each epoch."""

    def __init__(self, moments: Moments, seed: int) -> None:
        self.moments, self.seed = moments, seed

    def __call__(self, epoch: int) -> Moments:
        order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(len(self.moments))
        return [self.moments[at] for at in order.tolist()]


def shuffled(moments: Iterable[tuple[VideoKey, float]], seed: int = 0) -> Sampler:
    """A sampler that gives these moments in another order in each epoch. It holds all of them.

    Args:
        moments: (video id, seconds) pairs, for example ``zip(frame["video"], frame["seconds"])``.
    """
    return Shuffled(moments if isinstance(moments, Sequence) else list(moments), seed)


def fingerprint_of(moments: Moments) -> str:
    """Says which moments these are: from their number and some of them, evenly spaced."""
    if isinstance(moments, InPieces):
        return moments.fingerprint
    places = np.unique(np.linspace(0, max(len(moments) - 1, 0), LOOKS).astype(int)).tolist() if len(moments) else []
    some = [(video, float(seconds)) for video, seconds in (moments[at] for at in places)]
    return digest(len(moments), some)


def digest(*parts: object) -> str:
    """A short hash of some values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
