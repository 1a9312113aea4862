"""Which labels a clip truly shows, where intervals are known. Never a weak run's training labels.

Input: a video's intervals, clips of it. Does: compares times. Output: a flag for each clip and label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

FullLabels = Literal["centre", "overlap"]  # what of a clip must lie in an interval


def is_shown(intervals: Sequence[Mapping[str, Any]], label: str, seconds: float, half_seconds: float = 0.0) -> bool:
    """Whether a moment lies in an interval of a label, ends included: what "true" means for a clip's centre.

    With `half_seconds`, whether anything within so much of the moment does.
    """
    first, last = seconds - half_seconds, seconds + half_seconds
    return any(i["label"] == label and i["start_seconds"] <= last and first <= i["end_seconds"] for i in intervals)


def find_shown_labels(
    intervals: Sequence[Mapping[str, Any]] | None,
    labels: Sequence[str],
    clips: Sequence[Mapping[str, Any]],
    half_seconds: float,
) -> list[bool]:
    """[clips x labels]: whether anything within `half_seconds` of a clip's centre is in an interval of a label."""
    return [is_shown(intervals or [], name, clip["center_seconds"], half_seconds) for clip in clips for name in labels]
