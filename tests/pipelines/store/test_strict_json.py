"""JSON files that are damaged, or are not what this program wrote in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.features.layouts.given import read_facts
from adaptfocus.pipelines.features.store import open_features
from adaptfocus.pipelines.index.load import open_index
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.evaluation.saved import read_scores
from adaptfocus.trainers.runs.open import load_config

DAMAGED = {
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "digits": b'{"schema_version": 1%s}' % (b"0" * 5000),
    "cut off": b'{"schema_version": 9,',
    "list": b"[]",
    "latin": b'{"a": "\xe9"}',
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "page": b"<!DOCTYPE html><html>",
}
READERS: dict[str, Callable[[str], object]] = {
    "snapshots/000003.json": open_index,
    "plan.json": read_plan,
    "features.json": open_features,
    "adaptfocus.json": read_facts,
    "config.json": load_config,
    "evaluations/test/scores.json": lambda url: read_scores(url, "test"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_the_message_names_the_file_and_what_is_wrong_with_it(tmp_path: Path, name: str, data: bytes) -> None:
    place = tmp_path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    with pytest.raises(InputError, match=r"is damaged \(.+\); |Git LFS pointer|web page") as raised:
        READERS[name](str(tmp_path))
    assert place.name in str(raised.value)
    assert "set_int_max_str_digits" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_numbers_and_text_are_read_as_they_are() -> None:
    assert strict_json.loads('{"a": [1, -2, 1.5, 1e3], "b": "é"}') == {"a": [1, -2, 1.5, 1000.0], "b": "é"}
