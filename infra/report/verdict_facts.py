"""What a verdict is made of: whether scores can be compared, what chance explains, what else a reader must know.

Input: what is known about some runs. Does: intervals over test videos and over seeds, differences of budget, progress.
Output: facts in words, and numbers. Scores are fractions, percent in every text.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adaptfocus.infra.report.data import Evaluated, RunRow
from adaptfocus.trainers.metrics.bootstrap import interval

# Student's t, two-sided 95 %, for n paired differences: three seeds prove less than two standard errors
# suggest.
_T95 = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31}
SIDE_BY_SIDE = 4  # runs; of more, the best is compared with a reference, and only those two are shown in full
_SAME_BUDGET = 0.01  # relative; a padded last batch moves the number of clips by less
_SEEDS = (
    "What another seed would change is not in that interval. Train at least three seeds of each to know it: on this "
    "project's synthetic worlds, seeds of one setting had a standard deviation of 1 to 7 points of mAP."
)


@dataclass(frozen=True)
class Tile:
    """A number that matters, large, with what it is made of below it."""

    name: str
    value: str
    details: list[str]


def label_of(row: RunRow) -> str:
    """The name that its user gave a run, and its regime unless that is the name."""
    regime = row.regime.split(" (")[0]
    return row.run if regime.lower() in row.run.lower() else f"{row.run} ({regime})"


def why_not_comparable(rows: Sequence[RunRow]) -> str:
    """Why scores cannot be ranked; empty if they can, or if nothing is known that speaks against it."""
    known = [r.evaluated for r in rows if r.evaluated is not None]

    def values(name: str) -> list:
        return list(dict.fromkeys(getattr(e, name) for e in known if getattr(e, name) is not None))

    if len(values("fingerprint")) > 1 or len(values("videos")) > 1:
        sizes = " and ".join(f"{n:,}" for n in values("videos"))
        return "the runs were scored on different test videos" + (f" ({sizes} of them)" if sizes else "")
    if len(values("views")) > 1 or len(values("crops")) > 1:
        looks = dict.fromkeys(f"{e.views} x {e.crops}" for e in known)
        return f"the runs were scored with different views ({' and '.join(looks)} a video)"
    return ""


def rankable_runs(runs: Sequence[RunRow]) -> list[int]:
    """Places of the runs whose scores can be ranked: the most that were scored on the same videos and views."""
    looks: dict[tuple | None, list[int]] = {}
    for i, r in enumerate(runs):
        if r.map_max is not None:
            e = r.evaluated
            looks.setdefault((e.fingerprint, e.videos, e.views, e.crops) if e else None, []).append(i)
    return max(looks.values(), key=len, default=[])


def over_videos(ours: Sequence[RunRow], base: Sequence[RunRow], points: float) -> tuple[float, float] | None:
    """95 % of the difference in points, over test videos: both sides on the same resamples; None if they are not."""
    prints = {r.evaluated.fingerprint if r.evaluated else None for r in (*ours, *base)}
    sides = [[_resamples(r) for r in rows] for rows in (ours, base)]
    if len(prints) > 1 or None in prints or any(not len(each) for side in sides for each in side):
        return None
    length = min(len(each) for side in sides for each in side)
    new, old = (np.mean([each[:length] for each in side], axis=0) for side in sides)
    return interval(points, 100 * (new - old))


def _resamples(row: RunRow) -> np.ndarray:
    return row.evaluated.resamples.get("map_max", np.array([])) if row.evaluated else np.array([])


def over_seeds(ours: Sequence[RunRow], base: Sequence[RunRow]) -> tuple[float, float] | None:
    """95 % of the difference in points, over seeds; None with fewer than three pairs of equal seeds."""
    by_seed = {r.seed: r.map_max for r in base if r.seed is not None and r.map_max is not None}
    pairs = [100 * (r.map_max - by_seed[r.seed]) for r in ours if r.map_max is not None and r.seed in by_seed]
    if len(pairs) < 3:
        return None
    half = _T95.get(len(pairs), 2.0) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return statistics.fmean(pairs) - half, statistics.fmean(pairs) + half


def what_is_sure(
    videos: tuple | None, seeds: tuple | None, ours: Sequence[RunRow], base: Sequence[RunRow]
) -> list[str]:
    """What the intervals are of, and what is in none of them."""
    found = []
    if videos:
        found.append("[..] is the 95 % interval over test videos: both runs on the same resamples of them (bootstrap).")
    elif any(r.evaluated is None or r.evaluated.fingerprint is None for r in (*ours, *base)):
        found.append(
            "It is not recorded on which test videos these scores were made: an older version wrote them, so they may "
            "differ. `adaptfocus evaluate --overwrite` makes them again, with intervals."
        )
    if seeds:
        pairs = len({r.seed for r in ours} & {r.seed for r in base})
        found.append(f"Over {pairs} pairs of runs with equal seeds the 95 % interval is {_range(seeds)} points.")
    else:
        found.append(_SEEDS)
    return found


def size_of(rows: Sequence[RunRow]) -> list[str]:
    """On how much the scores stand."""
    e = next((r.evaluated for r in rows if r.evaluated and r.evaluated.videos is not None), None)
    if e is None:
        return []
    positives = [n for n in e.class_positives.values() if n]
    classes = f", {len(positives)} of {len(e.class_positives)} classes have a test video" if e.class_positives else ""
    few = f"; {sum(n < 5 for n in positives)} have fewer than five" if any(n < 5 for n in positives) else ""
    return [f"Scored on {e.videos:,} test videos{classes}{few}."]


def of_progress(r: RunRow) -> list[str]:
    """A run that is not finished, or was scored before its end."""
    e: Evaluated | None = r.evaluated
    found = []
    if r.epochs_planned and r.epochs is not None and r.epochs < r.epochs_planned:
        found.append(f"{r.run} is not finished: {r.epochs} of {r.epochs_planned} epochs.")
    if e and e.epoch and r.epochs and e.epoch < r.epochs:
        found.append(f"{r.run} was scored after epoch {e.epoch}, and has trained {r.epochs} since.")
    return found


def of_budgets(rows: Sequence[RunRow]) -> list[str]:
    """Named differences of budget. A comparison means little if one side trained on more."""
    found = []
    for what, values in (
        ("epochs", [r.epochs for r in rows if r.epochs is not None]),
        ("clips trained", [r.clips_trained for r in rows if r.clips_trained is not None]),
    ):
        if values and max(values) - min(values) > _SAME_BUDGET * max(values):
            found.append(f"Unequal budgets: {min(values):,} to {max(values):,} {what}.")
    return found


def of_moments(ours: Sequence[RunRow], base: Sequence[RunRow], base_name: str) -> list[str]:
    """Whether the moments were found, which a video's mAP does not say; nothing where no intervals are known."""
    told = []
    for what, name in (("per-time mAP", "per_time_map"), ("salient times right, in %,", "hit_rate")):
        new, old = (mean([getattr(r, name) for r in rows]) for rows in (ours, base))
        if new is not None and old is not None:
            told.append(f"{what} {percent(new)} against {percent(old)} for {base_name}")
    chance = mean([r.hit_chance for r in ours])
    random = f"; random moments: {percent(chance)}" if chance is not None and len(told) == 2 else ""
    return [f"Finding the moments: {'; '.join(told)}{random}."] if told else []


