"""Did it work? One sentence about some runs, as strong as their numbers and no stronger.

Input: what is known about each run. Does: compares two of them, or two regimes, by mAP, if they were scored on the same
videos in the same way; against what other test videos and other seeds would change.
Output: a Verdict with its caveats. Scores are fractions here, percent in every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adaptfocus.infra.report.data import RunRow
from adaptfocus.infra.report.verdict_facts import (
    SIDE_BY_SIDE,
    Tile,
    format_bounds,
    format_points,
    gap_closed,
    interval_of,
    label_of,
    mean,
    of_budgets,
    of_moments,
    of_progress,
    over_seeds,
    over_videos,
    percent,
    rankable_runs,
    score_of,
    size_of,
    tile_of,
    to_evaluate,
    to_evaluate_alike,
    what_is_sure,
    why_not_comparable,
)  # fmt: skip

CURVES = 5  # runs whose curves are drawn, where there are more than SIDE_BY_SIDE


@dataclass(frozen=True)
class Verdict:
    """``outcome`` is won, lost, open (chance may explain it) or none (nothing to compare)."""

    outcome: str
    sentence: str
    caveats: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)  # what to do about it


def judge(runs: Sequence[RunRow], evaluation: str = "test") -> Verdict:
    """Compare Ours with Noisy, else the best run with a reference, by mAP, as far as the data carries."""
    groups = _groups(runs)
    if len(groups) < 2:
        return _of_one(runs, evaluation, [tile_of(name, rows) for name, rows in groups.items()])
    new, old, caveats = _pair(groups)
    ours, base = (_with_score(groups[name]) for name in (new, old))
    shown = groups if len(groups) <= SIDE_BY_SIDE else {old: base, new: ours}
    tiles = [tile_of(name, rows) for name, rows in shown.items()]
    unknown = [r for r in (*ours, *base) if r.map_max is None]
    if unknown:
        missing = " and ".join(n for n, rows in ((new, ours), (old, base)) if rows[0].map_max is None)
        return Verdict("none", f"No verdict: the mAP of {missing} is not known.", caveats, tiles, to_evaluate(unknown))
    why = why_not_comparable([*base, *ours])
    scores = f"{new} has {percent(score_of(ours))} mAP, {old} {percent(score_of(base))}"
    if why:
        sentence = f"No winner is named: {why}. {scores}, which cannot be compared."
        caveats.append("Score them alike, under a name of its own, and report with --evaluation same:")
        return Verdict("none", sentence, caveats, tiles, to_evaluate_alike([*base, *ours]))
    return _compared((new, ours), (old, base), groups, caveats, tiles)


def choose_full_runs(runs: Sequence[RunRow]) -> set[str]:
    """Names of the runs whose sample videos and classes are shown: all of a few, else the two that are compared."""
    if len(runs) <= SIDE_BY_SIDE:
        return {r.run for r in runs}
    groups = _groups(runs)
    if len(groups) < 2:
        return {max(runs, key=lambda r: r.map_max or 0.0).run}
    new, old, _ = _pair(groups)
    return {max(groups[name], key=lambda r: r.map_max or 0.0).run for name in (new, old)}


def choose_curves(runs: Sequence[RunRow]) -> set[str]:
    """Names of the runs whose curves are drawn: all of a few, else the best and what they are compared with."""
    if len(runs) <= SIDE_BY_SIDE:
        return {r.run for r in runs}
    best = sorted((runs[i] for i in rankable_runs(runs)), key=lambda r: -(r.map_max or 0.0))
    return {r.run for r in best[: CURVES - 1]} | choose_full_runs(runs)


def _of_one(runs: Sequence[RunRow], evaluation: str, tiles: list[Tile]) -> Verdict:
    """One run or one group of repeats: its score, and what is missing."""
    if not runs:
        return Verdict("none", "No run: there is nothing to show.")
    unknown = [r for r in runs if r.map_max is None]
    caveats = [c for r in runs for c in of_progress(r)]
    if unknown:
        sentence = f"{unknown[0].run} has no evaluation {evaluation!r} yet, so its mAP is not known."
        return Verdict("none", sentence, caveats, tiles, to_evaluate(unknown))
    what = "One run" if len(runs) == 1 else f"{len(runs)} runs of one setting"
    score = f"{percent(score_of(runs))} mAP{format_bounds(interval_of(runs))}"
    return Verdict("none", f"{what}, {score}: there is nothing to compare it with.", [*caveats, *size_of(runs)], tiles)


def _compared(
    new: tuple[str, Sequence[RunRow]],
    old: tuple[str, Sequence[RunRow]],
    groups: dict[str, list[RunRow]],
    caveats: list[str],
    tiles: list[Tile],
) -> Verdict:
    """Two groups that were scored alike."""
    (name, ours), (base_name, base) = new, old
    both = [*ours, *base]
    points = 100 * (score_of(ours) - score_of(base))
    videos, seeds = over_videos(ours, base, points), over_seeds(ours, base)
    known = [bounds for bounds in (videos, seeds) if bounds is not None]
    sure = bool(known) and all(low > 0 or high < 0 for low, high in known)
    budget = of_budgets(both)
    unequal = ", on unequal budgets" if budget else ""
    bounds = format_points(videos if videos is not None else seeds)
    scores = f"{percent(score_of(ours))} mAP against {percent(score_of(base))} for {base_name}"
    if not sure:
        chance = "may be chance" if known else "may be chance: no interval is known"
        outcome, sentence = (
            "open",
            f"No clear winner: {name} has {scores}; {points:+.1f} points{bounds} {chance}{unequal}.",
        )
    elif points > 0:
        verb = "won" if seeds else "scored higher"
        outcome, sentence = "won", f"{name} {verb}: {scores}, {points:.1f} points more{bounds}{unequal}."
    else:
        verb = "did not win" if seeds else "scored lower"
        outcome, sentence = "lost", f"{name} {verb}: {scores}, {-points:.1f} points less{bounds}{unequal}."
    caveats = [*what_is_sure(videos, seeds, ours, base), *size_of(both), *caveats, *budget]
    caveats += [c for r in both for c in of_progress(r)] + of_moments(ours, base, base_name)
    if _role(base[0].regime) == "noisy":
        upper = next(
            (mean([r.map_max for r in rows]) for rows in groups.values() if _role(rows[0].regime) == "full"), None
        )
        caveats += gap_closed(upper, score_of(ours), score_of(base), base_name)
    details = ["points of mAP", *([f"95 %: {format_points(videos).strip(' []')}"] if videos else [])]
    tile = Tile("Difference", f"{points:+.1f}".replace("-", "−"), [*details, f"{name} − {base_name}"])
    return Verdict(outcome, sentence.replace(" -", " −"), caveats, [*tiles, tile])


def _groups(runs: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """Runs by regime; by name where all have the same regime. A group of one run has that run's name."""
    by_regime = len({r.regime for r in runs}) > 1
    found: dict[str, list[RunRow]] = {}
    for r in runs:
        found.setdefault(r.regime if by_regime else r.run, []).append(r)
    return {(label_of(rows[0]) if len(rows) == 1 else regime): rows for regime, rows in found.items()}


