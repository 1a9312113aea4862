"""Which labels a clip truly shows, if intervals are known. They never become a weak run's training labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from adaptfocus.pipelines.columns import ListColumn, ragged

FullLabels = Literal["centre", "overlap"]  # the part of a clip that must lie in an interval


def is_shown(intervals: Sequence[Mapping[str, Any]], label: str, seconds: float, half_seconds: float = 0.0) -> bool:
    """Whether a moment lies in an interval of a label, ends included. This defines "true" for a clip's centre.

    With `half_seconds`: whether any time within `half_seconds` of the moment lies in one.
    """
    first, last = seconds - half_seconds, seconds + half_seconds
    return any(i["label"] == label and i["start_seconds"] <= last and first <= i["end_seconds"] for i in intervals)


def find_shown_labels(
    intervals: Sequence[Mapping[str, Any]] | None,
    labels: Sequence[str],
    clips: Sequence[Mapping[str, Any]],
    half_seconds: float,
) -> list[bool]:
    """[clips x labels]: whether any time within `half_seconds` of a clip's centre is in an interval of the label."""
    return [is_shown(intervals or [], name, clip["center_seconds"], half_seconds) for clip in clips for name in labels]


def keep_rarest(
    labels: ListColumn, places: np.ndarray, videos_of_label: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which labels bags carry: at most `most` each, the rarest ones, and of equally rare ones the first.

    Args:
        labels: label ids of each video. places: int64 [B], the videos of the bags. videos_of_label: n_k, int [C].

    Returns:
        Where the bags' labels lie in `labels.values`, one bag behind the other, and their number in each, int64 [B].
    """
    items, lengths = ragged(labels.begins[places], labels.lengths[places])
    if lengths.max(initial=0) <= most:
        return items, lengths
    bag, ids = np.repeat(np.arange(len(places)), lengths), labels.values[items]
    by_rarity = np.lexsort((ids, videos_of_label[ids], bag))
    rank = np.empty(len(items), np.int64)
    rank[by_rarity] = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return items[rank < most], np.minimum(lengths, most)
