"""The type of a setting decides what its text means, in the same way on the command line and in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.infra.running.settings import settings_from
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.setting_values import read_yaml
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.settings.run import TrainConfig

BASE = {"name": "a", "runs": "/runs", "index": "/index"}


def value(written: str) -> Any:
    found: Any = make(TrainConfig, BASE, [written])
    for part in written.partition("=")[0].split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("name=2026-11-23", "2026-11-23"),
        ("name=1e3", "1e3"),
        ("name=null", "null"),
        ("name=true", "true"),
        ("name=no", "no"),
        ("name=08", "08"),
        ("name=1_000", "1_000"),
        ("name='7'", "7"),
        ("index=12:30:45", str(Path.cwd() / "12:30:45")),  # places are made absolute
        ("weights=007", str(Path.cwd() / "007")),
        ("weights=null", None),
        ("focus.regime=full", "full"),
        ("seed=010", 10),
        ("seed=08", 8),
        ("seed=+3", 3),
        ("clip.fps=none", None),
        ("clip.fps=", None),
        ("clip.fps=4", 4.0),
        ("optim.learning_rate=1e-3", 0.001),
        ("optim.learning_rate=.5", 0.5),
        ("step.compile=true", True),
        ("step.compile=False", False),
        ("augment.crop_area=[0.5, 1]", (0.5, 1.0)),
        ("placement.worker_resources={train: 010}", {"train": 10.0}),
        ("placement.decode_labels={zone: 01, yes: no}", {"zone": "01", "yes": "no"}),
    ],
)
def test_text_where_text_is_wanted_and_numbers_in_decimals(written: str, wanted: Any) -> None:
    found = value(written)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("seed=1_000", "seed = '1_000': it must be a whole number in decimals"),
        ("seed=0x10", "whole number in decimals"),
        ("seed=0o10", "whole number in decimals"),
        ("seed=1:30", "whole number in decimals"),
        ("seed=2026-11-23", "whole number in decimals"),
        ("seed=true", "whole number in decimals"),
        ("seed=1e3", "whole number in decimals"),
        ("seed=", "whole number in decimals"),
        ("optim.learning_rate=1:30", "must be a number in decimals"),
        ("optim.learning_rate=1_0.5", "must be a number in decimals"),
        ("optim.learning_rate=nan", "must be a number in decimals"),
        ("optim.learning_rate=inf", "must be a number in decimals"),
        ("optim.learning_rate=1e999", "must be a finite number"),
        ("step.compile=yes", "step.compile = 'yes': it must be true or false"),
        ("step.compile=off", "must be true or false"),
        ("step.compile=1", "must be true or false"),
        ("augment.crop_area=0.5", r"written as \[0.5, 1\]"),
        ("augment.crop_area=[0.5]", "augment.crop_area has 1 values; it must have 2"),
        ("placement.worker_resources={train: 1_0}", "placement.worker_resources.train = '1_0': it must be a number"),
        ("placement.worker_resources={train: 1, train: 2}", "'train' is given twice"),
        ("placement.worker_resources={train", "is not YAML"),
        ("runs=", "runs = '': it is empty"),
        ("name=w/x", "a name begins with a letter"),
        ("plan=3", "'plan' is a group of settings; give one of plan.clips_per_bag"),
    ],
)
def test_what_could_mean_something_else_is_refused_in_our_words(written: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        value(written)
    said = str(caught.value)
    assert "\n" not in said
    assert "Input should" not in said
    assert "match pattern" not in said


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("optim.lr=1", "optim.learning_rate"),
        ("lr=1", "optim.learning_rate"),
        ("batch_size=8", "plan.bags_per_batch"),
        ("train.batch-size=8", "plan.bags_per_batch"),
        ("num_epochs=3", "epochs"),
        ("max_epochs=3", "epochs"),
        ("workers=3", "placement.workers"),
        ("gpus=1", "placement.gpus_per_worker"),
        ("model=x3d_s", "backbone"),
    ],
)
def test_names_of_other_projects_are_led_to_ours(typed: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{wanted}'"):
        value(typed)


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_a_whole_number_is_what_its_digits_say(number: int, zeros: int) -> None:
    assert value(f"seed={'0' * zeros}{number}") == number


def test_a_file_says_what_a_command_line_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: 2026-11-23\nruns: /r\nindex: 08\nseed: 010\nclip:\n  fps: null\noptim: {learning_rate: 1e-2}\n"
    )
    made = settings_from("small", None, str(file))
    assert (made.name, made.index, made.seed, made.clip.fps, made.optim.learning_rate) == (
        "2026-11-23", str(Path.cwd() / "08"), 10, None, 0.01
    )  # fmt: skip
    file.write_text("seed: 0x10\n")
    with pytest.raises(ConfigError, match="seed = '0x10': it must be a whole number"):
        settings_from("small", ["name=a", "runs=/r", "index=/i"], str(file))


def test_saved_settings_are_read_back_as_they_were(tmp_path: Path) -> None:
    """What `submit` writes and a node reads: texts that look like numbers, dates or nothing among them."""
    before = make(TrainConfig, BASE | {"name": "08", "runs": "null", "index": "2026-11-23"}, ["clip.fps=none"])
    file = tmp_path / "saved.yaml"
    file.write_text(yaml.safe_dump(before.model_dump(mode="json")))
    assert settings_from("small", None, str(file)) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a: b\n", "f.yaml, line 1, column 8 is not YAML: .*put a value with any of"),
        ("a:\n\t- b\n", "f.yaml, line 2, column 1 is not YAML"),
        ("seed: 1\nseed: 2\n", "f.yaml, line 2, column 1 is not YAML: 'seed' is given twice"),
        ("index: @here\n", "line 1, column 8"),
        ("[" * 5000, "f.yaml is nested too deeply"),
        ("{a: " * 3000 + "}" * 3000, "f.yaml is nested too deeply"),
        (b"name: \xff\xfe\n", "f.yaml is not YAML: .*UTF-8"),
    ],
)
def test_a_broken_file_is_one_line_with_the_place(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)
