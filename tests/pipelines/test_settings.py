"""A mistake in the key or the value of a setting gives one message that says what to write instead."""

from __future__ import annotations

import pytest

from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.settings import known_keys, make
from adaptfocus.trainers.settings.recipes import RECIPES, recipe
from adaptfocus.trainers.settings.run import TrainConfig

BASE = {"name": "a", "runs": "/runs", "index": "/index"}


def config(*overrides: str, **values: object) -> TrainConfig:
    return make(TrainConfig, BASE | values, overrides)


def test_overrides_are_dotted_and_typed() -> None:
    made = config("focus.delta=0.2", "clip.fps=", "focus.clip_focusing=false", "epochs=7", "weights=s3://b/w.pt")
    assert (made.focus.delta, made.clip.fps, made.focus.clip_focusing, made.epochs) == (0.2, None, False, 7)
    assert made.weights == "s3://b/w.pt"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("focus.detla=0.2", r"there is no setting 'focus.detla'; did you mean 'focus.delta'\?"),
        ("learning_rate=1", r"did you mean 'optim.learning_rate'\?"),
        ("zzz=1", "known keys: name, runs, index"),
        ("focus.delta", "'focus.delta' is not an override; write key=value"),
        ("focus.delta=wide", "focus.delta = 'wide': it must be a number in decimals"),
        ("focus.delta=7", "focus.delta = 7.0: it must be at most 1"),
        ("focus.regime=best", "focus.regime = 'best': it must be 'full', 'noisy' or 'ours'"),
        ("placement.workers=3", r"cannot be split over placement.workers = 3; use one of \[1, 2, 4, 8\] workers"),
        ("name=../../etc", "name = '../../etc'"),
        ("runs=s3://me:secret@bucket/x", "contains credentials; put them into the environment"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_value_and_the_fix(override: str, message: str) -> None:
    with pytest.raises(AdaptFocusError, match=message):
        config(override)


def test_a_secret_in_a_url_is_not_repeated() -> None:
    with pytest.raises(AdaptFocusError) as caught:
        config("index=s3://me:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)


def test_unknown_keys_in_a_file_are_named_too() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'plan.clips_per_bags'; did you mean 'plan.clips_per_bag'"):
        config(plan={"clips_per_bags": 3})


def test_a_missing_key_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="'index' is required; give it as index=VALUE"):
        make(TrainConfig, {"name": "a", "runs": "/r"})


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_makes_a_config_and_says_what_it_costs(name: str) -> None:
    assert make(TrainConfig, recipe(name) | BASE).name == "a"
    doc = RECIPES[name].__doc__ or ""
    assert "Cost:" in doc
    assert "Command:" in doc


@pytest.mark.parametrize("name", ["small", "focused"])
def test_the_input_follows_the_backbone(name: str) -> None:
    """Kernels without a mean over time are for the small backbone; a first kernel of one frame would vanish."""
    assert make(TrainConfig, recipe(name) | BASE).input.motion == "zero_mean_kernels"
    assert make(TrainConfig, recipe(name) | BASE | {"backbone": "slowfast_r50"}).input.motion == "rgb"
    assert make(TrainConfig, recipe(name) | BASE, ["input.motion=difference"]).input.motion == "difference"
    assert make(TrainConfig, recipe("best") | BASE).input.motion == "rgb", "what docs/results.md was measured with"


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'world'"):
        recipe("wrld")


def test_placement_is_no_part_of_what_is_trained() -> None:
    assert config("placement.workers=1").what_is_trained() == config("placement.workers=4").what_is_trained()
    assert config("focus.delta=0.1").what_is_trained() != config("focus.delta=0.2").what_is_trained()
    assert "placement.workers" in known_keys(TrainConfig)
