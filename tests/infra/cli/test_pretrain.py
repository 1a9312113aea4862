"""`adaptfocus pretrain` makes a file for `weights=`, with either task; the same command repeats or resumes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaptfocus.trainers.inputs.time_order import ORDERS
from tests.worlds import SmallWorld

QUICK = ("--backbone", "small3d", "--epochs", 1, "plan.bags_per_batch=6", "plan.clips_per_bag=1")


@pytest.mark.parametrize("task", ["order", "labels"])
def test_a_start_is_made_and_trained_on(type_, small_world: SmallWorld, tmp_path: Path, task: str) -> None:
    start, again = tmp_path / "starts" / "a.pt", tmp_path / "again" / "a.pt"
    words = ("--task", task, *QUICK, "--seed", 5)
    code, out, err = type_("pretrain", small_world.train_index, "--out", start, *words)
    assert (code, "trained" in err) == (0, True)
    assert f"weights={start} backbone=small3d input.motion=zero_mean_kernels" in out
    made = torch.load(start, weights_only=True)
    assert made["classes"] == list(ORDERS if task == "order" else small_world.config.classes)
    start.unlink()
    assert "is finished" in type_("pretrain", small_world.train_index, "--out", start, *words)[2]
    type_("pretrain", small_world.train_index, "--out", again, *words)
    assert all(torch.equal(value, again_) for value, again_ in zip(
        made["state_dict"].values(), torch.load(again, weights_only=True)["state_dict"].values(), strict=True
    ))  # fmt: skip
    assert torch.equal(made["state_dict"]["head.bias"], torch.load(start, weights_only=True)["state_dict"]["head.bias"])
    settings = ("small", "name=a", f"runs={tmp_path}", f"index={small_world.train_index}", f"weights={start}")
    code, _, err = type_("train", *settings, "backbone=small3d", "epochs=1", "plan.clips_per_bag=1")
    assert (code, "trained" in err) == (0, True)


def test_what_cannot_be_a_start_is_said_at_once(type_, small_world: SmallWorld, tmp_path: Path) -> None:
    code, _, err = type_("pretrain", small_world.train_index, "--out", f"{tmp_path}/", *QUICK)
    assert (code, "is a folder; give the name of a file" in err) == (2, True)
    code, _, err = type_("pretrain", tmp_path / "none", "--out", tmp_path / "a.pt", *QUICK)
    assert (code, "none" in err) == (2, True)
    code, _, err = type_("pretrain", small_world.train_index, "--out", tmp_path / "a.pt", *QUICK, "focus.regime=ours")
    assert (code, "task=order needs focus.regime=full, not ours" in err) == (2, True)
    assert not list(tmp_path.glob("a.pt*"))
