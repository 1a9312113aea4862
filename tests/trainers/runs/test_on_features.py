"""A head trained on features has the same plans, ledger and resume as on pixels; unusable features are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features import store as feature_store
from adaptfocus.pipelines.features.store import FeatureSet, VideoFeatures, open_features
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.stream.clips import read_and_decode, stream
from adaptfocus.trainers.backbones import build
from adaptfocus.trainers.evaluation.export import export_model
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here
from adaptfocus.trainers.evaluation.feature_model import Kind, weights_of
from adaptfocus.trainers.evaluation.scoring import Scores, evaluate, predict_here
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import classes_of, clip_shape, load_config
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.runs.quarantine import read_quarantine, retry
from adaptfocus.trainers.runs.snapshots import read_excluded, read_saliency
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.loop.test_training import DyingEngine, Killed, trained, weights
from tests.worlds import SmallWorld

pytestmark = pytest.mark.usefixtures("one_thread_for_all")
STRIDE = 0.4


@pytest.fixture(scope="module")
def pixels(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(small_world.run_config(tmp_path_factory.mktemp("runs"), "pixels", "epochs=1"))


def extracted(pixels: Run, index: str, out: Path, kind: Kind = "pooled", stride: float = STRIDE) -> str:
    config = load_config(pixels.url)
    job = Extraction(config, len(classes_of(config)), weights_of(config), index, kind, stride)
    extract(job, str(out), make_here)
    return str(out)


@pytest.fixture(scope="module")
def features(small_world: SmallWorld, pixels: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    return extracted(pixels, small_world.train_index, tmp_path_factory.mktemp("features") / "train")


def head_config(world: SmallWorld, runs: str | Path, name: str, features: str, *overrides: str) -> TrainConfig:
    return world.run_config(runs, name, "clip.size_pixels=1", f"features={features}", *overrides)


@pytest.fixture(scope="module")
def undisturbed(small_world: SmallWorld, features: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(head_config(small_world, tmp_path_factory.mktemp("runs"), "head", features))


def truth_features(world: SmallWorld, index_url: str, out: Path, refused: Sequence[int] = ()) -> str:
    """Features that only say what each step shows: one number for each class, from the annotated intervals."""
    index = load_index(index_url)
    made = {"kind": "pooled", "backbone": "none", "weights_sha256": "0", "window": {}, "decode": {}, "motion": "rgb"}
    place = {"index": index_url, "index_fingerprint": index.fingerprint, "run": "none", "split": None}
    feature_store.claim(str(out), made | place | {"stride_seconds": STRIDE})
    videos = []
    for row, video in enumerate(index.table.to_pylist()):
        centers = np.arange(STRIDE / 2, video["duration_seconds"], STRIDE)
        values = np.zeros((len(centers), len(index.classes)), np.float32)
        for span in video["intervals"]:
            inside = (centers >= span["start_seconds"]) & (centers <= span["end_seconds"])
            values[inside, index.classes.index(span["label"])] = 1
        facts = video["video_id"], row, None, tuple(video["labels"]), video["duration_seconds"], centers, values
        videos.append((VideoFeatures(*facts), dict.fromkeys(feature_store.COUNTED, 0)))
    names = ("shard_url", "member_name", "video_id")
    rows = index.table.select(names).to_pylist()
    why = [rows[row] | {"kind": "corrupt", "message": "no frame", "video_row": row} for row in refused]
    feature_store.write_part(str(out), "000000", [v for n, v in enumerate(videos) if n not in refused], why)
    feature_store.finish(str(out), ["000000"])
    return str(out)


def scored(run: Run, index: str, features: str | None, name: str = "test", **how: int) -> Scores:
    return evaluate(run, load_config(run.url), index, 5, name, predict_here, features=features, **how)


def test_a_clip_shows_the_steps_nearest_to_its_frames(small_world: SmallWorld, features: str, undisturbed: Run) -> None:
    """By hand, for each clip of an epoch; in the loop's stream, and in what a task of a cluster calls."""
    config, found = load_config(undisturbed.url), open_features(features)
    plan = read_plan(undisturbed.epoch_url(1, "plan"))
    assert plan is not None
    shape = clip_shape(config)
    rows = [row for url, *part in plan.slices() for row in read_table(url, PLAN_SCHEMA, *part).to_pylist()]
    batches = list(stream(plan.slices(), shape, 4))
    assert [slot for batch in batches for slot in batch.slot.tolist()] == [row["slot"] for row in rows]
    frames = np.concatenate([batch.frames for batch in batches])
    assert frames.shape == (len(rows), 3, 8, found.dim, 1, 1)
    for row, of_bag in zip(rows, frames, strict=True):
        video = found.video(row["video_id"])
        for clip, of_clip in zip(row["clips"], of_bag, strict=True):
            for n in range(8):
                at = clip["center_seconds"] + (n - 3.5) / 4.0  # 4 frames a second
                step = int(np.argmin(np.abs(video.center_seconds - at)))
                np.testing.assert_array_equal(of_clip[n, :, 0, 0], video.features[step])
    url, start, stop = next(iter(plan.slices()))
    by_a_task = read_and_decode(read_table(url, PLAN_SCHEMA, start, stop), shape)
    np.testing.assert_array_equal(by_a_task.frames, frames[: stop - start])


