"""What a run has found out, read by other programs: it must be what the run itself holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.library import Clips
from adaptfocus.pipelines.plan.published import read_bags, read_plan
from adaptfocus.pipelines.stream.clips import read_and_decode
from adaptfocus.trainers.library import Run
from adaptfocus.trainers.runs import log
from adaptfocus.trainers.runs.open import clip_shape
from adaptfocus.trainers.runs.snapshots import read_saliency
from tests.worlds import SmallWorld

pytestmark = pytest.mark.usefixtures("one_thread")


def test_curves_have_each_commit(run: Run) -> None:
    curves = run.curves()
    assert (run.epochs_trained, run.config.epochs, len(run.diagnostics())) == (2, 2, 2)
    assert curves["number"].to_pylist() == sorted(curves["number"].to_pylist())
    for epoch in range(2):
        own = curves.filter(np.equal(curves["epoch"].to_numpy(), epoch))
        assert own["cursor"][-1] == own["num_bags"][-1]
    assert all(0 < loss < 5 for loss in curves["loss"].to_pylist())
    assert {"time", "epoch", "loss"} <= set(curves.to_pandas().columns)


def test_the_ledger_says_what_the_model_said_of_each_clip(run: Run) -> None:
    ledger = run.ledger(1)
    plan = read_plan(log.Run(run.url).epoch_url(1, "plan"))
    assert plan is not None
    assert ledger.num_rows == plan.num_bags
    assert ledger["slot"].to_pylist() == [*range(plan.num_bags)]
    assert [run.index[row].id for row in ledger["video_row"].to_pylist()] == ledger["video_id"].to_pylist()
    assert all(0 < p < 1 for each in ledger["probability"].to_pylist() for p in each)
    with pytest.raises(InputError, match="has committed nothing of epoch 7; it has trained 2"):
        run.ledger(7)


@pytest.mark.parametrize("name", ["run", "mixed"])
def test_saliency_is_that_of_the_snapshot(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    table = run.saliency()
    raw = read_saliency(log.Run(run.url), run.epochs_trained)
    assert table["video_row"].to_pylist() == raw.video_row.tolist()
    assert table["label"].to_pylist() == [run.classes[each] for each in raw.label_id]
    for row in table.to_pylist():
        video = run.index[row["video_row"]]
        assert (row["video_id"], row["label"] in video.labels) == (video.id, True)
        seen = [score for score, epoch in zip(row["score"], row["epoch"], strict=True) if epoch >= 0]
        assert (row["spike"] > 0) == bool(seen)
        if seen:
            assert 0 <= row["spike_seconds"] <= video.duration_seconds
            assert row["spike"] <= max(seen) + 1e-6
    assert (table["spike"].to_numpy() > 0).any()
    assert not (run.saliency(0)["spike"].to_numpy() > 0).any()
    with pytest.raises(InputError, match="no saliency after 9 epochs"):
        run.saliency(9)


@pytest.mark.parametrize("name", ["run", "mixed"])
def test_the_clips_of_a_plan_are_those_that_the_run_was_trained_on(name: str, request: pytest.FixtureRequest) -> None:
    """Frames too: with a mixture, each index has its own frame rate and crop."""
    run: Run = request.getfixturevalue(name)
    facts = read_plan(log.Run(run.url).epoch_url(0, "plan"))
    assert facts is not None
    shape = clip_shape(run.config)
    theirs = [read_and_decode(read_bags(*part, run.config.index_urls), shape) for part in facts.slices()]
    frames = np.concatenate([each.frames.reshape(-1, *each.frames.shape[2:]) for each in theirs])
    clips = run.clips(run.plan(0), isolation=None)
    ours = list(clips)
    assert len(ours) == len(frames) == facts.num_bags * 3
    assert np.array_equal(np.stack([each["frames"] for each in ours]), frames)
    assert all(each["error"] == "" and each["labels"].any() for each in ours)
    with pytest.raises(InputError, match="has no plan of epoch 5"):
        run.plan(5)


def test_a_mixture_is_one_index_with_the_runs_names_of_labels(mixed: Run, small_world: SmallWorld) -> None:
    assert len(mixed.index) == 24
    assert mixed.index.classes == mixed.classes
    assert "new" in mixed.classes
    labels = [label for video in mixed.index for label in video.labels]
    assert "new" in labels
    sources = {row >> 56 for row, _ in mixed.sampler()(0)}
    assert sources == {0, 1}
    own = [video for video in mixed.index if video.row["video_row"] >> 56]
    assert {mixed.index[video.id].labels for video in own} <= {video.labels for video in own}


@pytest.mark.parametrize("name", ["run", "mixed"])
def test_the_sampler_draws_around_the_salient_times(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    sampler = run.sampler(clips_per_video=4, explore_probability=0.0, seed=5)
    moments = list(sampler(0))
    assert moments == list(run.sampler(clips_per_video=4, explore_probability=0.0, seed=5)(0))
    assert moments != list(sampler(1))
    assert sorted({row for row, _ in moments}) == sorted(video.row["video_row"] for video in run.index)
    assert len(moments) == 4 * len(run.index)
    spikes: dict[int, list[float]] = {}
    for row in run.saliency().to_pylist():
        if row["spike"] > 0:
            spikes.setdefault(row["video_row"], []).append(row["spike_seconds"])
    assert spikes
    length = (run.clip.frames - 1) / 2 / 2  # at 2 Hz, the slowest
    for row, seconds in moments:
        video = run.index[row]
        near = min((abs(seconds - each) for each in spikes.get(row, ())), default=0.0)
        assert near <= run.config.focus.delta * video.duration_seconds + length
    anywhere = list(run.sampler(clips_per_video=4, explore_probability=1.0, seed=5)(0))
    assert [row for row, _ in anywhere] == [row for row, _ in moments]
    assert anywhere != moments
    with pytest.raises(ConfigError, match="0 clips of each video"):
        run.sampler(clips_per_video=0)


def test_the_model_is_ready(run: Run) -> None:
    clips = run.clips(run.plan(1)[:4], isolation=None)
    (batch,) = clips.loader(4)
    model = run.model()
    with torch.inference_mode():
        found = model(batch["frames"])
        assert found.shape == (4, len(run.classes))
        assert ((found > 0) & (found < 1)).all()
        assert not torch.equal(found, run.model(epoch=0)(batch["frames"]))
    assert not model.training
    with pytest.raises(InputError):
        run.model(epoch=4)


def test_a_run_that_has_not_begun_says_so(small_world: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a run: it has no config\.json"):
        Run(str(tmp_path))
    config = small_world.run_config(tmp_path, "new")
    store.write_bytes(store.join(config.url, "config.json"), json.dumps(config.model_dump(mode="json")).encode())
    run = Run(config.url)
    assert (run.epochs_trained, run.curves().num_rows, run.diagnostics()) == (0, 0, [])
    assert len(run.index) == 18
    with pytest.raises(InputError, match="has no checkpoint yet"):
        run.model()


def test_videos_that_left_the_index_are_left_out_of_saliency(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that follows its index has saliency of videos that the newest snapshot lacks."""
    other, read = Run(run.url), type(run.index).read
    whole = other.saliency()
    gone = whole["video_row"][0].as_py()

    def without(self, uid: int, columns=None):
        table = read(self, uid, columns)
        return table.filter(np.not_equal(table["video_row"].to_numpy(), gone))

    monkeypatch.setattr(type(run.index), "read", without)
    found = other.saliency()
    assert found.to_pylist() == [row for row in whole.to_pylist() if row["video_row"] != gone]
    assert 0 < found.num_rows < whole.num_rows


def test_a_run_of_its_own_kind_of_clips(run: Run) -> None:
    """Clips of another shape are read from a run's moments as well."""
    wide = run.clip.model_copy(update={"frames": 2, "size_pixels": 32})
    (sample,) = Clips(run.index, run.plan(0)[:1], wide, isolation=None)
    assert sample["frames"].shape == (2, 3, 32, 32)
