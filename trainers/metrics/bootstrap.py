"""How much a score would change with other test videos: mAP on resamples of the videos, and intervals from them.

Videos are drawn with replacement. Each draw is scored exactly like a table in which each video is repeated as often as
it was drawn, but that table is never made. The draws depend only on the number of videos, so two runs on the same
videos see the same resamples, and the difference of their scores has an interval as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
MAX_WORK = 30e9  # positives x videos x resamples
LEVEL = 0.95
DRAWN_BYTES = 16 * 2**20  # of counts that are in memory at once, where the caller takes them in blocks
_POSITIVES_AT_ONCE = (
    1 << 22
)  # times videos; the sums of a block of positives are added up, so it decides their last bit
_CELLS_AT_ONCE = 1 << 21  # rows x resamples: 8 MiB of counts


def draws(videos: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each video is drawn in each resample: [V, R] float32, whole numbers; the same for every call.

    The seed is fixed, so a score has only one interval. Asking for more resamples does not change the first ones.
    """
    drawn = np.zeros((max(videos, 0), resamples), np.float32)
    first = 0
    for block in blocks_of_draws(videos, resamples):
        drawn[:, first : first + block.shape[1]] = block
        first += block.shape[1]
    return drawn


def blocks_of_draws(videos: int, resamples: int) -> Iterator[np.ndarray]:
    """The columns of `draws`, some resamples [V, r] after the others: at least two, and about DRAWN_BYTES."""
    if videos < 1:
        return
    generator, chance = np.random.Generator(np.random.PCG64(0)), np.full(videos, 1 / videos)
    at_once = max(2, DRAWN_BYTES // (4 * videos))
    edges = sorted({0, *range(0, resamples - 1, at_once), resamples})
    for size in np.diff(edges).tolist():
        drawn = np.empty((videos, size), np.float32)
        for column in range(size):
            drawn[:, column] = generator.multinomial(videos, chance)
        yield drawn


def resamples_for(positives: int, videos: int) -> int:
    """How many resamples are drawn: fewer where there are many positives and videos."""
    return int(np.clip(MAX_WORK // max(1, positives * videos), FEWEST_RESAMPLES, RESAMPLES))


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
    total, judged = np.zeros(drawn.shape[1]), np.zeros(drawn.shape[1], np.int64)
    for k in np.flatnonzero(truth.any(axis=0)):
        order = np.argsort(-scores[:, k], kind="stable")
        ap = resampled_ap(order // moments, truth[order, k], drawn)
        total += np.nan_to_num(ap)
        judged += ~np.isnan(ap)
    return mean_over_classes(total, judged)


def mean_over_classes(total: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """[R] sums of AP over `judged` classes -> mAP, nan where there is no class."""
    return np.where(judged > 0, total / np.maximum(judged, 1), np.nan)


def resampled_ap(video: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """AP of one class in each resample, [R] float64; nan where it has no positive.

    Args:
        video: [rows] the video of each row, best score first.
        truth: [rows] bool.
        drawn: [V, R], how often each video is in each resample.
    """
    if not truth.any():
        return np.full(drawn.shape[1], np.nan)
    precision, positives = _summed_precision(video, truth, drawn)
    return np.where(positives > 0, precision / np.maximum(positives, 1), np.nan)


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


def _summed_precision(video: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the precisions at one class's positives, and how many positives it has, in each resample.

    `video` and `truth` belong to the rows in the order of their scores. Only the counts at positives matter: how often
    the rows up to and including each positive are drawn.
    """
    at, (videos, resamples) = np.flatnonzero(truth), drawn.shape
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(video) + 1))])
    total, hits, reached = np.zeros(resamples), np.zeros(resamples, np.int64), np.zeros(resamples, np.int64)
    step = max(1, _POSITIVES_AT_ONCE // videos)
    for first in range(0, len(at), step):
        ends = at[first : first + step] + 1
        own = drawn[video[ends - 1]].astype(np.int64)  # [P, R]
        counts = _drawn_until(video, int(at[first - 1] + 1 if first else 0), ends, drawn)
        upto = reached + np.cumsum(counts, axis=0)
        so_far = hits + np.cumsum(own, axis=0)
        before, hits_before = upto - own, so_far - own
        # The j-th copy of a positive has precision (h + j) / (n + j) = 1 - (n - h) / (n + j). Copies are summed.
        total += (own - (before - hits_before) * (harmonic[upto] - harmonic[before])).sum(axis=0)
        hits, reached = so_far[-1], upto[-1]
    return total, hits


def _drawn_until(video: np.ndarray, begin: int, ends: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """How often the rows from `begin` to the first of `ends`, from there to the second one, and so on, are drawn.

    int64 [P, R]. All numbers are whole, so they may be added in any order: float32 holds them up to 2^24.
    """
    counts = np.zeros((len(ends), drawn.shape[1]), np.int64)
    exact = np.float32 if len(video) < 1 << 24 else np.float64
    step = max(1, _CELLS_AT_ONCE // drawn.shape[1])
    for low in range(begin, int(ends[-1]), step):
        high = min(low + step, int(ends[-1]))
        first, last = np.searchsorted(ends, [low, high - 1], side="right")
        starts = np.concatenate([[low], ends[first:last]]) - low
        counts[first : last + 1] += np.add.reduceat(drawn[video[low:high]], starts, axis=0, dtype=exact).astype(
            np.int64
        )
    return counts
