"""The draws of a step for its clips do not depend on how it is computed: in parts, or with recomputed activations."""

from __future__ import annotations

import pytest

from tests.trainers.loop.test_step import assert_same, step

pytestmark = pytest.mark.usefixtures("one_thread")

IN_PARTS = ("step.accumulate=3",)
AGAIN = ("step.checkpoint_activations=true",)
LEFT_OUT = ("dropout=0.4", "drop_path=0.5")
CHANGED = ("augment.crop_area=[0.3, 1]", "augment.flip_probability=0.5", "augment.hue=0.1", "dropout=0.3")


@pytest.mark.parametrize("switches", [IN_PARTS, AGAIN, IN_PARTS + AGAIN])
def test_the_same_is_left_out_in_parts_and_in_repeated_passes(switches: tuple[str, ...]) -> None:
    plain = step("best", *LEFT_OUT, backbone="mvit_b_16x4")
    assert_same(step("best", *LEFT_OUT, *switches, backbone="mvit_b_16x4"), plain, 3e-5)
    assert abs(step("best", backbone="mvit_b_16x4")["loss"] - plain["loss"]) > 1e-4


@pytest.mark.parametrize("switches", [IN_PARTS, AGAIN])
def test_clips_change_the_same_way(switches: tuple[str, ...]) -> None:
    assert_same(step("best", *CHANGED, *switches), step("best", *CHANGED), 3e-6)
