"""One clip by its number: what `adaptfocus show` says is what was planned, read and scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan.published import read_drawn, read_plan
from adaptfocus.pipelines.schemas import STEP_SCHEMA, clip_id, place_of_clip
from adaptfocus.pipelines.stream.clips import stream
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.ledger import last_commits
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.one_clip import find_clip, frames_of_clip
from adaptfocus.trainers.runs.open import clip_shape
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.run import TrainConfig
from tests.worlds import SmallWorld


@given(st.integers(0, (1 << 19) - 1), st.integers(0, (1 << 36) - 1), st.integers(0, 254))
def test_a_number_says_where_its_clip_stands(epoch: int, slot: int, draw: int) -> None:
    assert place_of_clip(clip_id(epoch, slot, draw)) == (epoch, slot, draw)


@pytest.fixture(scope="module")
def trained(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, TrainConfig]:
    """A finished run of three epochs, cropped by clip."""
    config = small_world.run_config(tmp_path_factory.mktemp("runs"), "r", "decode.crop_place=drawn")
    prepare(config)
    train(config, LocalEngine(4))
    return Run(config.url), config


@pytest.mark.parametrize(("epoch", "slot", "draw"), [(0, 0, 0), (1, 5, 2), (2, 15, 1)])
def test_a_clip_is_what_was_planned_trained_and_scored(
    trained: tuple[Run, TrainConfig], small_world: SmallWorld, epoch: int, slot: int, draw: int
) -> None:
    run, config = trained
    found = find_clip(run, config, clip_id(epoch, slot, draw))
    plan = read_plan(run.epoch_url(epoch, "plan"))
    assert plan is not None
    ((url, row, _),) = plan.slices(slot, slot + 1)
    bag = read_drawn(url, STEP_SCHEMA, row, row + 1).to_pylist()[0]
    assert found.clip["center_seconds"] == bag["clips"][draw]["center_seconds"]
    (batch,) = stream([(url, row, row + 1)], clip_shape(config), 1)
    frames, size_bytes, requests = frames_of_clip(found, config)
    assert np.array_equal(frames, batch.frames[0, draw]), "the very frames that were trained on"
    assert requests == 1
    assert size_bytes == sum(span["size_bytes"] for span in found.bag["spans"])
    (scored,) = run.ledger_of(last_commits(run.entries())[epoch], slot, slot + 1).to_pylist()
    p = np.reshape(scored["probability"], (3, -1))[draw]
    assert [each.probability for each in found.labels] == p.tolist()
    classes = small_world.planner().classes
    assert [each.name for each in found.labels] == [classes[k] for k in scored["label_ids"]]
    assert found.outcome == "trained"
    assert (found.labels[0].spike is None) == (epoch == 0), "nothing was seen before the first epoch"
    assert found.packets >= len(set(found.clip["frame_pts"]))
    assert found.keyframe_seconds[0] <= found.clip["frame_pts"][0] * found.time_base_seconds


def test_a_clip_that_is_not_there_is_told_with_what_is(trained: tuple[Run, TrainConfig]) -> None:
    run, config = trained
    with pytest.raises(InputError, match=r"draw 0 of slot 99 of epoch 1, and in .* slots 0 to 15 of 3 draws each"):
        find_clip(run, config, clip_id(0, 99, 0))
    with pytest.raises(InputError, match=r"draw 3 of slot 0 of epoch 1, and in"):
        find_clip(run, config, 3)
    with pytest.raises(InputError, match=r"of epoch 8, and .* has not planned that epoch"):
        find_clip(run, config, clip_id(7, 0, 0))
    with pytest.raises(InputError, match="clip -1 is no number of a clip"):
        find_clip(run, config, -1)


def test_a_clip_of_an_epoch_that_is_not_trained_yet(trained: tuple[Run, TrainConfig], tmp_path: Path) -> None:
    """The plan is there before the scores."""
    run, config = trained
    moved = Run(str(tmp_path / "begun"))
    for name in ("epochs", "config.json", "index.json"):
        source = Path(run.url) / name
        target = Path(moved.url) / name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(source)
    found = find_clip(moved, config, clip_id(0, 0, 0))
    assert found.outcome == "not trained yet"
    assert {each.probability for each in found.labels} == {None}


def test_the_frames_of_a_run_that_decodes_planes_are_shown_in_colours(trained: tuple[Run, TrainConfig]) -> None:
    run, config = trained
    planes = config.model_copy(update={"decode": DecodeConfig(pixel_format="yuv420p")})
    frames, _, _ = frames_of_clip(find_clip(run, planes, 0), planes, size_pixels=40)
    assert frames.shape == (8, 3, 40, 40)


def test_a_label_that_the_clip_does_not_show_is_said_to_be_negative(small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "full", "focus.regime=full", "epochs=1")
    prepare(config)
    train(config, LocalEngine(4))
    run = Run(config.url)
    seen = {
        each.may_be_positive
        for slot in range(16)
        for draw in range(3)
        for each in find_clip(run, config, clip_id(0, slot, draw)).labels
    }
    assert seen == {True, False}
