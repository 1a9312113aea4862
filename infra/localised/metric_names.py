"""The scores of a localisation under the names that are printed."""

from __future__ import annotations

from typing import Any


def rows_of_metrics(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, per cent) of each score; "-" if it is not known."""
    rows = [
        ("mAP, tIoU 0.5:0.05:0.95 (ActivityNet)", scores["activitynet"]["average"]),
        ("mAP, tIoU 0.3:0.1:0.7 (ActivityNet's rules)", scores["thumos14_ious"]["average"]),
        ("mAP, tIoU 0.3:0.1:0.7 (THUMOS14's own rules)", scores["thumos14_own_rules"]["average"]),
        ("mAP at tIoU 0.5", scores["thumos14_ious"]["at_iou"]["0.5"]),
        ("per-frame mAP, at each score", scores["per_frame_map"]),
        ("per-frame mAP, at 25 times a video (Charades)", scores["charades_map"]),
    ]
    return [(name, "-" if value is None else f"{100 * value:.1f}") for name, value in rows]
