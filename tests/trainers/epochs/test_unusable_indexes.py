"""A run on several indexes of which one cannot give what it should: it is told before anything is wasted."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.trainers.errors import StoppedError
from adaptfocus.trainers.inputs.run_index import training_facts
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.runs.quarantine import choose_rows, read_quarantine, release_decoded, retry
from adaptfocus.trainers.settings.run import TrainConfig
from tests.footage import write_tar
from tests.trainers.loop.test_training import DyingEngine, Killed, broken_copy, trained
from tests.trainers.runs.growing import Growing
from tests.trainers.runs.test_quarantine import repair
from tests.worlds import SmallWorld, change_rows


def mixture(world: SmallWorld, runs: Path, other: str, *more: str) -> TrainConfig:
    """Six sound videos, and those of another index from the second epoch on."""
    return world.run_config(
        runs, "run", f"index={world.test_index}", "plan.bags_per_epoch=4", "plan.bags_per_batch=2",
        f"mixture.more=[{{index: {other}, weight: [0, 1]}}]", "epochs=4", *more,
    )  # fmt: skip


def without(name: str, world: SmallWorld, to: Path) -> str:
    """The training index with no value in a column."""
    build_index([str(world.folder / "shards-train")], str(to), workers=1, classes=world.config.classes)
    change_rows(to, lambda row: row | ({"labels": []} if name == "labels" else {}) | {"intervals": None})
    return str(to)


@pytest.mark.parametrize(
    ("column", "setting", "why"),
    [
        ("intervals", "focus.regime=full", "focus.regime=full leaves out 18 of 18 videos"),
        ("labels", "plan.unlabelled=left_out", "plan.unlabelled=left_out leaves out 18 of 18 videos"),
    ],
)
def test_an_index_without_a_usable_video_is_told_before_the_epochs_without_it_are_trained(
    small_world: SmallWorld, tmp_path: Path, column: str, setting: str, why: str
) -> None:
    other = without(column, small_world, tmp_path / "index")
    with pytest.raises(ConfigError, match=f"epoch 2 takes bags of {other}, which has no usable video: {why}"):
        prepare(mixture(small_world, tmp_path, other, setting))
    prepare(mixture(small_world, tmp_path, other, setting, "epochs=1"))


def test_full_refuses_a_name_that_the_index_has_already(small_world: SmallWorld, tmp_path: Path) -> None:
    """Manifests count the videos whose labels lack an interval by the names of the index."""
    other, (one, two, *_) = small_world.train_index, small_world.config.classes
    said = f"with the `labels` of {other}, '{one}' and '{two}' are both '{two}'"

    def of(labels: str, regime: str = "full") -> TrainConfig:
        more = f"mixture.more=[{{index: {other}, labels: {labels}}}]"
        return mixture(small_world, tmp_path, other, f"focus.regime={regime}", more)

    with pytest.raises(InputError, match=said):
        training_facts(of(f"{{{one}: {two}}}"))
    training_facts(of(f"{{{one}: {two}, {two}: {one}}}"))
    training_facts(of(f"{{{one}: {two}}}", "ours"))


def test_an_index_whose_videos_are_all_left_out_can_be_repaired(small_world: SmallWorld, tmp_path: Path) -> None:
    """The run ends before it decides which releases count, so that one that comes then counts."""
    world = broken_copy(small_world, tmp_path / "broken", 18)
    own = (
        "max_bad_share=1",
        "plan.bags_per_epoch=36",
        "plan.clips_per_bag=1",
        "epochs=3",
        "placement.isolate_decoding=false",
    )
    config = mixture(small_world, tmp_path, world.train_index, *own)
    run = Run(config.url)
    with pytest.raises(StoppedError, match=rf"no usable video of {world.train_index} is left, and epoch 3 takes bags"):
        trained(config)
    repair(world, small_world)
    assert release_decoded(run, list(retry(run, config, choose_rows(read_quarantine(run, config), []))))
    train(config, LocalEngine(2))
    assert read_quarantine(run, config).num_rows == 0


def test_an_index_that_is_followed_may_get_its_first_usable_videos_later(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    growing = Growing(small_world, tmp_path / "growing")
    key = growing.left.pop()
    members = {f"{key}.mp4": growing.videos[key][".mp4"], f"{key}.json": b'{"labels": []}'}
    write_tar(growing.folder / "tars" / "first.tar", members)
    growing.index([*small_world.config.classes])
    own = ("plan.unlabelled=left_out", "follow_index=true", "epochs=2", "plan.clips_per_bag=1")
    config = mixture(small_world, tmp_path, growing.url, *own)
    with pytest.raises(Killed):
        trained(config, DyingEngine(2, 1))
    growing.add(3, classes=[*small_world.config.classes])
    found = audit(trained(config))
    assert (found.epochs, found.clips_lost, found.clips_twice, found.clips_trained) == (2, 0, 0, 8)
