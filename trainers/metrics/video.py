"""Video-level metrics: average precision per class, the official Charades rule, pooling over views.

All are pure functions of arrays, and compute in float64. Row order breaks ties (a stable sort), so the same scores give
the same number on every machine.
"""

from __future__ import annotations

import numpy as np


def charades_map(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """Video-level mAP by the official Charades rule.

    A video without any action ranks last for every class (its scores count as minus infinity); row order decides among
    such videos. A class without a positive has AP nan and is left out of the mean.

    Args:
        scores: [V, K], higher means more likely; any monotonic scale.
        truth: [V, K] bool.

    Returns:
        The mean over the classes that have positives (nan if none has), and the AP of each class [K].

    Raises:
        ValueError: the shapes disagree, the truth is not boolean, or a score is nan.
    """
    scores, truth = _checked(scores, truth, "[V, K]", axes=2)
    return _mean_average_precision(charades_ranked(scores, truth), truth)


def charades_ranked(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The scores [V, K] that the Charades rule ranks by: minus infinity for a video without any action."""
    return np.where(truth.any(axis=1, keepdims=True), scores, -np.inf)


def mean_average_precision(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """mAP without the Charades rule: a row without any positive keeps its scores.

    Breakfast (ten activities, or 48 actions as tags) and MultiTHUMOS are scored by this rule. Where all scores differ,
    the result is that of scikit-learn's `average_precision_score`. Among equal scores row order decides here, while
    scikit-learn takes them together.

    Args:
        scores: [V, K].
        truth: [V, K] bool.

    Returns:
        As `charades_map`.

    Raises:
        ValueError: as `charades_map`.
    """
    return _mean_average_precision(*_checked(scores, truth, "[V, K]", axes=2))


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Share of rows whose best score is that of their class; nan without rows. The first of equal scores counts.

    Args:
        scores: [V, K].
        truth: [V], the class of each row.

    Raises:
        ValueError: the shapes disagree, a class is not below K, or a score is nan.
    """
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"scores {list(scores.shape)} must be [V, K], truth {list(truth.shape)} [V] of integers")
    if np.isnan(scores).any() or (truth.size and not 0 <= truth.min() <= truth.max() < scores.shape[1]):
        raise ValueError(f"a score is nan, or a class is not one of 0 to {scores.shape[1] - 1}")
    return float((scores.argmax(axis=1) == truth).mean()) if len(truth) else float("nan")


def per_time_map(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """mAP over moments: each (video, view) pair is one row to rank, with the actions that happen at its time.

    Args:
        scores: [V, N, K] of V videos with N views each.
        truth: [V, N, K] bool. A moment without any action is a negative of every class, at its own score.

    Returns:
        As `charades_map`.

    Raises:
        ValueError: as `charades_map`.
    """
    scores, truth = _checked(scores, truth, "[V, N, K]", axes=3)
    classes = scores.shape[-1]
    return _mean_average_precision(scores.reshape(-1, classes), truth.reshape(-1, classes))


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """AP of one class: the mean, over its positives, of the precision at each; nan without positives.

    Args:
        scores: [V].
        truth: [V] bool.

    Raises:
        ValueError: as `charades_map`.
    """
    scores, truth = _checked(scores, truth, "[V]", axes=1)
    return precision_of_ranked(truth[np.argsort(-scores, kind="stable")])


def precision_of_ranked(hits: np.ndarray) -> float:
    """AP of a ranking, best first: [V] bool, whether each is a positive; nan without positives."""
    if not hits.any():
        return float("nan")
    rank = np.flatnonzero(hits) + 1
    return float(np.mean(np.arange(1, len(rank) + 1) / rank))


def max_and_mean_over_views(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[V, N, K] scores of N views of each video -> ([V, K] maximum, [V, K] mean), in float64.

    Raises:
        ValueError: not three axes, or no views.
    """
    scores = np.asarray(scores)
    if scores.ndim != 3 or scores.shape[1] == 0:
        raise ValueError(f"scores must be [V, N, K] with at least one view, not {list(scores.shape)}")
    return scores.max(axis=1).astype(np.float64), scores.mean(axis=1, dtype=np.float64)


def mean_of_judged(per_class: np.ndarray) -> float:
    """mAP from the AP of each class [K]: the mean over those that have one; nan if none has."""
    judged = per_class[~np.isnan(per_class)]
    return float(judged.mean()) if len(judged) else float("nan")


def _mean_average_precision(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    per_class = np.array([average_precision(scores[:, k], truth[:, k]) for k in range(scores.shape[1])])
    return mean_of_judged(per_class), per_class


def _checked(scores: np.ndarray, truth: np.ndarray, form: str, axes: int) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = np.asarray(scores), np.asarray(truth)
    if not np.issubdtype(scores.dtype, np.floating):  # floats of any width rank as they are, without a copy
        scores = scores.astype(np.float64)
    if scores.ndim != axes or truth.shape != scores.shape:
        raise ValueError(f"scores {list(scores.shape)} and truth {list(truth.shape)} must both be {form}")
    if truth.dtype != np.bool_:
        raise ValueError(f"truth must be bool, not {truth.dtype}; compare it with a threshold first")
    if scores.size and np.isnan(scores.max()):  # a maximum is nan if any score is, and needs no second array
        raise ValueError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are nan")
    return scores, truth
