"""`adaptfocus evaluate`: its scores on the terminal. Input: Scores. Does: lays them out. Output: a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from trainers.evaluate import Scores


def table_of_scores(scores: Scores) -> Table:
    """A row; behind each mAP its interval over test videos, in percent."""
    table = Table(box=None)
    maps = {"mAP, max over views": "map_max", "mAP, mean over views": "map_mean", "per-time mAP": "per_time_map"}
    for title in ("videos", "views x crops", *maps, "undecodable"):
        table.add_column(title, justify="right")
    shown = [Text(_percent(getattr(scores, name), scores.intervals.get(name))) for name in maps.values()]
    table.add_row(str(scores.videos), f"{scores.views} x {scores.crops}", *shown, str(scores.undecodable))
    return table


def _percent(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")
