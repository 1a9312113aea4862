"""Scores of earlier epochs: of the right weights, from views decoded once, and an error that says which there are."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.labels import is_shown
from adaptfocus.pipelines.stream.clips import stream
from adaptfocus.trainers.evaluation import predictions
from adaptfocus.trainers.evaluation.saved import names_of, read_resamples, read_scores
from adaptfocus.trainers.evaluation.scoring import (
    evaluate,
    evaluate_checkpoints,
    predict_here,
    scores_url,
)
from adaptfocus.trainers.metrics.video import charades_map, per_time_map
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import load_config
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld

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
    for url in store.list_files(copy.at("log"))[last + 1 :]:
        store.delete(url)
    return copy


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_epoch_is_scored_as_the_newest_was_when_it_ended(
    small_world: SmallWorld, all_kept: Run, tmp_path: Path, epoch: int
) -> None:
    then = as_it_stood_after(all_kept, epoch, tmp_path)
    index = small_world.test_index
    wanted = evaluate(then, load_config(then.url), index, VIEWS, "test", predict_here)
    found = evaluate(all_kept, load_config(all_kept.url), index, VIEWS, f"now-{epoch}", predict_here, epoch)
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

    monkeypatch.setattr("adaptfocus.trainers.evaluation.scoring.stream", counted)
    config, kept = load_config(all_kept.url), all_kept.kept_epochs()
    assert list(kept) == [0, 1, 2]
    names = {f"epoch-{epoch}": commit for epoch, commit in kept.items()}
    together = evaluate_checkpoints(all_kept, config, small_world.test_index, VIEWS, names, predict_here)
    assert sorted(decoded) == list(range(6)), "each of the six videos once"
    for epoch in kept:
        alone = evaluate(all_kept, config, small_world.test_index, VIEWS, f"alone-{epoch}", predict_here, epoch)
        assert together[f"epoch-{epoch}"] == alone
        saved = json.loads(store.read_bytes(scores_url(all_kept.url, f"epoch-{epoch}")))
        assert saved["map_max"] == alone.map_max
    assert len({replace(scores, epoch=0, checkpoint=0).map_mean for scores in together.values()}) > 1, "all the same"


@pytest.mark.parametrize(
    ("epoch", "message"),
    [
        (
            0,
            r"end of epoch 1, because its weights are no longer kept; it has those of the ends of epochs .*: 2, 3\.",
        ),
        (3, r"end of epoch 4, because it is not trained to its end; it has those of the ends of epochs .*: 2, 3\."),
    ],
)
def test_weights_that_are_gone_are_said_with_those_that_are_there(
    small_world: SmallWorld, tmp_path: Path, epoch: int, message: str
) -> None:
    # Epochs of 16, 20 and 16 bags in batches of 4, a commit every 2 batches: the last 5 commits reach back to epoch 1.
    run = trained(small_world.run_config(tmp_path, "few", "checkpoint.keep=5"))
    with pytest.raises(InputError, match=message):
        evaluate(run, load_config(run.url), small_world.test_index, VIEWS, "test", predict_here, epoch)


def test_three_crops_a_view_are_scored_by_their_largest_and_their_mean(small_world: SmallWorld, all_kept: Run) -> None:
    """10 x 3: what the scores say is recomputed here from the table of predictions."""
    saved = load_config(all_kept.url)
    config = saved.model_copy(update={"decode": DecodeConfig(crop_fraction=0.6)})  # the world's pictures are square
    index = small_world.test_index
    three = evaluate(all_kept, config, index, VIEWS, "three", predict_here, crops=3)
    one = evaluate(all_kept, config, index, VIEWS, "one", predict_here)
    assert (three.views, three.crops, three.size_pixels, one.crops) == (VIEWS, 3, 20, 1)
    tables = {name: pa.concat_tables(predictions.read(all_kept, name, 6)).to_pylist()
              for name in ("three", "one")}  # fmt: skip
    p = np.array([row["probability"] for row in tables["three"]]).reshape(6, VIEWS, 3, -1)
    middle = np.array([row["probability"] for row in tables["one"]]).reshape(6, VIEWS, -1)
    assert [row["crop_place"] for row in tables["three"]] == [[-1, 0, 1] * VIEWS] * 6
    assert [row["crop_place"] for row in tables["one"]] == [[0] * VIEWS] * 6
    np.testing.assert_allclose(p[:, :, 1], middle, atol=1e-6)
    assert np.abs(p[:, :, 0] - p[:, :, 2]).max() > 1e-4
    centers = [np.array(row["center_seconds"]).reshape(VIEWS, 3) for row in tables["three"]]
    assert all((each == each[:, :1]).all() for each in centers)
    videos = load_index(index).table.to_pylist()
    classes = load_index(saved.index).classes
    truth = np.array([[name in video["labels"] for name in classes] for video in videos])
    for given, by_video in ((three.map_max, p.max(axis=(1, 2))), (three.map_mean, p.mean(axis=(1, 2)))):
        assert given == pytest.approx(charades_map(by_video, truth)[0])
    rows = p.max(axis=2).reshape(6 * VIEWS, -1)
    shown = np.array([[is_shown(video["intervals"], name, seconds) for name in classes]
                      for video, own in zip(videos, centers, strict=True) for seconds in own[:, 0]])  # fmt: skip
    assert three.per_time_map == pytest.approx(per_time_map(rows[:, None], shown[:, None])[0])


def test_crops_of_another_size_are_other_pictures(small_world: SmallWorld, all_kept: Run) -> None:
    """Convolutions are often tested on larger pictures than they were trained on; a fixed size is refused."""
    config, index = load_config(all_kept.url), small_world.test_index
    large = evaluate(all_kept, config, index, VIEWS, "large", predict_here, size_pixels=28)
    usual = evaluate(all_kept, config, index, VIEWS, "usual", predict_here)
    assert (large.size_pixels, usual.size_pixels) == (28, 20)
    assert large.map_mean != usual.map_mean
    other = config.model_copy(update={"backbone": "slowfast_r50"})
    with pytest.raises(ConfigError, match=r"clip.size_pixels is 30; this backbone takes multiples of 32"):
        evaluate(all_kept, other, index, VIEWS, "x", predict_here, size_pixels=30)


@pytest.mark.parametrize(("views", "crops"), [(3, 2), (86, 3)])
def test_what_cannot_be_numbered_is_refused(small_world: SmallWorld, all_kept: Run, views: int, crops: int) -> None:
    with pytest.raises(ConfigError, match=rf"{views} views of {crops} crops: .* use at most 85 views of 3 crops"):
        evaluate(all_kept, load_config(all_kept.url), small_world.test_index, views, "x", predict_here, crops=crops)


def test_an_evaluation_of_something_else_never_takes_the_place_of_another(
    small_world: SmallWorld, all_kept: Run, tmp_path: Path
) -> None:
    """20 x 1 was gone after somebody tried 10 x 3 under the same name."""
    config, index = load_config(all_kept.url), small_world.test_index
    first = evaluate(all_kept, config, index, VIEWS, "once", predict_here)
    before = store.read_bytes(scores_url(all_kept.url, "once"))
    by = functools.partial(evaluate, all_kept, config, name="once", predict=nothing)
    for again, said in (
        (lambda: by(index, 2), r"something else \(views: 3 -> 2\); keep both with --name once-views-2, or replace"),
        (lambda: by(index, VIEWS, crops=3), r"crops: 1 -> 3\); keep both with --name once-crops-3"),
        (
            lambda: by(index, VIEWS, epoch=0),
            r"checkpoint: \d+ -> 2, epoch: 2 -> 0\); keep both with --name once-epoch-0",
        ),
        (lambda: by(small_world.train_index, VIEWS), r"index_fingerprint: \w+ -> \w+\); keep both with --name once-2"),
    ):
        with pytest.raises(InputError, match=said):
            again()
    assert store.read_bytes(scores_url(all_kept.url, "once")) == before
    assert evaluate(all_kept, config, index, VIEWS, "once", predict_here) == first, "the same again is no other"
    assert evaluate(all_kept, config, index, 2, "once", predict_here, overwrite=True).views == 2
    assert "once" in names_of(all_kept.url)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "."])
def test_an_evaluation_cannot_be_written_outside_its_run(small_world: SmallWorld, all_kept: Run, name: str) -> None:
    with pytest.raises(InputError, match="an evaluation cannot be named"):
        evaluate(all_kept, load_config(all_kept.url), small_world.test_index, VIEWS, name, nothing)


def nothing(*_: object) -> list:
    raise AssertionError("views are decoded only for what may be written")


def test_scores_say_what_they_are_scores_of(small_world: SmallWorld, all_kept: Run) -> None:
    index = load_index(small_world.test_index)
    scores = evaluate(all_kept, load_config(all_kept.url), small_world.test_index, VIEWS, "said", predict_here)
    saved = read_scores(all_kept.url, "said")
    assert (saved["index_fingerprint"], saved["index"]) == (index.fingerprint, small_world.test_index)
    labels = [label for video in index.table.to_pylist() for label in video["labels"]]
    assert saved["class_positives"] == {
        name: labels.count(name) for name in load_index(small_world.train_index).classes
    }
    assert saved["classes_with_positives"] == len(set(labels))
    resamples = read_resamples(all_kept, "said")
    for name, value in (
        ("map_max", scores.map_max),
        ("map_mean", scores.map_mean),
        ("per_time_map", scores.per_time_map),
    ):
        low, high = saved["intervals"][name]
        assert value is not None
        assert 0 <= low <= value <= high <= 1
        assert high > low
        assert len(resamples[name]) == saved["resamples"] == 1000
