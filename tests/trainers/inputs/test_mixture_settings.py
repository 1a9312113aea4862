"""What may be written about further indexes of a run: texts as everywhere, and messages that say what is wrong."""

from __future__ import annotations

import json

import pytest
import yaml

from adaptfocus.infra.running.run import shown_as
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.setting_values import read_yaml
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.settings.run import TrainConfig

VALUES = {"name": "x", "runs": "/runs", "index": "s3://bucket/a", "plan": {"bags_per_epoch": 128}}


def made(*more: str) -> TrainConfig:
    return make(TrainConfig, VALUES, more)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[{index: /b, weight: [1e308]}]", "1e\\+308 is out of range: a weight is 0, or from 1e-06 to 1e\\+06"),
        ("[{index: /b, weight: [1, 1e-9]}]", "1e-09 is out of range"),
        ("[{index: /b, weight: 3}]", r"mixture\.more\.0\.weight = '3': it must be written as \[0\.5, 1\]"),
        ("[{index: s3://bucket/a/}]", "s3://bucket/a is given twice"),
        ("[{index: /b, labels: {a: ''}}]", "maps 'a' to '', and a label cannot be empty"),
        ("[{index: /b, labels: {a: b, 'a ': c}}]", "maps 'a' to both 'b' and 'c'"),
        ("[{index: /b, wieght: [1]}]", r"no setting 'mixture\.more\.0\.wieght'; did you mean 'weight'\?"),
        ("[{index: /b, x: 1}]", r"a group of mixture\.more has index, weight, fps, crop_fraction, labels"),
        ("[{weight: [1]}]", r"'mixture\.more\.0\.index' is required$"),
        ("{index: /b}", r"it must be written as \[\{KEY: VALUE\}\]"),
    ],
)
def test_a_wrong_value_is_refused_with_what_may_be_written(written: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(f"mixture.more={written}")


def test_a_name_is_one_however_its_accent_and_spaces_are_written() -> None:
    """Indexes have names in their normal form: another one would be a class of its own."""
    (found,) = made('mixture.more=[{index: /b, labels: {"cafe\\u0301": " pour  cafe\\u0301"}}]').mixture.more
    assert found.labels == {"caf\u00e9": "pour caf\u00e9"}


def test_what_a_report_shows_of_the_settings_can_be_given_again() -> None:
    """Nothing is written as null there, and read from YAML as text."""
    config = made("mixture.more=[{index: /b, fps: 10}, {index: /c, crop_fraction: 0.5, weight: [1, 2]}]")
    shown = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    assert make(TrainConfig, read_yaml(shown, "it")) == config
    assert make(TrainConfig, json.loads(json.dumps(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize(
    "written",
    [
        "[{index: https://user:s3cret@host/x}]",
        "[{index: 'https://host/x?X-Amz-Signature=s3cret'}]",
        "[{index: [https://user:s3cret@host/x]}]",
        "[{indx: https://user:s3cret@host/x}]",
        "[https://user:s3cret@host/x]",
        "{index: https://user:s3cret@host/x}",
    ],
)
def test_no_message_repeats_a_secret(written: str) -> None:
    with pytest.raises(AdaptFocusError) as found:
        made(f"mixture.more={written}")
    assert "s3cret" not in str(found.value)


def test_how_videos_are_shown_after_training_is_told_only_if_indexes_differ() -> None:
    """An evaluation knows one frame rate and one crop: it must not pass for another index's in silence."""
    assert shown_as(made("mixture.more=[{index: /b, crop_fraction: 1}]")) is None
    said = shown_as(made("clip.fps=4", "mixture.more=[{index: /b, fps: 10}]"))
    assert said
    assert "as those of s3://bucket/a were in training: at 4 frames a second, with crop_fraction 1." in said
    assert shown_as(made("mixture.more=[{index: /b, crop_fraction: 0.5}]"))


def test_a_weight_of_a_run_on_one_index_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mixture\.weight has no effect without mixture\.more"):
        made("mixture.weight=[2]")
