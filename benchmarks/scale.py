"""Throughput of one training on 1, 2 and 4 nodes, what coordination costs, and a cluster that starts from zero nodes.

    python -m benchmarks.scale [--quick] [--json] [--parts nodes,from_zero]

All nodes are on this machine and share its cores, so throughput only grows with nodes where it does not wait for cores.
`nodes` therefore puts the clips into a store that holds every request for LATENCY_MS. A node brings one rank and two
cores' worth of decoding tasks, which mostly wait, as on a real node whose store is far away or slow. The CPU of a clip,
over all processes of the cluster, shows what coordination adds. The same plans are trained each time, and ranks are
spread over the nodes. Throughput is that of whole epochs after the first, from the run's own log.

`from_zero` starts Ray's head with the node kinds of ray_cluster.yaml, scaled down, in Ray's fake cloud
(benchmarks/faults/fake_cloud.py), and trains: both kinds of node appear, the run ends, and the nodes are removed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/scale.py`

from adaptfocus.infra.running.cluster import OBJECT_STORE_BYTES, connect
from adaptfocus.infra.running.worlds import make_world
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.worlds.config import world_of
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.faults.fake_cloud import ROOT, from_zero
from benchmarks.faults.s3_latency import FarStore
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.reading.process_cost import ProcessCost
from tests.s3_server import ExclusiveS3

NODES = (1, 2, 4)
LATENCY_MS = 400
EPOCHS = 4
PARTS = ("nodes", "from_zero")
# CPUs: a rank and two cores of decoding for each node, and two CPUs of the cluster that regrouping reserves.
CPUS_OF_NODE = 5


def main(
    repeats: Annotated[int, typer.Option(help="Repetitions of each number of nodes.")] = 3,
    parts: Annotated[str, typer.Option(help="Which measurements, with commas between.")] = ",".join(PARTS),
    quick: Annotated[bool, typer.Option(help="One repetition.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
) -> None:
    """Measure scale on one machine."""
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # for Ray's workers
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
        for part in parts.split(","):
            if part == "nodes":
                found += nodes(Path(folder), 1 if quick else repeats)
            else:
                found += from_zero(Path(folder))
    figures.show(found, as_json, "Scale on one machine")


def nodes(folder: Path, repeats: int) -> list[Figure]:
    """Clips per second and CPU per clip, by the number of nodes."""
    rates: dict[int, list[float]] = {n: [] for n in NODES}
    cpu: dict[int, list[float]] = {n: [] for n in NODES}
    with ExclusiveS3(folder / "s3") as s3, FarStore(s3) as far:
        os.environ.update(far.environment)
        make_world(world_of("demo", num_test_videos=1), far.store.url("world"), os.cpu_count() or 1)
        far.reset(LATENCY_MS)
        for repeat in range(repeats):
            for number in NODES if repeat % 2 == 0 else NODES[::-1]:
                say(f"{number} nodes, {repeat + 1} of {repeats}")
                config = _config(str(folder / f"runs-{repeat}"), number, far.store.url("world/index/train"))
                rate, per_clip = _trained(config, number, frozenset(p for p in (s3.pid, far.pid) if p))
                say(f"  {rate:.1f} clips/s, {1000 * per_clip:.1f} ms CPU a clip")
                rates[number].append(rate)
                cpu[number].append(1000 * per_clip)
    return [
        *(figures.mean(f"scale.nodes_{n}", rates[n], "clips/s") for n in NODES),
        *(figures.ratio_of_medians(f"scale.nodes_{n}_over_1", rates[n], rates[1]) for n in NODES[1:]),
        *(figures.mean(f"scale.nodes_{n}_cpu_ms", cpu[n], "ms CPU a clip") for n in NODES),
    ]


def _config(runs: str, nodes: int, index: str) -> TrainConfig:
    return make(
        TrainConfig,
        recipe("demo"),
        [
            f"name=nodes-{nodes}", f"runs={runs}", f"index={index}", f"epochs={EPOCHS}", "plan.bags_per_batch=16",
            "checkpoint.every_batches=1000", f"placement.workers={nodes}", f"placement.decode_workers={2 * nodes}",
        ],
    )  # fmt: skip


def _trained(config: TrainConfig, number: int, without: frozenset[int]) -> tuple[float, float]:
    """Train on a cluster of so many nodes -> (clips/s of the epochs after the first, CPU seconds per clip in all)."""
    from ray.cluster_utils import Cluster
    from ray.train import ScalingConfig

    from adaptfocus.trainers.on_ray import train

    # By default Ray Train puts as many ranks on one node as fit.
    train.ScalingConfig = partial(ScalingConfig, placement_strategy="SPREAD")  # type: ignore[misc]
    prepare(config)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES})
    try:
        for _ in range(number):
            cluster.add_node(num_cpus=CPUS_OF_NODE, object_store_memory=OBJECT_STORE_BYTES)
        with connect(cluster.address, cpus=0), ProcessCost(without) as cost:
            train.fit(config)
    finally:
        cluster.shutdown()
        time.sleep(2)  # its processes end
    run = Run(config.url)
    found = audit(run)
    if (found.epochs, found.clips_lost, found.clips_twice) != (config.epochs, 0, 0):
        raise RuntimeError(f"{config.url}: {found}")
    metrics = [entry.metrics for entry in run.entries() if entry.kind == "checkpoint"]
    rate = sum(m["clips"] for m in metrics[1:]) / sum(m["seconds"] for m in metrics[1:])
    return rate, cost.cpu_seconds / sum(m["clips"] for m in metrics)


if __name__ == "__main__":
    typer.run(main)
