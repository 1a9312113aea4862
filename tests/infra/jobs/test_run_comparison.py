"""Runs side by side, from the store."""

from __future__ import annotations

import json

import pytest

from adaptfocus.infra.jobs.run_comparison import compare_runs, sort_runs
from adaptfocus.infra.jobs.run_list import list_runs
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.evaluation.saved import scores_url
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from tests.infra.jobs.test_run_list import entry
from tests.worlds import SmallWorld


@pytest.fixture
def runs(small_world: SmallWorld, s3_url: str) -> str:
    """Three runs that differ in two settings, one of them without a score, and one that cannot be read."""
    url = f"{s3_url}/runs"
    kinds = {
        "low": (["plan.explore_probability=0.25"], 0.5, [(3600, 1), (1800, 2)]),
        "high": (["plan.explore_probability=0.75", "focus.regime=noisy"], 0.75, [(900, 4)]),
        "new": ([], None, []),
    }
    for name, (overrides, score, commits) in kinds.items():
        config = small_world.run_config(url, name, *overrides)
        prepare(config)
        for number, (seconds, workers) in enumerate(commits):
            done = {"epoch": number, "cursor": 4, "num_bags": 4, "clips": 12 * (number + 1)}
            entry(Run(config.url), number, "checkpoint", 60, **done, metrics={"seconds": seconds})
            path = Run(config.url).at("log", f"{number:06d}.json")
            store.write_bytes(path, json.dumps(json.loads(store.read_bytes(path)) | {"workers": workers}).encode())
        if score is not None:
            saved = {"map_max": score, "map_mean": score / 2, "views": 20, "crops": 1, "epoch": 1}
            store.write_bytes(scores_url(config.url, "test"), json.dumps(saved).encode())
    store.write_bytes(f"{url}/broken/config.json", b"{")
    return url


def test_what_differs_what_was_scored_and_what_it_cost(runs: str) -> None:
    found = {run.name: run for run in compare_runs(list_runs(runs))}
    assert set(found) == {"low", "high", "new"}
    assert found["low"].settings == {"focus.regime": "ours", "plan.explore_probability": 0.25}
    assert found["high"].settings == {"focus.regime": "noisy", "plan.explore_probability": 0.75}
    assert found["new"].settings == {"focus.regime": "ours", "plan.explore_probability": 0.5}
    assert (found["low"].worker_hours, found["high"].worker_hours, found["new"].worker_hours) == (2.0, 1.0, None)
    assert (found["low"].map_max, found["low"].map_mean, found["low"].per_time_map) == (0.5, 0.25, None)
    assert (found["low"].clips_trained, found["new"].clips_trained) == (24, 0)


def test_runs_are_sorted_by_a_score_a_cost_or_a_setting(runs: str) -> None:
    found = compare_runs(list_runs(runs))

    def names(by: str) -> list[str]:
        return [run.name for run in sort_runs(found, by)]

    assert names("map_max") == ["high", "low", "new"]
    assert names("worker_hours") == ["high", "low", "new"]
    assert names("plan.explore_probability") == ["low", "new", "high"]
    assert names("name") == ["high", "low", "new"]
    with pytest.raises(ConfigError, match=r"--sort epochs: .* take one of name, state, map_max, .*focus\.regime"):
        sort_runs(found, "epochs")


def test_the_table_and_its_json(type_, runs: str) -> None:
    code, out, _ = type_("runs", runs, "--compare")
    assert (code, "high 75.0 37.5 - noisy 0.75" in out) == (0, True)
    assert "broken/config.json is damaged" in out, "what could not be compared is told"
    code, out, err = type_("runs", runs, "--sort", "worker_hours", "--json")
    assert "broken/config.json is damaged" in err, "so is it beside JSON"
    rows = json.loads(f"[{out.replace('} {', '}, {')}]")
    assert [row["name"] for row in rows] == ["high", "low", "new"]
    assert type_("runs", runs, "--sort", "nothing")[0] == 2