def _with_score(rows: list[RunRow]) -> list[RunRow]:
    """The repeats that were scored, if any were."""
    return [r for r in rows if r.map_max is not None] or rows


def _role(regime: str) -> str:
    """ "ours", "noisy", "full" or "" from a regime's name; noisy-OR is a loss, not the Noisy regime."""
    text = regime.lower().replace("noisy-or", "").replace("noisy_or", "")
    words = {"ours": "ours", "adaptfocus": "ours", "noisy": "noisy", "full": "full", "clean": "full"}
    return next((role for word, role in words.items() if word in text), "")


def _pair(groups: dict[str, list[RunRow]]) -> tuple[str, str, list[str]]:
    """(contender, reference, caveats). The reference is the best Noisy that can be ranked, else what was given first;
    the contender is Ours, else the last of two, else the best of what was scored as the reference was."""
    names = list(groups)
    ours, noisy = ([n for n in names if _role(groups[n][0].regime) == role] for role in ("ours", "noisy"))
    base = _best_ranked(noisy, groups) if noisy else names[0]
    others = [n for n in (ours if ours and noisy else names) if n != base]
    if len(others) == 1:
        return others[0], base, []
    scored = [n for n in others if _with_score(groups[n])[0].map_max is not None]
    alike = [n for n in scored if not why_not_comparable([*groups[base], *groups[n]])] or scored or others
    best = max(alike, key=lambda n: mean([r.map_max for r in groups[n]]) or 0.0)
    caveats = [f"{best} is the best of {len(alike)}, chosen after the fact, which flatters it."] if alike[1:] else []
    for number, what in ((len(scored) - len(alike), "scored on other test videos or views"),
                         (len(others) - len(scored), "not evaluated")):  # fmt: skip
        if number > 0:
            caveats.append(f"{number} more {'was' if number == 1 else 'were'} {what}, and not ranked.")
    return best, base, caveats


def _best_ranked(names: Sequence[str], groups: dict[str, list[RunRow]]) -> str:
    """The best of the groups that were scored as most runs were; one that is worse would flatter what is compared."""
    runs = [r for rows in groups.values() for r in rows]
    ranked = {id(runs[i]) for i in rankable_runs(runs)}

    def rank(name: str) -> tuple[bool, float]:
        rows = _with_score(groups[name])
        return all(id(r) in ranked for r in rows), mean([r.map_max for r in rows]) or 0.0

    return max(names, key=rank)
