"""Where a run runs. Resources that can never come are reported at once, instead of waited for forever."""

from __future__ import annotations

import pytest
import torch

from adaptfocus.infra.running.placement import amounts, check_this_machine, needed_resources
from adaptfocus.infra.running.run import engine_of
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.settings.parts import PlacementConfig
from tests.worlds import SmallWorld


@pytest.mark.parametrize(
    ("address", "settings", "engine"),
    [
        (None, {}, "local"),
        (None, {"decode_workers": 1}, "local"),
        (None, {"decode_workers": 8}, "ray"),
        (None, {"workers": 2}, "ray"),
        (None, {"gpus_per_worker": 1}, "ray"),
        (None, {"worker_resources": {"train": 1}}, "ray"),
        (None, {"decode_labels": {"a": "b"}}, "ray"),
        ("head:6379", {}, "ray"),
        ("head:6379", {"engine": "local"}, "local"),
        (None, {"engine": "ray"}, "ray"),
    ],
)
def test_the_engine_is_the_one_that_is_needed(address: str | None, settings: dict, engine: str) -> None:
    assert PlacementConfig(**settings).engine_at(address) == engine


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["placement.gpus_per_worker=1"], "the workers need 1 x {CPU: 1, GPU: 1}, and this machine has 0 GPUs"),
        (["placement.worker_resources={train: 1}"], "asks for 'train', which no node of a cluster on this machine"),
        (["placement.decode_labels={role: decode}"], "{'role': 'decode'} is on no node of a cluster on this machine"),
    ],
)
def test_what_this_machine_does_not_have_is_said_before_anything_is_started(
    type_, monkeypatch: pytest.MonkeyPatch, small_world: SmallWorld, tmp_path, words: list[str], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    settings = ["small", "name=a", f"runs={tmp_path}", f"index={small_world.train_index}", "plan.bags_per_batch=4"]
    code, _, err = type_("train", *settings, *words)
    assert (code, message in err) == (2, True), err
    assert not (tmp_path / "a").exists(), "its name is not taken either"


def test_gpus_that_are_there_are_enough_for_the_least_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_this_machine(PlacementConfig(workers=8, min_workers=2, gpus_per_worker=1))
    with pytest.raises(ConfigError, match=r"the workers need 4 to 8 x \{CPU: 1, GPU: 1\}, and this machine has 2 GPUs"):
        check_this_machine(PlacementConfig(workers=8, min_workers=4, gpus_per_worker=1))


def test_what_ray_counts_for_itself_is_not_shown() -> None:
    there = {"GPU": 2.0, "CPU": 8.0, "node:10.0.0.1": 1.0, "memory": 1e9, "CPU_group_0_69fc": 1.0, "train": 1.0}
    assert amounts(there) == "{CPU: 8, GPU: 2, train: 1}"
    assert needed_resources(PlacementConfig(workers=2, gpus_per_worker=0.5)) == "2 x {CPU: 1, GPU: 0.5}"


def test_a_run_of_a_large_cluster_is_looked_at_here(monkeypatch: pytest.MonkeyPatch, small_world: SmallWorld) -> None:
    """`evaluate` and `extract` on a laptop, of a run that was trained on eight GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    words = ("placement.engine=auto", "placement.workers=4", "placement.gpus_per_worker=1")
    config = small_world.run_config("/runs", "a", *words)
    assert [engine_of(config, *where) for where in (("auto", None), ("auto", "head:6379"), ("ray", None))] == [
        "local", "ray", "ray",
    ]  # fmt: skip
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert engine_of(config, "auto", None) == "ray"
