"""A rank's counters and gauges in Ray's own exporter, which each node serves to Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from adaptfocus.trainers.loop.meter import METRICS, Export


def exporter(run: str, rank: int) -> Export:
    """What passes quantities on under this run's name and this rank. It takes 2 us a value."""
    own = {"run": run, "rank": str(rank)}
    made: dict[str, Counter | Gauge] = {}
    for name, metric in METRICS.items():
        kind = Counter if metric.kind == "counter" else Gauge
        made[name] = kind(name, metric.says, tag_keys=(*own, *metric.labels))

    def export(name: str, value: float, labels: Mapping[str, str]) -> None:
        metric = made[name]
        if isinstance(metric, Gauge):
            metric.set(value, {**own, **labels})
        elif value > 0:  # Ray refuses to add nothing
            metric.inc(value, {**own, **labels})

    return export
