"""What the heartbeat counts: a whole run's bags, speed, loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.trainers.loop import heartbeat
from adaptfocus.trainers.loop.heartbeat import Heartbeat, bags_of_run
from tests.worlds import SmallWorld


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9))
def test_the_bags_of_a_run_are_known_from_each_of_its_epochs(videos: int, epochs: int, per_batch: int) -> None:
    """Each epoch trains its videos and the bags carried into it, in whole batches; the rest is carried to the next."""
    if videos < per_batch:
        return
    bags, carried = [], [0]
    for _ in range(epochs):
        bags.append((videos + carried[-1]) // per_batch * per_batch)
        carried.append(videos + carried[-1] - bags[-1])
    for epoch in range(epochs):
        plan = PlanFacts("", epoch, bags[epoch], (), tuple(range(carried[epoch + 1])), 1)
        assert bags_of_run(plan, carried[epoch], sum(bags[:epoch]), epochs, per_batch) == sum(bags)


def test_speed_and_what_is_left(small_world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 bags of 3 clips every 2 s, half of that waited for: 6 clips a second, and 40 bags take 20 s."""
    now = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: next(now))
    config = small_world.run_config("/nowhere", "run", "epochs=3")
    beat, plan = Heartbeat("/nowhere", config, enabled=False), PlanFacts("", 1, 20, (), (), 1)
    for cursor, loss in ((4, None), (8, 0.5), (12, 0.3)):
        beat.at(plan, cursor, 16, 68, 1.0, loss)
    found = beat._state
    assert (found["bags_done"], found["bags_in_all"]) == (28, 68)
    assert found["loss"] == pytest.approx(0.4)
    assert found["clips_per_second"] == pytest.approx(6)
    assert found["waiting_share"] == pytest.approx(0.5)
    assert found["seconds_left"] == pytest.approx(20)
