"""What a report says about scores, in sentences and in tables: as much as the numbers prove, and no more."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from adaptfocus.infra.report.comparison import class_table, table_of_many
from adaptfocus.infra.report.data import Evaluated, ReportData, RunRow
from adaptfocus.infra.report.page import render_report
from adaptfocus.infra.report.verdict import choose_curves, choose_full_runs, judge


def scored(score: float, other: float, fingerprint: str = "one", **facts: object) -> Evaluated:
    """On 40 test videos, whose resamples spread by `other` (standard deviation); the same draws for every run."""
    draws = np.random.default_rng(0).normal(size=1000)
    values = {
        "evaluation": "test", "fingerprint": fingerprint, "videos": 40, "views": 20, "crops": 1,
        "intervals": {"map_max": (score - 2 * other, score + 2 * other)},
        "resamples": {"map_max": score + other * draws},
    }  # fmt: skip
    return Evaluated(**(values | facts))  # type: ignore[arg-type]


def rows(regime: str, scores: list[float | None], epochs: int = 30, other: float = 0.0) -> list[RunRow]:
    """Runs of seeds 0, 1, ...; `other`: what other test videos change."""
    return [
        RunRow(
            f"{regime}-{i}", regime, epochs, 28_800, s, seed=i, evaluated=None if s is None else scored(s, other)
        )
        for i, s in enumerate(scores)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "outcome", "words"),
    [
        # 24.5 points, which other test videos change by 2 (standard deviation): 1.96 x 2 = 3.9 either way.
        (rows("Noisy", [0.489]) + rows("Ours", [0.734], other=0.02), "won",
         r"^Ours-0 scored higher: 73.4 mAP against 48.9 for Noisy-0, 24.5 points more \[\+20.\d, \+28.\d\]\.$"),
        (rows("Noisy", [0.489]) + rows("Ours", [0.41], other=0.02), "lost", "^Ours-0 scored lower: 41.0 mAP"),
        (rows("Noisy", [0.489]) + rows("Ours", [0.53], other=0.03), "open",
         r"\+4.1 points \[−\d\.\d, \+\d+\.\d\] may be chance\.$"),
        # Three pairs that agree prove a small difference ...
        (rows("Ours", [0.53, 0.54, 0.52]) + rows("Noisy", [0.49, 0.50, 0.478]), "won", "^Ours won"),
        # ... and three that do not, leave a large one open.
        (rows("Noisy", [0.4, 0.5, 0.6]) + rows("Ours", [0.7, 0.5, 0.6]), "open", "^No clear winner"),
        # Seeds that agree do not help where other test videos would say otherwise.
        (rows("Ours", [0.53, 0.54, 0.52], other=0.05) + rows("Noisy", [0.49, 0.50, 0.478]), "open", "may be chance"),
        (rows("Noisy", [0.489]) + rows("Ours", [0.734], epochs=60, other=0.02), "won", r"\], on unequal budgets\.$"),
        (rows("Noisy", [0.489]) + rows("Ours", [None]), "none", "^No verdict: the mAP of Ours-0 is not known.$"),
        (rows("noisy-OR alone", [0.7]) + rows("Ours", [0.5], other=0.01) + rows("Noisy", [0.4]), "won", "for Noisy-0"),
        (rows("I3D", [0.3]) + rows("X3D", [0.2], other=0.01), "lost", "^X3D-0 scored lower"),
        # Nobody recorded the test videos: nothing is sure.
        ([RunRow("a", "Noisy", map_max=0.1), RunRow("b", "Ours", map_max=0.9)], "open", "no interval is known"),
    ],
)  # fmt: skip
def test_verdict_says_what_the_numbers_carry(runs: list[RunRow], outcome: str, words: str) -> None:
    verdict = judge(runs)
    assert verdict.outcome == outcome
    assert re.search(words, verdict.sentence), verdict.sentence
    assert verdict.sentence in render_report(ReportData("t", "", "", runs)).replace("&#39;", "'")


def test_the_best_noisy_is_the_reference_whatever_is_given_first() -> None:
    """The best of a grid. A run that was scored on other videos is no reference, however high its score."""
    runs = rows("Noisy", [0.4]) + rows("Noisy (lr 1)", [0.6]) + rows("Ours", [0.5], other=0.02)
    other = replace(rows("Noisy (lr 2)", [0.9])[0], evaluated=None)
    verdict = judge([*runs, other])
    assert verdict.sentence.startswith("Ours-0 scored lower: 50.0 mAP against 60.0 for Noisy (lr 1)-0")


def test_verdict_names_the_gap_to_full_and_a_choice_made_afterwards() -> None:
    runs = (
        rows("Full", [0.9]) + rows("Noisy", [0.5]) + rows("Ours", [0.6]) + rows("Ours + resampling", [0.8], other=0.02)
    )
    verdict = judge(runs)
    assert verdict.sentence.startswith("Ours + resampling-0 scored higher: 80.0 mAP")
    assert any("best of 2, chosen after the fact" in c for c in verdict.caveats)
    assert any("75 % is closed" in c for c in verdict.caveats)


def test_a_run_keeps_the_name_that_its_user_gave_it() -> None:
    runs = [replace(rows("Noisy", [0.5])[0], run="first"), replace(rows("Ours", [0.7], other=0.01)[0], run="second")]
    assert judge(runs).sentence.startswith("second (Ours) scored higher: 70.0 mAP against 50.0 for first (Noisy)")


def twenty() -> list[RunRow]:
    """The last argument is neither the best nor the reference; one run was scored on other videos, one not at all."""
    runs = []
    for i in range(20):
        regime, score = ("Noisy", 0.5) if i == 4 else ("Ours", 0.51 + 0.01 * i if i < 12 else 0.4)
        settings = {"optim.learning_rate": str(10.0**-i), "focus.regime": regime.lower(), "seed": str(i % 3)}
        row = rows(f"{regime} (optim.learning_rate={10.0**-i})", [score], other=0.0 if i == 4 else 0.01)[0]
        runs.append(replace(row, run=f"exp-{i}", settings=settings, seed=i))
    runs[7] = replace(runs[7], map_max=0.99, evaluated=scored(0.99, 0.01, fingerprint="another", videos=3))
    runs[9] = replace(runs[9], map_max=None, evaluated=None)
    return runs


def test_of_many_runs_the_best_is_compared_with_the_reference() -> None:
    """Not the last argument with the first; and not with a run that was scored on other videos."""
    verdict = judge(twenty())
    assert verdict.sentence.startswith("exp-11 (Ours) scored higher: 62.0 mAP against 50.0 for exp-4 (Noisy)")
    assert any("best of 17, chosen after the fact" in c for c in verdict.caveats)
    assert "1 more was scored on other test videos or views, and not ranked." in verdict.caveats
    assert "1 more was not evaluated, and not ranked." in verdict.caveats
    assert choose_full_runs(twenty()) == {"exp-4", "exp-11"}
    assert len(choose_curves(twenty())) == 5
    assert "exp-7" not in choose_curves(twenty())


def test_many_runs_stand_in_rows_with_the_settings_that_differ() -> None:
    columns, table = table_of_many(twenty())
    assert columns[:4] == ["mAP, max over views (%)", "optim.learning_rate", "focus.regime", "seed"]
    assert [row.name for row in table][:3] == ["exp-11", "exp-10", "exp-8"]
    assert [(row.name, row.note) for row in table if row.note] == [
        ("exp-9", "not evaluated"), ("exp-7", "scored on other videos or views than most: not ranked"),
    ][::-1]  # fmt: skip
    assert [row.name for row in table[-2:]] == ["exp-7", "exp-9"]
    assert [row.name for row in table if row.cells[0].best] == ["exp-11"]
    assert table[0].cells[1].value == pytest.approx(1e-11), "sorted as a number"


def test_classes_come_with_their_test_videos_and_those_without_are_named() -> None:
    aps = {"waving": 0.25, "running": 0.5, "idle": None}
    counts = {"waving": 3, "running": 12, "idle": 0}
    one = replace(rows("Noisy", [0.4])[0], evaluated=scored(0.4, 0.0, class_ap=aps, class_positives=counts))
    two = replace(one, run="b", evaluated=scored(0.4, 0.0, class_ap=aps | {"waving": 0.75}, class_positives=counts))
    table = class_table([one, two])
    assert [(row.name, [cell.text for cell in row.cells]) for row in table.rows] == [
        ("running", ["12", "50.0", "50.0"]), ("waving", ["3", "25.0", "75.0"]),
    ]  # fmt: skip
    assert [[cell.best for cell in row.cells] for row in table.rows] == [[False] * 3, [False, False, True]]
    assert table.without == ["idle"]
    page = render_report(ReportData("t", "", "", [one, two]))
    assert "Without a test video, so without an AP, and hidden: idle." in page


def test_verdict_says_whether_the_moments_were_found() -> None:
    """Equal mAP would hide that only one of two runs knows when things happen."""
    base, ours = (replace(rows(name, [0.78])[0], hit_chance=0.161) for name in ("Noisy", "Ours"))
    pair = [replace(base, per_time_map=0.283, hit_rate=0.4), replace(ours, per_time_map=0.431, hit_rate=0.62)]
    said = [c for c in judge(pair).caveats if c.startswith("Finding the moments")]
    assert said == [
        "Finding the moments: per-time mAP 43.1 against 28.3 for Noisy-0; salient times right, in %, 62.0 against 40.0 "
        "for Noisy-0; random moments: 16.1."
    ]
    assert not [c for c in judge([base, ours]).caveats if "moments" in c]
