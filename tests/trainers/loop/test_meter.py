"""Counters and gauges: what a real run passes on is what its log says, and the dashboard asks for nothing else."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.errors import RETRY_REASONS
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.meter import METRICS, Meter
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from tests.trainers.loop.test_training import broken_copy
from tests.worlds import SmallWorld

DASHBOARD = Path(__file__).resolve().parents[3] / "infra" / "grafana" / "adaptfocus.json"


class Collected:
    """What a run has passed on: counters added up, gauges as they are now."""

    def __init__(self) -> None:
        self.counters, self.gauges = Counter[tuple[str, str]](), {}

    def __call__(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        metric = METRICS[name]
        assert tuple(labels) == metric.labels
        if metric.kind == "gauge":
            self.gauges[name] = value
        else:
            assert value >= 0, "a counter never falls"
            self.counters[name, "".join(labels.values())] += value  # type: ignore[assignment]


def test_a_run_passes_on_what_its_commits_add_up_to(small_world: SmallWorld, tmp_path: Path) -> None:
    """With two videos that do not decode."""
    config = broken_copy(small_world, tmp_path / "broken", 2).run_config(
        tmp_path / "runs", "told", "epochs=2", "max_bad_share=0.5", "checkpoint.every_batches=2"
    )
    prepare(config)
    engine, found = LocalEngine(config.plan.bags_per_batch), Collected()
    engine.export = found
    train(config, engine)
    commits = [e for e in Run(config.url).entries() if e.kind == "checkpoint"]
    for name, key in (
        *(("clips", "clips"), ("read_bytes", "read_bytes"), ("read_requests", "read_requests")),
        *(("decode_seconds", "decode_seconds"), ("input_wait_seconds", "input_wait_seconds")),
        *(("store_wait_seconds", "wait_seconds"), ("commit_write_seconds", "commit_write_seconds")),
    ):
        told = found.counters[f"adaptfocus_{name}", ""]
        assert told == pytest.approx(sum(e.metrics[key] for e in commits)), name
    assert found.counters["adaptfocus_commits", ""] == len(commits)
    assert found.counters["adaptfocus_clips_lost", ""] == 2 * config.plan.clips_per_bag
    assert found.gauges == {
        "adaptfocus_last_commit_timestamp_seconds": commits[-1].seconds,
        "adaptfocus_loss": commits[-1].metrics["loss"],
        "adaptfocus_bags_trained": commits[-1].bags,
        "adaptfocus_videos_left_out": 2,
    }


def test_retries_are_told_by_their_reason() -> None:
    found, bags = Collected(), 3
    retries = np.zeros((bags, len(RETRY_REASONS)), np.int32)
    retries[1, RETRY_REASONS.index("reset")] = 2
    columns = {name: np.ones(bags) for name in ("read_bytes", "read_requests", "wait_seconds", "decode_seconds")}
    columns |= {"ok": np.ones(bags, bool), "clip_id": np.zeros((bags, 4), np.int64), "read_retries": retries}
    meter = Meter(found)
    for waited, is_first in ((2.0, True), (5.0, False), (7.0, True)):  # the third began a record and waited longer
        meter.add_step(columns, waited, is_first)
    assert found.counters["adaptfocus_read_retries", "reset"] == 6
    assert {reason for name, reason in found.counters if name == "adaptfocus_read_retries"} == {"reset"}
    assert found.counters["adaptfocus_input_wait_seconds", ""] == 12.0


def names_in(dashboard: str) -> set[str]:
    """All quantities that a dashboard asks for, as Prometheus has them."""
    return set(re.findall(r"ray_adaptfocus_\w+", dashboard))


def served_as(name: str) -> str:
    """The name under which Ray serves a quantity."""
    return f"ray_{name}_total" if METRICS[name].kind == "counter" else f"ray_{name}"


def test_the_dashboard_asks_for_every_quantity_and_for_no_other() -> None:
    text = DASHBOARD.read_text()
    assert names_in('"expr": "rate(ray_adaptfocus_x_total{run=\\"a\\"}[1m])"') == {"ray_adaptfocus_x_total"}
    assert names_in(text) == {served_as(name) for name in METRICS}
    labels = {"run", "rank", *(label for metric in METRICS.values() for label in metric.labels)}
    for panel in json.loads(text)["panels"]:
        for target in panel["targets"]:
            by = re.findall(r"by \(([\w, ]+)\)", target["expr"])
            assert {label for each in by for label in each.split(", ")} <= labels, target["expr"]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(by[-1].split(", "))
