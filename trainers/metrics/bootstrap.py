"""How much a score would change with other test videos: mAP on resamples of the videos, and intervals from them.

Videos are drawn with replacement. Each draw is scored exactly like a table in which each video is repeated as often as
it was drawn, but that table is never made. The draws depend only on the number of videos, so two runs on the same
videos see the same resamples, and the difference of their scores has an interval as well.
"""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
MAX_WORK = 30e9  # multiply-adds; about 3 s of one core
LEVEL = 0.95
DRAWN_AT_ONCE = 50
_ROWS_AT_ONCE = 1 << 22  # cells of a matrix of counts: 16 MiB, and twice that while they are counted


def draws(videos: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each video is drawn in each resample: [V, R] float32, whole numbers; the same for every call.

    The seed is fixed, so a score has only one interval. Asking for more resamples does not change the first ones.
    """
    if videos < 1:
        return np.zeros((0, resamples), np.float32)
    generator = np.random.Generator(np.random.PCG64(0))
    drawn = np.empty((videos, resamples), np.float32)
    for first in range(0, resamples, DRAWN_AT_ONCE):  # whole, they would take twice as much once more
        some = drawn[:, first : first + DRAWN_AT_ONCE]
        some[:] = generator.multinomial(videos, np.full(videos, 1 / videos), size=some.shape[1]).T
    return drawn


def resamples_for(truth: np.ndarray, videos: int) -> int:
    """How many resamples take at most some seconds: fewer where there are many positives and videos."""
    return int(np.clip(MAX_WORK // max(1, int(truth.sum()) * videos), FEWEST_RESAMPLES, RESAMPLES))


def resampled_map(scores: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """mAP of each resample by the plain rule (`mean_average_precision`); nan where no class has a positive.

    Args:
        scores: [V, K], or [V, N, K] of N moments each, all of which are drawn with their video. Minus infinity ranks
            last.
        truth: of the same shape, bool.
        drawn: [V, R], how often each video is in each resample.

    Returns:
        [R] float64.

    Raises:
        ValueError: the shapes disagree.
    """
    if scores.shape != truth.shape or scores.ndim not in (2, 3) or len(drawn) != len(scores):
        raise ValueError(f"scores {list(scores.shape)} and truth {list(truth.shape)} must be [V, K] or [V, N, K], and "
                         f"draws {list(drawn.shape)} [V, R]")  # fmt: skip
    classes, moments = scores.shape[-1], scores.shape[1] if scores.ndim == 3 else 1
    scores, truth = scores.reshape(-1, classes), truth.reshape(-1, classes)
    video = np.repeat(np.arange(len(drawn)), moments)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(scores) + 1))])
    total, judged = np.zeros(drawn.shape[1]), np.zeros(drawn.shape[1], np.int64)
    for k in np.flatnonzero(truth.any(axis=0)):
        order = np.argsort(-scores[:, k], kind="stable")
        precision, positives = _summed_precision(video[order], truth[order, k], drawn, harmonic)
        total += precision / np.maximum(positives, 1)
        judged += positives > 0
    return np.where(judged > 0, total / np.maximum(judged, 1), np.nan)


def interval(estimate: float | None, resampled: np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of the resampled values, shifted so that their median is the estimate; None if unknown.

    A video that is drawn twice is in the ranking twice, which raises AP. So resamples of few positives lie above the
    score itself, and an interval that is not shifted would too. The caller cuts the interval at what is possible.
    """
    known = resampled[~np.isnan(resampled)]
    if estimate is None or np.isnan(estimate) or len(known) < FEWEST_RESAMPLES // 2:
        return None
    tail = 100 * (1 - LEVEL) / 2
    low, middle, high = np.percentile(known, [tail, 50, 100 - tail])
    return float(estimate + low - middle), float(estimate + high - middle)


def interval_of_score(estimate: float | None, resampled: np.ndarray) -> tuple[float, float] | None:
    """`interval`, cut at [0, 1]."""
    found = interval(estimate, resampled)
    return None if found is None else (max(0.0, found[0]), min(1.0, found[1]))


def _summed_precision(
    video: np.ndarray, truth: np.ndarray, drawn: np.ndarray, harmonic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the precisions at one class's positives, and how many positives it has, in each resample.

    `video` and `truth` belong to the rows in the order of their scores. Only the counts at positives matter: how many
    rows of each video rank up to and including each positive, times how often each video is drawn.
    """
    at, (videos, resamples) = np.flatnonzero(truth), drawn.shape
    segment = np.searchsorted(at, np.arange(at[-1] + 1))  # the first positive at or after each row
    total, hits, reached = np.zeros(resamples), np.zeros(resamples, np.int64), np.zeros(resamples, np.int64)
    step = max(1, _ROWS_AT_ONCE // videos)
    for first in range(0, len(at), step):
        own = drawn[video[at[first : first + step]]].astype(np.int64)  # [P, R]
        rows = slice(at[first - 1] + 1 if first else 0, at[first : first + step][-1] + 1)
        cells = (segment[rows] - first) * videos + video[rows]
        counts = np.bincount(cells, minlength=len(own) * videos).reshape(len(own), videos).astype(np.float32)
        upto = reached + np.cumsum(np.rint(counts @ drawn).astype(np.int64), axis=0)
        so_far = hits + np.cumsum(own, axis=0)
        before, hits_before = upto - own, so_far - own
        # The j-th copy of a positive has precision (h + j) / (n + j) = 1 - (n - h) / (n + j). Copies are summed.
        total += (own - (before - hits_before) * (harmonic[upto] - harmonic[before])).sum(axis=0)
        hits, reached = so_far[-1], upto[-1]
    return total, hits
