"""How often videos are drawn, and which of their actions clips look at, if that depends on how rare the actions are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.plan.order import draw_repeated_order, repeat_weights, shares
from adaptfocus.pipelines.schemas import NO_LABEL, EpochPlan
from tests.pipelines.plan.test_draw import RULES, draw, planner_of, video, visited


def test_repeat_weights_by_hand() -> None:
    # label 0 in 4 videos, label 1 in 1: n_mean = 2.5; (2.5 / 4)^.5 = .790569, (2.5 / 1)^.5 = 1.581139
    planner = planner_of([video(n, own) for n, own in enumerate((["run"], ["run"], ["run"], ["run", "sit"], []))])
    weights = repeat_weights(planner.labels, np.array([0, 4, 1]), 0.5)
    np.testing.assert_allclose(weights, [0.790569, 0.790569, 0.790569, 1.581139, 1.0], atol=1e-6)


@given(
    weights=st.lists(st.floats(0.05, 20), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 50),
)
def test_repeats_are_floor_or_ceiling_of_what_is_wanted_and_fill_the_epoch(weights, seed, epoch) -> None:
    names, rows = [f"v{i}" for i in range(len(weights))], list(range(100, 100 + len(weights)))
    order = draw_repeated_order(names, rows, np.array(weights), seed, epoch)
    assert len(order) == len(rows)
    wanted = np.array(weights) / sum(weights) * len(weights)
    counts = np.array([order.count(row) for row in rows])
    assert (counts >= np.floor(wanted - 1e-6)).all()
    assert (counts <= np.ceil(wanted + 1e-6)).all()
    assert order == draw_repeated_order(names, rows, np.array(weights), seed, epoch)


def test_a_rare_class_is_seen_more_often_and_no_clip_is_drawn_twice() -> None:
    planner = planner_of([video(n, ["sit"] if n == 0 else ["run"]) for n in range(20)])
    rules = dataclasses.replace(RULES, repeat_factor=1.0)
    seen = [draw(planner, epoch=e, rules=rules).table for e in range(30)]
    rare = sum(plan.column("video_row").to_pylist().count(0) for plan in seen)
    # n_mean = 10: the rare video weighs 10, the others 10 / 19; 20 * 10 / 20 = 10 of 20 bags an epoch
    assert 290 <= rare <= 310
    for plan in seen:
        assert plan.num_rows == 20
        taus = [clip["tau"] for clips in plan.column("clips").to_pylist() for clip in clips]
        assert len(set(taus)) == len(taus)
        repeats = [b for b in plan.select(["video_row", "occurrence"]).to_pylist() if b["video_row"] == 0]
        assert [b["occurrence"] for b in repeats] == list(range(len(repeats)))


def test_rare_actions_are_looked_at_more_with_focus_balance() -> None:
    """Nine videos have `run`, one of them `sit` as well. Of its clips that are drawn around an action, 9 in 10 look at
    `sit`; 1 in 2 without the switch."""
    planner = planner_of([video(n, ["run"] if n < 8 else ["run", "sit"]) for n in range(9)])
    for balance, expected in ((0.0, 0.5), (1.0, 0.9)):
        rules = dataclasses.replace(RULES, clips_per_bag=200, bags_per_batch=9, focus_balance=balance)
        plan = draw(planner, visited(planner, 0.5), rules=rules, epoch=3)
        bag = next(row for row in plan.table.to_pylist() if row["video_id"] == "v8")
        around = [clip["focus_label_id"] for clip in bag["clips"] if clip["focus_label_id"] != NO_LABEL]
        assert np.mean([label == planner.classes.index("sit") for label in around]) == pytest.approx(expected, abs=0.1)


def test_an_epoch_with_repeats_keeps_its_length_when_a_video_is_left_out_after_its_head_was_drawn() -> None:
    """20 videos, 4 of them rare. Without video 3, seed 3 repeats others, and the head has one of them too often."""
    labels = [["jump"] if n % 5 else ["run"] for n in range(20)]
    planner = planner_of([video(n, own) for n, own in enumerate(labels)])
    rules = dataclasses.replace(RULES, repeat_factor=1.0)

    def rows_of(plan: EpochPlan) -> list[int]:
        return plan.table.column("video_row").to_pylist() + list(plan.carried)

    head = draw(planner, seed=3, epoch=1, rules=rules, only_bags=4).table
    lengths = [
        len(rows_of(draw(planner, seed=3, epoch=1, rules=rules, head=head, excluded=[bad]))) for bad in range(20)
    ]
    assert lengths == [19] * 20, "22 for video 5 and 20 for videos 3, 9, 14 and 17 once"
    later = draw(planner, seed=3, epoch=1, rules=rules, head=head, excluded=[5])
    assert later.table.slice(0, 4).equals(head), "what is read ahead stays"
    # Where nothing is left out, the head changes nothing.
    assert rows_of(draw(planner, seed=3, epoch=1, rules=rules, head=head)) == rows_of(
        draw(planner, seed=3, epoch=1, rules=rules)
    )


def test_nothing_is_drawn_if_every_video_is_left_out() -> None:
    assert [share.count for share in shares([0.0, 0.0], 0.0, 0, seed=1, epoch=2)] == [0, 0]
