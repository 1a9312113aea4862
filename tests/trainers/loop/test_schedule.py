"""Learning rates at the corners of the public schedules."""

from __future__ import annotations

import numpy as np
import pytest

from adaptfocus.trainers.loop.schedule import learning_rate
from adaptfocus.trainers.settings.parts import OptimConfig


def rates(schedule: str, *progress: float) -> list[float]:
    config = OptimConfig(learning_rate=2.0, schedule=schedule)  # type: ignore[arg-type]
    return [learning_rate(at, config) for at in progress]


def test_steps_are_those_of_pyslowfast_for_charades() -> None:
    """57 epochs: 4 of warm-up from 0.0001 to 0.0375, a tenth after 41, a hundredth after 49."""
    found = rates("steps", 0, 2 / 57, 4 / 57, 40.9 / 57, 41.1 / 57, 48.9 / 57, 49.1 / 57, 1)
    middle = (0.0001 + 0.0375) / 2 / 0.0375
    assert found == pytest.approx([2 / 375, 2 * middle, 2, 2, 0.2, 0.2, 0.02, 0.02])


def test_cosine_is_that_of_pyslowfast_for_mvit() -> None:
    """200 epochs: 30 of warm-up from a hundredth, then a cosine back to a hundredth."""
    found = rates("cosine", 0, 15 / 200, 30 / 200, 115 / 200, 1)
    assert found == pytest.approx([0.02, 2 * 0.505, 2, 2 * 0.505, 0.02])


@pytest.mark.parametrize("schedule", ["one_cycle", "up7", "cosine", "steps", "constant"])
def test_no_schedule_goes_above_its_peak_or_jumps_up(schedule: str) -> None:
    found = np.array(rates(schedule, *np.linspace(0, 1, 2001)))
    assert found.max() == pytest.approx(2.0, rel=1e-3)
    assert found.min() >= 0
    assert np.diff(found).max() < 0.02
