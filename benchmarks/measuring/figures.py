"""One figure, its spread, and how it is printed.

Costs come in pairs, one for each clip or repetition. A ratio of totals has an interval that shows how much it depends
on which clips were drawn. Figures are printed as JSON lines on stdout, or as a table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000
FILE_COLUMNS = 120  # of a table that goes to a file or a pipe


@dataclass(frozen=True)
class Figure:
    """A figure. `low` and `high` are the ends of a 90 % interval, or of the range that a function below names."""

    name: str
    value: float
    unit: str
    low: float
    high: float
    n: int  # number of clips, repetitions or videos


def count(name: str, value: float, unit: str, n: int) -> Figure:
    """A figure without spread, such as bytes and requests, which are the same in every repetition."""
    return Figure(name, value, unit, value, value, n)


def ratio(name: str, over: Sequence[float], under: Sequence[float]) -> Figure:
    """sum(over) / sum(under) of paired costs, with the 90 % bootstrap interval over the pairs.

    The ratio is of totals, and not a mean of ratios: a clip that begins far after its keyframe costs more, and users
    pay for the total.
    """
    pairs = np.array([over, under], dtype=np.float64)
    return Figure(name, float(pairs[0].sum() / pairs[1].sum()), "ratio", *_interval(pairs, _ratio), pairs.shape[1])


def ratio_of_medians(name: str, over: Sequence[float], under: Sequence[float]) -> Figure:
    """median(over) / median(under), for wall times, which other work on the machine makes longer at times.

    The interval is a 90 % bootstrap interval over the repetitions, with each side resampled separately.
    """
    random = np.random.default_rng(0)
    sides = [np.asarray(side, dtype=np.float64) for side in (over, under)]
    drawn = [np.median(side[random.integers(len(side), size=(RESAMPLES, len(side)))], axis=1) for side in sides]
    low, high = np.percentile(drawn[0] / drawn[1], [5, 95])
    value = float(np.median(sides[0]) / np.median(sides[1]))
    return Figure(name, value, "ratio", float(low), float(high), min(map(len, sides)))


def as_percent(figure: Figure, less: float = 0.0) -> Figure:
    """A ratio in per cent, minus `less`: 1 gives what one side takes more than the other."""
    value, low, high = (100 * (each - less) for each in (figure.value, figure.low, figure.high))
    return Figure(figure.name, value, "%", low, high, figure.n)


def mean(name: str, values: Sequence[float], unit: str) -> Figure:
    """The mean, with its 90 % bootstrap interval."""
    array = np.array([values], dtype=np.float64)
    return Figure(name, float(array.mean()), unit, *_interval(array, _mean), array.shape[1])


def mean_and_std(name: str, values: Sequence[float], unit: str) -> Figure:
    """The mean; `low` and `high` are one standard deviation (of single values, n - 1) below and above it."""
    array = np.asarray(values, dtype=np.float64)
    value, std = float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return Figure(name, value, unit, value - std, value + std, len(array))


def median(name: str, values: Sequence[float] | np.ndarray, unit: str) -> Figure:
    """The median, with its 90 % bootstrap interval: for paired differences, some of which other work spoils."""
    array = np.array([values], dtype=np.float64)
    return Figure(name, float(np.median(array)), unit, *_interval(array, _median), array.shape[1])


def show(figures: Sequence[Figure], as_json: bool, title: str, spread: str = "90 % interval") -> None:
    """Print the figures. With `as_json` nothing else goes to stdout."""
    if as_json:
        for figure in figures:
            values = asdict(figure)
            print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}), flush=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in ("figure", "value", spread, "unit", "n"):
        table.add_column(column, justify="left" if column in ("figure", "unit") else "right", no_wrap=True)
    for f in figures:
        ends = "" if f.low == f.high else f"{_short(f.low)} to {_short(f.high)}"
        table.add_row(f.name, _short(f.value), ends, f.unit, str(f.n))
    console = Console()
    Console(width=None if console.is_terminal else FILE_COLUMNS).print(table)


def say(text: str) -> None:
    """Print a line to stderr: about progress, or about what could not be measured."""
    print(text, file=sys.stderr, flush=True)


def _interval(columns: np.ndarray, statistic) -> tuple[float, float]:
    """The 5th and 95th percentile of a statistic over resampled columns ([rows, n])."""
    n = columns.shape[1]
    picks = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    low, high = np.percentile(statistic(columns[:, picks]), [5, 95])
    return float(low), float(high)


def _ratio(samples: np.ndarray) -> np.ndarray:
    sums = samples.sum(-1)
    return sums[0] / sums[1]


def _mean(samples: np.ndarray) -> np.ndarray:
    return samples[0].mean(-1)


def _median(samples: np.ndarray) -> np.ndarray:
    return np.median(samples[0], axis=-1)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}"
