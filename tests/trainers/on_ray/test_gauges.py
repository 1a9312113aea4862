"""What Ray serves to Prometheus: every quantity of a run, in text that Prometheus' own client can read."""

from __future__ import annotations

import time
import urllib.request

import pytest

from adaptfocus.trainers.loop.meter import METRICS
from tests.trainers.loop.test_meter import served_as

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray]
SECONDS = 30.0  # to wait for Ray's report


def test_every_quantity_is_served_under_its_name_run_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from adaptfocus.infra.running.cluster import connect

    @ray.remote(num_cpus=0)
    class Rank:
        def tell(self) -> None:
            from adaptfocus.trainers.on_ray.gauges import exporter

            export = exporter("first", 3)
            for _ in range(2):
                for name, metric in METRICS.items():
                    export(name, 2.5, dict.fromkeys(metric.labels, "reset"))
            export("adaptfocus_clips", 0.0, {})  # which Ray refuses to add

    monkeypatch.setenv("RAY_metrics_report_interval_ms", "500")
    with connect(None, cpus=1):
        rank = Rank.remote()
        ray.get(rank.tell.remote())
        (node,) = ray.nodes()
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        wanted, found, deadline = {served_as(name) for name in METRICS}, {}, time.monotonic() + SECONDS
        while found.keys() != wanted and time.monotonic() < deadline:
            time.sleep(0.5)
            with urllib.request.urlopen(url, timeout=5) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
            found = {s.name: s for family in families for s in family.samples if s.name in wanted}
    assert found.keys() == wanted
    for name, metric in METRICS.items():
        sample = found[served_as(name)]
        assert (sample.labels["run"], sample.labels["rank"]) == ("first", "3")
        assert sample.value == (5.0 if metric.kind == "counter" else 2.5)
        assert all(sample.labels[label] == "reset" for label in metric.labels)
