"""Did it work? One sentence about some runs, as strong as their numbers and no stronger.

Input: what is known about each run. Does: compares regimes by mAP, against what chance explains.
Output: a Verdict with its caveats, and the table of all runs. Scores are fractions here, percent in every text.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from infra import charts
from infra.report_data import RunRow

# Where there are too few seeds to measure a spread: single Noisy runs were seen to differ by 7 points
# (standard deviation over seeds, 30 epochs, synthetic world), other regimes by 1 to 4.
SINGLE_RUN_SPREAD_POINTS = 7.0
# Student's t, two-sided 95 %, for n paired differences: three seeds prove less than two standard errors
# suggest.
_T95 = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31}
_SAME_BUDGET = 0.01  # relative; a padded last batch moves the number of clips by less


@dataclass(frozen=True)
class Tile:
    """A number that matters, large, with what it is made of below it."""

    name: str
    value: str
    details: list[str]


@dataclass(frozen=True)
class Verdict:
    """``outcome`` is won, lost, open (chance may explain it) or none (nothing to compare)."""

    outcome: str
    sentence: str
    caveats: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)


@dataclass(frozen=True)
class TableRow:
    """One fact over all runs; `best` are the columns with the highest value, where higher is better."""

    name: str
    cells: list[str]
    best: set[int]


def judge(runs: Sequence[RunRow]) -> Verdict:
    """Compare Ours with Noisy (else the last regime with the first) by mAP, as far as the data carries."""
    groups = _groups(runs)
    tiles = [_tile(name, rows) for name, rows in groups.items()]
    if len(groups) < 2:
        score = f", mAP {_percent(runs[0].map_max)}" if runs and runs[0].map_max is not None else ""
        return Verdict(
            "none",
            f"{'One run' if runs else 'No run'}{score}: there is nothing to compare it with.",
            tiles=tiles,
        )
    ours, base, caveats = _pair(groups)
    mean = {name: _mean([r.map_max for r in rows]) for name, rows in groups.items()}
    new, old = mean[ours], mean[base]
    if new is None or old is None:
        missing = " and ".join(n for n in (ours, base) if mean[n] is None)
        return Verdict("none", f"No verdict: the mAP of {missing} is not known.", caveats, tiles)
    points, (chance, why) = 100 * (new - old), _chance(groups[ours], groups[base])
    caveats += _budget_caveats([*groups[ours], *groups[base]])
    unequal = ", on unequal budgets" if len(caveats) and caveats[-1].startswith("Unequal") else ""
    scores = f"{_percent(new)} mAP against {_percent(old)} for {base}"
    if abs(points) <= chance:
        outcome = "open"
        sentence = (
            f"No clear winner: {ours} has {scores}, and a difference of {points:+.1f} points may be chance{unequal}."
        )
    elif points > 0:
        outcome, sentence = "won", f"{ours} won: {scores}, {points:.1f} points more{unequal}."
    else:
        outcome, sentence = "lost", f"{ours} did not win: {scores}, {-points:.1f} points less{unequal}."
    caveats.insert(0, f"Differences up to {chance:.1f} points count as chance here: {why}")
    caveats += _moments(groups[ours], groups[base], base)
    upper = next((mean[n] for n in groups if _role(n) == "full"), None)
    if upper is not None and upper > old and _role(base) == "noisy":
        share = 100 * (new - old) / (upper - old)
        caveats.append(
            f"Of the gap between {base} and training with true intervals ({_percent(upper)}), {share:.0f} % is closed."
        )
    return Verdict(
        outcome,
        sentence,
        caveats,
        [*tiles, Tile("Difference", f"{points:+.1f}".replace("-", "−"), ["points of mAP", f"{ours} − {base}"])],
    )


def comparison_table(runs: Sequence[RunRow]) -> list[TableRow]:
    """Facts downwards, runs across: two runs then fit a phone; more scroll inside the table's box."""

    def row(name: str, values: list, text: Callable[..., str], compare: bool = False) -> TableRow:
        known = [v for v in values if v is not None]
        best = {i for i, v in enumerate(values) if v == max(known)} if compare and len(set(known)) > 1 else set()
        return TableRow(name, ["" if v is None else text(v) for v in values], best)

    return [
        row("Regime", [r.regime for r in runs], str),
        row("mAP, max over views (%)", [r.map_max for r in runs], _percent, True),
        row("mAP, mean over views (%)", [r.map_mean for r in runs], _percent, True),
        row("Per-time mAP (%)", [r.per_time_map for r in runs], _percent, True),
        row("Salient times inside a true interval (%)", [r.hit_rate for r in runs], _percent, True),
        row("… of random moments (%)", [r.hit_chance for r in runs], _percent),
        row("Epochs", [r.epochs for r in runs], "{:,}".format),
        row("Clips trained", [r.clips_trained for r in runs], "{:,}".format),
        row("Clips per video and epoch", [r.clips_per_video for r in runs], "{:g}".format),
        row("Training time", [r.seconds for r in runs], charts.duration),
        row("Workers", [r.workers for r in runs], "{:,}".format),
        row("Seed", [r.seed for r in runs], str),
        row("Notes", [r.notes or None for r in runs], str),
    ]