def test_plans_and_ledger_are_those_of_training_on_pixels(
    small_world: SmallWorld, pixels: Run, undisturbed: Run
) -> None:
    """The first epoch has no scores yet, so its plan must be that of the run on pixels, row by row."""
    plans = [read_plan(run.epoch_url(0, "plan")) for run in (pixels, undisturbed)]
    tables = [read_table(*next(iter(plan.slices()))[:1], PLAN_SCHEMA) for plan in plans if plan]
    assert tables[0].equals(tables[1])
    found = audit(undisturbed)
    bags = [read_plan(undisturbed.epoch_url(e, "plan")).num_bags for e in range(3)]  # type: ignore[union-attr]
    assert found.clips_planned == found.clips_trained == 3 * sum(bags)
    assert (found.clips_lost, found.clips_twice, found.clips_undecodable) == (0, 0, 0)


@pytest.mark.parametrize("batches", [3, 7])
def test_killed_anywhere_it_ends_with_the_same_weights(
    small_world: SmallWorld, tmp_path: Path, features: str, undisturbed: Run, batches: int
) -> None:
    config = head_config(small_world, tmp_path, "head", features)
    with pytest.raises(Killed):
        trained(config, DyingEngine(4, batches))
    moved = shutil.copytree(features, tmp_path / "moved")
    run = trained(head_config(small_world, tmp_path, "head", str(moved)))  # the same features, at another place
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(run)[name]), name
    assert read_saliency(run, 3).to_arrow().equals(read_saliency(undisturbed, 3).to_arrow())


def test_it_learns_what_features_show_and_when(small_world: SmallWorld, tmp_path: Path) -> None:
    """Features that show the truth are learnt; a clip that saw another time than its own would score as chance."""
    train, test = (small_world.train_index, small_world.test_index)
    made = {url: truth_features(small_world, url, tmp_path / str(n)) for n, url in enumerate((train, test))}
    how = ("epochs=12", "focus.regime=full", "clip.frames=3")
    run = trained(head_config(small_world, tmp_path, "truth", made[train], *how))
    scores = scored(run, test, made[test])
    assert scores.per_time_map is not None
    assert scores.per_time_map > 0.85
    with pytest.raises(ConfigError, match="3 crops of a view: features cover the whole picture"):
        scored(run, test, made[test], "crops", crops=3)


def test_videos_without_features_are_counted_and_named_and_left_out(small_world: SmallWorld, tmp_path: Path) -> None:
    two = truth_features(small_world, small_world.train_index, tmp_path / "two", refused=(4, 7))
    ids = load_index(small_world.train_index, ["video_id"]).table["video_id"].to_pylist()
    with pytest.raises(ConfigError, match=rf"2 of 18 videos have no features .*{ids[4]} \(corrupt\).*max_bad_share"):
        prepare(head_config(small_world, tmp_path, "head", two))
    config = head_config(small_world, tmp_path, "head", two, "max_bad_share=0.2", "epochs=2")
    assert any(f"2 of 18 videos have no features at {two}: {ids[4]} (corrupt)" in line for line in prepare(config).said)
    run = trained(config)
    rows = read_excluded(run, 2).to_pylist()
    assert {(row["video_row"], row["kind"]) for row in rows} == {(4, "no_features"), (7, "no_features")}
    assert rows[0]["message"].endswith("corrupt: no frame")
    assert audit(run).clips_undecodable == 6
    (again, *_) = retry(run, config, read_quarantine(run, config).to_pylist())
    assert "the run reads features" in (again.error or "")


