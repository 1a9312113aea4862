"""What is refused before a run begins, and the settings that allow it to begin."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError, InputError
from adaptfocus.pipelines.index.load import open_index
from adaptfocus.trainers.backbones import build, load_pretrained
from adaptfocus.trainers.backbones.small3d import HEAD_BIAS
from adaptfocus.trainers.evaluation.scoring import check_scorable
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.loop.test_training import trained, weights
from tests.worlds import SmallWorld, change_rows

X3D = ("backbone=x3d_s", "clip.frames=4", "clip.size_pixels=32")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f3\nsize 9\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


def without_labels(world: SmallWorld, folder: Path, with_classes: bool) -> str:
    copy = folder / "index"
    shutil.copytree(world.train_index, copy)
    change_rows(copy, lambda row: row | {"labels": [], "intervals": None}, None if with_classes else [])
    return str(copy)


def test_batch_norms_need_the_statistics_of_weights_or_a_word(small_world: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backbone=x3d_s has \d+ batch norms.*X3D_S.pyth.*from_scratch=true"):
        prepare(small_world.run_config(tmp_path, "a", *X3D))
    assert not (tmp_path / "a" / "config.json").exists()
    asked = small_world.run_config(tmp_path, "a", *X3D, "from_scratch=true")
    prepare(asked)
    url = str(tmp_path / "w.pt")
    torch.save({"backbone": "x3d_s", "state_dict": build("x3d_s", 2).state_dict()}, url)
    prepare(small_world.run_config(tmp_path, "b", *X3D, f"weights={url}"))
    prepare(small_world.run_config(tmp_path, "c"))  # small3d has none
    plain = small_world.run_config(tmp_path, "a", *X3D)
    assert asked.what_is_trained() == plain.what_is_trained(), "older runs of the same settings can be resumed"


def test_a_frozen_backbone_keeps_the_weights_that_it_began_with(small_world: SmallWorld, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="freeze_backbone=true without weights would train a head on random features"):
        small_world.run_config(tmp_path, "a", "freeze_backbone=true")
    with pytest.raises(ConfigError, match="did you mean 'freeze_backbone'"):
        small_world.run_config(tmp_path, "a", "frozen=true")
    start = build("small3d", 2).state_dict()
    torch.save({"backbone": "small3d", "state_dict": start}, tmp_path / "w.pt")
    given = (f"weights={tmp_path / 'w.pt'}", "epochs=1")
    run = trained(small_world.run_config(tmp_path, "a", *given, "freeze_backbone=true"))
    state = weights(run)
    assert all(torch.equal(state[key], value) for key, value in start.items() if key.startswith("body."))
    assert not torch.equal(state["head.bias"], torch.full_like(state["head.bias"], HEAD_BIAS)), "the head is trained"
    with pytest.raises(ConfigError, match="freeze_backbone: True -> False"):
        prepare(small_world.run_config(tmp_path, "a", *given))


@pytest.mark.parametrize("scheme", ["memory", "gs", "abfs"])
def test_a_run_needs_a_store_with_exclusive_creation(small_world: SmallWorld, tmp_path: Path, scheme: str) -> None:
    """Elsewhere two processes may each write the same entry of the log, and the later would replace the first."""
    config = small_world.run_config(tmp_path, "a", f"runs={scheme}://bucket/runs")
    with pytest.raises(ConfigError, match=rf"{scheme}:// is not known to do that. Put runs on s3:// or on a disk"):
        prepare(config)


def test_an_index_without_classes_is_refused_in_words(small_world: SmallWorld, tmp_path: Path) -> None:
    index = without_labels(small_world, tmp_path, with_classes=False)
    with pytest.raises(ConfigError, match="18 videos and no classes, because none of them has a label") as caught:
        prepare(small_world.run_config(tmp_path, "a", f"index={index}"))
    assert "num_classes" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "what"), [(LFS, "is a Git LFS pointer.*git lfs pull"), (PAGE, r"is a web page \(HTML\)")]
)
@pytest.mark.parametrize("name", ["w.pt", "w.pkl", "w.safetensors"])
def test_what_stands_in_the_place_of_weights_is_named(tmp_path: Path, data: bytes, what: str, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AdaptFocusError, match=f"{name} {what}"):
        load_pretrained(build("small3d", 2), str(tmp_path / name))


def test_what_is_no_weights_file_is_said_without_torchs_advice_to_read_it_unsafely(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,labels\na.mp4,run\n")
    with pytest.raises(AdaptFocusError, match=r"list.csv is not a weights file .*not written by torch.save") as caught:
        load_pretrained(build("small3d", 2), str(tmp_path / "list.csv"))
    assert "weights_only" not in str(caught.value)
    torch.save({"state_dict": {}, "config": Path("x")}, tmp_path / "w.pt")
    with pytest.raises(AdaptFocusError, match=r"it asks for pathlib\S*Path, and only tensors") as caught:
        load_pretrained(build("small3d", 2), str(tmp_path / "w.pt"))
    assert "weights_only" not in str(caught.value)


def test_what_cannot_be_scored_is_said_before_anything_is_decoded(small_world: SmallWorld, tmp_path: Path) -> None:
    config: TrainConfig = small_world.run_config(tmp_path, "a")
    index = open_index(small_world.test_index)
    check_scorable(config, index.classes, index, "TEST")
    with pytest.raises(InputError, match="TEST cannot be scored: it has no class of the run"):
        check_scorable(config, ["another"], index, "TEST")
    with pytest.raises(InputError, match="TEST cannot be scored: it has classes the run was not trained on"):
        check_scorable(config, index.classes[:1], index, "TEST")
    theirs = index.classes[0]
    more = f"mixture.more=[{{index: {small_world.test_index}, labels: {{{theirs}: ours}}}}]"
    mixed = small_world.run_config(tmp_path, "b", "plan.bags_per_epoch=4", more)
    with pytest.raises(
        InputError,
        match=rf"{mixed.index} and {small_world.test_index} .*\. The run calls '{theirs}' 'ours': give it that name",
    ):
        check_scorable(mixed, [*index.classes[1:], "ours"], index, "TEST")
    bare = open_index(without_labels(small_world, tmp_path, with_classes=True))
    with pytest.raises(InputError, match=r"none of its 18 videos has a label.*index --labels"):
        check_scorable(config, index.classes, bare, "TEST")
