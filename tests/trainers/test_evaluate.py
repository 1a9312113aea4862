"""Scores of earlier epochs: of the right weights, from views decoded once, and an error that says which there are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import trainers.evaluate
from pipelines import storage
from pipelines.clip_stream import stream
from pipelines.errors import InputError
from tests.trainers.test_loop import trained
from tests.worlds import SmallWorld
from trainers.checkpoint import Run
from trainers.evaluate import evaluate, evaluate_checkpoints, load_config, predict_here, scores_url

VIEWS = 3


@pytest.fixture(scope="module")
def all_kept(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs of several commits each, every state kept."""
    return trained(small_world.run_config(tmp_path_factory.mktemp("runs"), "kept", "checkpoint.keep=100"))


def as_it_stood_after(run: Run, epoch: int, folder: Path) -> Run:
    """A copy of a run whose log ends with the last commit of an epoch."""
    copy = Run(str(folder / "kept"))
    shutil.copytree(run.url, copy.url)
    last = run.kept_epochs()[epoch].number
    for url in storage.list_files(copy.at("log"))[last + 1 :]:
        storage.delete(url)
    return copy


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_epoch_is_scored_as_the_newest_was_when_it_ended(
    small_world: SmallWorld, all_kept: Run, tmp_path: Path, epoch: int
) -> None:
    then = as_it_stood_after(all_kept, epoch, tmp_path)
    index = small_world.test_index
    wanted = evaluate(then, load_config(then.url), index, VIEWS, "test", predict_here)
    found = evaluate(all_kept, load_config(all_kept.url), index, VIEWS, "now", predict_here, epoch)
    assert found == wanted
    assert found.epoch == epoch


def test_several_checkpoints_are_scored_from_views_decoded_once(
    small_world: SmallWorld, all_kept: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A curve over 30 epochs would otherwise decode the test set 30 times."""
    decoded: list[int] = []

    def counted(*args, **more):
        for batch in stream(*args, **more):
            decoded.extend(batch.slot.tolist())
            yield batch

    monkeypatch.setattr(trainers.evaluate, "stream", counted)
    config, kept = load_config(all_kept.url), all_kept.kept_epochs()
    assert list(kept) == [0, 1, 2]
    names = {f"epoch-{epoch}": commit for epoch, commit in kept.items()}
    together = evaluate_checkpoints(all_kept, config, small_world.test_index, VIEWS, names, predict_here)
    assert sorted(decoded) == list(range(6)), "each of the six videos once"
    for epoch in kept:
        alone = evaluate(all_kept, config, small_world.test_index, VIEWS, "alone", predict_here, epoch)
        assert together[f"epoch-{epoch}"] == alone
        saved = json.loads(storage.read_bytes(scores_url(all_kept.url, f"epoch-{epoch}")))
        assert saved["map_max"] == alone.map_max
    assert len({replace(scores, epoch=0, checkpoint=0).map_mean for scores in together.values()}) > 1, "all the same"


@pytest.mark.parametrize(
    ("epoch", "message"),
    [
        (0, r"end of epoch 0 \(counted from 0\), because its weights are no longer kept; there are those of: 1, 2\."),
        (3, r"end of epoch 3 \(counted from 0\), because it is not trained to its end; there are those of: 1, 2\."),
    ],
)
def test_weights_that_are_gone_are_said_with_those_that_are_there(
    small_world: SmallWorld, tmp_path: Path, epoch: int, message: str
) -> None:
    # Epochs of 16, 20 and 16 bags in batches of 4, a commit every 2 batches: the last 5 commits reach back to epoch 1.
    run = trained(small_world.run_config(tmp_path, "few", "checkpoint.keep=5"))
    with pytest.raises(InputError, match=message):
        evaluate(run, load_config(run.url), small_world.test_index, VIEWS, "test", predict_here, epoch)