def test_features_that_will_not_do_are_refused_before_training(
    small_world: SmallWorld, pixels: Run, features: str, tmp_path: Path
) -> None:
    maps = extracted(pixels, small_world.test_index, tmp_path / "maps", "maps")
    partial = Path(shutil.copytree(features, tmp_path / "partial"))
    (partial / "features.json").unlink()
    for url, error, why in (
        (str(tmp_path / "nothing"), InputError, "there are no features at"),
        (str(partial), InputError, "not complete"),
        (maps, ConfigError, f"are not of the index {small_world.train_index}, but of {small_world.test_index}"),
    ):
        with pytest.raises(error, match=why):
            prepare(head_config(small_world, tmp_path, "head", url))
    of_test = head_config(small_world, tmp_path, "maps", maps, f"index={small_world.test_index}")
    with pytest.raises(ConfigError, match="are maps; training takes one vector a step"):
        prepare(of_test)
    for wrong in ("input.motion=difference", "input.fade_background=0.5", "augment.flip_probability=0.5"):
        with pytest.raises(ConfigError, match=f"{wrong.split('.')[0]}.*about pixels"):
            head_config(small_world, tmp_path, "head", features, wrong)
    with pytest.raises(ConfigError, match="backbone=temporal_head is trained on features"):
        small_world.run_config(tmp_path, "head", "backbone=temporal_head")
    with pytest.raises(ConfigError, match="must be at least 2"):
        small_world.run_config(tmp_path, "head", "clip.size_pixels=1")


def test_a_run_goes_on_with_its_own_features_only(
    small_world: SmallWorld, features: str, undisturbed: Run, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(undisturbed.url, tmp_path / "head"))
    others = Path(shutil.copytree(features, tmp_path / "others"))
    facts = json.loads((others / "features.json").read_text())
    (others / "features.json").write_text(json.dumps(facts | {"weights_sha256": "other"}))
    with pytest.raises(ConfigError, match=r"begun with other settings \(features.weights_sha256"):
        prepare(head_config(small_world, copy.parent, "head", str(others)))


def test_a_test_needs_features_made_in_the_same_way(
    small_world: SmallWorld, pixels: Run, features: str, undisturbed: Run, tmp_path: Path
) -> None:
    index = small_world.test_index
    with pytest.raises(ConfigError, match=f"needs those of {index}.*--stride-seconds 0.4"):
        scored(undisturbed, index, None)
    with pytest.raises(ConfigError, match="are not of the index"):
        scored(undisturbed, index, features)
    with pytest.raises(ConfigError, match=r"made differently from .*stride_seconds: 0.4 -> 0.8"):
        scored(undisturbed, index, extracted(pixels, index, tmp_path / "stride", stride=0.8))
    own = extracted(pixels, index, tmp_path / "own")
    assert scored(undisturbed, index, own).videos == 6
    with pytest.raises(ConfigError, match="was trained on pixels: leave --features out"):
        scored(pixels, index, own)
    for make in (lambda: weights_of(load_config(undisturbed.url)), lambda: export_model(undisturbed.url, "x", "torch")):
        with pytest.raises(ConfigError, match="is a head on the features"):
            make()


def test_the_head_sees_each_clip_alone_and_takes_the_width_of_its_weights() -> None:
    model = build("temporal_head", 5).eval()
    x = torch.randn(3, 512, 6, 1, 1, generator=torch.Generator().manual_seed(0))
    assert model.forward_features(x).shape[:2] == (3, 6)  # type: ignore[operator]
    torch.testing.assert_close(model(x[2:]), model(x)[2:], atol=1e-6, rtol=1e-5)
    assert (model(x.flip(2)) - model(x)).abs().max() > 1e-4, "it knows the order of steps"
    narrow = build("temporal_head", 5)
    narrow.take_form({"norm.weight": torch.Size([32])})  # type: ignore[operator]
    model.load_state_dict(narrow.state_dict())
    assert model(x[:, :32]).shape == (3, 5)


def test_features_that_change_while_they_are_read_are_refused(features: str, tmp_path: Path, undisturbed: Run) -> None:
    copy = Path(shutil.copytree(features, tmp_path / "features"))
    config = load_config(undisturbed.url).model_copy(update={"features": str(copy)})
    plan = read_plan(undisturbed.epoch_url(0, "plan"))
    assert plan is not None
    shape = clip_shape(config)
    (copy / "features.json").write_text((copy / "features.json").read_text() + " ")
    with pytest.raises(InputError, match="have changed while they were in use"):
        next(stream(plan.slices(), shape, 4))


def test_a_set_of_features_is_of_no_use_without_videos(small_world: SmallWorld, tmp_path: Path) -> None:
    rows = range(load_index(small_world.test_index).table.num_rows)
    none = truth_features(small_world, small_world.test_index, tmp_path / "none", refused=rows)
    assert isinstance(open_features(none), FeatureSet)
    with pytest.raises(InputError, match="hold no video at all"):
        prepare(head_config(small_world, tmp_path, "head", none, f"index={small_world.test_index}"))
