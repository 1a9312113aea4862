"""The scores of `adaptfocus evaluate` as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from adaptfocus.trainers.evaluation.scoring import Scores


MAPS = {"mAP, max over views": "map_max", "mAP, mean over views": "map_mean", "per-time mAP": "per_time_map"}


def table_of_scores(scores: Scores) -> Table:
    """One row for each mAP, with its interval over test videos. The table is narrow, so that it fits any terminal."""
    table = Table(box=None)
    for title in ("", "%", "95 % interval"):
        table.add_column(title, justify="right" if title else "left")
    for title, name in MAPS.items():
        value, interval = getattr(scores, name), scores.intervals.get(name)
        table.add_row(
            title,
            "-" if value is None else f"{100 * value:.1f}",
            f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else "-",
        )
    return table


def conditions_of_scores(name: str, scores: Scores) -> str:
    """What was scored, in one line."""
    classes = f"{scores.classes_with_positives} of {len(scores.class_positives)} classes have a test video"
    lost = f", {scores.undecodable} of them undecodable" if scores.undecodable else ""
    return (f"evaluation '{name}': {scores.videos} videos{lost}, {scores.views} x {scores.crops} views each, "
            f"end of epoch {scores.epoch + 1}; {classes}")  # fmt: skip