def gap_closed(upper: float | None, ours: float, base: float, base_name: str) -> list[str]:
    """How far towards training with true intervals, whose score is `upper`."""
    if upper is None or upper <= base:
        return []
    share = 100 * (ours - base) / (upper - base)
    return [
        f"Of the gap between {base_name} and training with true intervals ({percent(upper)}), {share:.0f} % is closed."
    ]


def to_evaluate(rows: Sequence[RunRow]) -> list[str]:
    """The commands that score runs."""
    return [_command(r, "TEST_INDEX") for r in rows]


def to_evaluate_alike(rows: Sequence[RunRow]) -> list[str]:
    """The commands that score runs on one index with the same views, under a name that none of them has."""
    known = [r.evaluated for r in rows if r.evaluated]
    index = next((e.index for e in known if e.index), "TEST_INDEX")
    views, crops = max([e.views or 1 for e in known] or [20]), max([e.crops or 1 for e in known] or [1])
    how = f" --views {min(views, 255 // crops)}" + (f" --crops {crops}" if crops > 1 else "")
    return [_command(r, index, f"{how} --name same") for r in rows]


def _command(row: RunRow, index: str, more: str = "") -> str:
    return f"adaptfocus evaluate {shlex.quote(row.url or row.run)} --index {shlex.quote(index)}{more}"


def tile_of(name: str, rows: Sequence[RunRow]) -> Tile:
    """The score of a run, or the mean of several, with what else is known."""
    scores = [r.map_max for r in rows if r.map_max is not None]
    spread = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    means = {"mean over views": mean([r.map_mean for r in rows]), "per-time": mean([r.per_time_map for r in rows])}
    hits, chance = mean([r.hit_rate for r in rows]), mean([r.hit_chance for r in rows])
    details = ["mAP in %" + (f", {len(rows)} runs" if len(rows) > 1 else "")]
    bounds, e = interval_of(rows), rows[0].evaluated
    details += [f"95 %: {_range(tuple(100 * b for b in bounds))}"] if bounds else []
    if e and e.videos is not None:
        positives = sum(n > 0 for n in e.class_positives.values())
        classes = f", {positives} of {len(e.class_positives)} classes" if e.class_positives else ""
        details.append(f"on {e.videos:,} test videos{classes}")
    details += [f"{what} {percent(value)}" for what, value in means.items() if value is not None]
    if hits is not None:
        details.append(f"salient times right {percent(hits)}" + (f" (chance {percent(chance)})" if chance else ""))
    score = mean(scores)
    return Tile(name, "not known" if score is None else percent(score) + spread, details)


def interval_of(rows: Sequence[RunRow]) -> tuple[float, float] | None:
    """Of the score of one run, over test videos; None of several."""
    found = rows[0].evaluated.intervals.get("map_max") if len(rows) == 1 and rows[0].evaluated else None
    return None if found is None else (found[0], found[1])


def format_bounds(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" [{percent(bounds[0])}, {percent(bounds[1])}]"


def format_points(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" [{bounds[0]:+.1f}, {bounds[1]:+.1f}]".replace("-", "−")


def _range(bounds: tuple) -> str:
    return f"{bounds[0]:.1f} to {bounds[1]:.1f}".replace("-", "−")


def score_of(rows: Sequence[RunRow]) -> float:
    """The mean mAP of runs that all have one."""
    return statistics.fmean(r.map_max for r in rows if r.map_max is not None)


def mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"
