"""The report of the regimes' benchmark: curves as JSON and SVG, and tables as Markdown.

`infra.report.charts` places the marks of the charts, as in the report of a run.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2

from adaptfocus.infra.report.charts import Style, line_chart, styles_of
from benchmarks.measuring.figures import Figure
from benchmarks.studies.regime_figures import BASELINES, Outcome, curves_of, rows_of
from benchmarks.studies.variants import MAIN, VARIANTS

MEANINGS = {
    "gap_closed": "share of the way from `noisy_faded` to `full_faded` that `best` goes",
    "gap_closed_unfaded": "share of the way from `noisy` to `full` that `negatives` goes",
    "gap_closed_moving": "share of the way from `noisy_moving` to `full_moving` that `best_moving` goes",
    "per_time_of_full": "per-time mAP of `best` over that of `full_faded`",
    "hit_rate": "salient times of `resampled` inside a true interval",
    "budget_to_noisy": "share of the epochs after which `best` scores what `noisy` scores at its end",
}


@dataclass(frozen=True)
class Facts:
    """How the figures were made."""

    command: str
    date: str
    machine: str
    commit: str
    quick: bool
    runs: int
    seeds: int
    train_videos: int
    test_videos: int
    min_seconds: float
    max_seconds: float
    epochs: int
    views: int
    overrides: tuple[str, ...]


def markdown(outcomes: Sequence[Outcome], found: Sequence[Figure], facts: Facts, charts: dict[str, str]) -> str:
    """The page of results. `charts` has the path of each world's chart, relative to the page."""
    worlds = [
        {
            "name": world,
            "rows": rows_of(outcomes, world),
            "chart": charts[world],
            "figures": [f for f in found if f.name.startswith(f"method.{world}.") and f.unit == "share"],
        }
        for world in dict.fromkeys(each.world for each in outcomes)
    ]
    template = _environment(escape=False).get_template("results.md.j2")
    return template.render(worlds=worlds, facts=facts, baselines=BASELINES, variants=VARIANTS, meanings=MEANINGS)


def chart(outcomes: Sequence[Outcome], world: str) -> str:
    """mAP by epochs trained, as a self-contained SVG: of the main variants, or of all if there are no main ones."""
    curves = curves_of(outcomes, world)
    curves = {name: curve for name, curve in curves.items() if name in MAIN} or curves
    styles = styles_of([(name, name) for name in curves])
    drawn = [(name, curve["epochs"], curve["mean"]) for name, curve in curves.items()]
    for name, curve in curves.items():
        for seed, values in curve["seeds"].items() if len(curve["seeds"]) > 1 else ():
            styles[f"{name}, seed {seed}"] = styles[name]
            drawn.insert(0, (f"{name}, seed {seed}", curve["epochs"], values))  # thin lines lie below thick ones
    placed = line_chart(f"Test mAP of world {world}, max over views", "mAP, %", "epochs trained", drawn, styles)
    template = _environment(escape=True).get_template("curves.svg.j2")
    return template.render(chart=placed, means=set(curves), legend=_legend(curves, styles))


def commit() -> str:
    """The commit of the code that runs, with a plus where files differ from it; "unknown" outside a checkout."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def machine() -> str:
    """This machine and the versions that affect the figures, in one line."""
    names = ("torch", "av", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}, {versions}"


def _legend(curves: dict[str, dict], styles: dict[str, Style]) -> list[dict]:
    """The legend; the variant that is best at the end comes first."""
    ends = sorted(curves, key=lambda name: -curves[name]["mean"][-1])
    return [
        {"style": styles[name], "text": f"{name}: {curves[name]['mean'][-1]:.1f} ± {curves[name]['std'][-1]:.1f}"}
        for name in ends
    ]


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _environment(escape: bool) -> jinja2.Environment:
    own = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([own, jinja2.PackageLoader("adaptfocus.infra", "templates")]),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