def _groups(runs: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """Runs by regime; by name where all have the same regime."""
    by_regime = len({r.regime for r in runs}) > 1
    groups: dict[str, list[RunRow]] = {}
    for r in runs:
        groups.setdefault(r.regime if by_regime else r.run, []).append(r)
    return groups


def _role(regime: str) -> str:
    """ "ours", "noisy", "full" or "" from a regime's name; noisy-OR is a loss, not the Noisy regime."""
    text = regime.lower().replace("noisy-or", "").replace("noisy_or", "")
    words = {"ours": "ours", "adaptfocus": "ours", "noisy": "noisy", "full": "full", "clean": "full"}
    return next((role for word, role in words.items() if word in text), "")


def _pair(groups: dict[str, list[RunRow]]) -> tuple[str, str, list[str]]:
    """(contender, baseline, caveats)."""
    names = list(groups)
    ours, noisy = [n for n in names if _role(n) == "ours"], [n for n in names if _role(n) == "noisy"]
    if not ours or not noisy:
        return names[-1], names[0], []
    best = max(ours, key=lambda n: _mean([r.map_max for r in groups[n]]) or 0.0)
    chosen = f"{best} is the best of {len(ours)} variants, chosen after the fact, which flatters it."
    return best, noisy[0], [chosen] if len(ours) > 1 else []


def _chance(ours: Sequence[RunRow], base: Sequence[RunRow]) -> tuple[float, str]:
    """How many points of mAP chance explains, and why we think so."""
    by_seed = {r.seed: r.map_max for r in base if r.seed is not None and r.map_max is not None}
    pairs = [100 * (r.map_max - by_seed[r.seed]) for r in ours if r.map_max is not None and r.seed in by_seed]
    if len(pairs) >= 3:
        error = statistics.stdev(pairs) / math.sqrt(len(pairs))
        return _T95.get(len(pairs), 2.0) * error, f"the 95 % interval over {len(pairs)} pairs of runs with equal seeds."
    return SINGLE_RUN_SPREAD_POINTS, (
        "fewer than three pairs of runs with equal seeds, so the spread is not measured; "
        "single runs of one setting were seen to differ by that much."
    )


def _budget_caveats(rows: Sequence[RunRow]) -> list[str]:
    """Named differences of budget. A comparison means little if one side trained on more."""
    found = []
    for what, values in (
        ("epochs", [r.epochs for r in rows if r.epochs is not None]),
        ("clips trained", [r.clips_trained for r in rows if r.clips_trained is not None]),
    ):
        if values and max(values) - min(values) > _SAME_BUDGET * max(values):
            found.append(f"Unequal budgets: {min(values):,} to {max(values):,} {what}.")
    return found


def _moments(ours: Sequence[RunRow], base: Sequence[RunRow], base_name: str) -> list[str]:
    """Whether the moments were found, which a video's mAP does not say; nothing where no intervals are known."""
    said = []
    for what, name in (("per-time mAP", "per_time_map"), ("salient times right, in %,", "hit_rate")):
        new, old = (_mean([getattr(r, name) for r in rows]) for rows in (ours, base))
        if new is not None and old is not None:
            said.append(f"{what} {_percent(new)} against {_percent(old)} for {base_name}")
    chance = _mean([r.hit_chance for r in ours])
    random = f"; random moments: {_percent(chance)}" if chance is not None and len(said) == 2 else ""
    return [f"Finding the moments: {'; '.join(said)}{random}."] if said else []


def _tile(name: str, rows: Sequence[RunRow]) -> Tile:
    scores = [r.map_max for r in rows if r.map_max is not None]
    spread = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    means = {
        "mean over views": _mean([r.map_mean for r in rows]),
        "per-time": _mean([r.per_time_map for r in rows]),
    }
    hits, chance = _mean([r.hit_rate for r in rows]), _mean([r.hit_chance for r in rows])
    details = [f"mAP in %, {len(rows)} run{'s' * (len(rows) > 1)}"]
    details += [f"{what} {_percent(value)}" for what, value in means.items() if value is not None]
    if hits is not None:
        details.append(f"salient times right {_percent(hits)}" + (f" (chance {_percent(chance)})" if chance else ""))
    score = _mean(scores)
    return Tile(name, "not known" if score is None else _percent(score) + spread, details)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"
